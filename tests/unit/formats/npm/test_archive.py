"""Tarballs: what is read from them, and what is refused."""

import gzip
import io
import json
import tarfile
import tracemalloc
from typing import Any

import pytest

from registry.archives.rules import MIB, Limits
from registry.errors import Invalid, Problem, TooLarge
from registry.format import Release
from registry.formats.npm.archive import inspect
from registry.pages.facts import describe
from tests.harness import npm_packages as packages

FILE = "demo-1.0.0.tgz"


def look(body: bytes, filename: str = FILE, limits: Limits | None = None) -> Release:
    return inspect(filename, io.BytesIO(body), limits or Limits(document_bytes=MIB))


def manifest(body: bytes, filename: str = FILE) -> dict:
    return json.loads(look(body, filename).extra["manifest"])


def test_what_a_tarball_says():
    body = packages.tarball(
        "@acme/demo",
        "1.0.0",
        license="MIT",
        author={"name": "A", "email": "a@example.invalid"},
        keywords=["x", "y"],
        homepage="https://example.invalid/",
        repository={"type": "git", "url": "git+https://example.invalid/r.git"},
        bugs="https://example.invalid/bugs",
        engines={"node": ">=18"},
        dependencies={"ms": "^2.0.0"},
        peerDependencies={"react": "*"},
    )
    release = look(body)
    assert (release.namespace, release.name, release.version) == ("acme", "demo", "1.0.0")
    assert release.display_name == "@acme/demo"
    assert release.summary == "The @acme/demo package"
    assert json.loads(release.extra["dist"]) == {
        "fileCount": 3,
        "unpackedSize": json.loads(release.extra["dist"])["unpackedSize"],
    }
    shown = describe(release.metadata)
    assert release.description.startswith("# @acme/demo")
    assert release.description_type == "text/markdown"
    assert dict(shown.facts) == {
        "Licence": "MIT",
        "Author": "A <a@example.invalid>",
        "Keywords": "x, y",
        "Requires": "node >=18",
    }
    assert dict(shown.links) == {
        "Homepage": "https://example.invalid/",
        "Repository": "https://example.invalid/r",
        "Issues": "https://example.invalid/bugs",
    }
    assert shown.requires == ("ms ^2.0.0", "react * (peer)")


def test_normalised_as_npm_does():
    found = manifest(
        packages.tarball(
            "@acme/demo",
            "1.0.0",
            bin="cli.js",
            bundledDependencies=["a"],
            _secret="x",
            dist={"tarball": "https://evil.invalid"},
            deprecated="never",
            files={"binding.gyp": b"{}", "npm-shrinkwrap.json": b"{}"},
        )
    )
    assert found["bin"] == {"demo": "cli.js"}
    assert found["bundleDependencies"] == ["a"]
    assert found["scripts"] == {"install": "node-gyp rebuild"}
    assert found["_hasShrinkwrap"] is True
    assert not {"_secret", "dist", "deprecated", "bundledDependencies"} & set(found)


@pytest.mark.parametrize("folder", ["./tools", "tools/", "/tools", "x/../tools"])
def test_programs_in_a_folder_are_listed_as_npm_lists_them(folder: str):
    files = {"tools/greet": b"x", "tools/more/wave": b"x", "tools/.hidden": b"x", "tools.js": b"x", "other/x": b"x"}
    listed = manifest(packages.tarball("demo", "1.0.0", files=files, directories={"bin": folder}))
    assert listed["bin"] == {"greet": "tools/greet", "wave": "tools/more/wave"}
    named = manifest(packages.tarball("demo", "1.0.0", files=files, directories={"bin": folder}, bin={"a": "b"}))
    assert named["bin"] == {"a": "b"}


@pytest.mark.parametrize(
    ("said", "listed"), [(True, ["a", "b"]), (["a"], ["a"]), ({"b": "1"}, ["b"]), (False, []), ("a", [])]
)
def test_bundled_dependencies_are_listed_as_a_list(said: Any, listed: list[str]):
    body = packages.tarball("demo", "1.0.0", dependencies={"a": "1", "b": "1"}, bundleDependencies=said)
    assert manifest(body)["bundleDependencies"] == listed


def test_the_top_folder_may_be_called_anything():
    body = packages.tar([("whatever/package.json", packages.package_json("demo", "1.0.0"))])
    assert look(body).name == "demo"


def test_a_byte_order_mark_is_no_part_of_the_document():
    body = packages.tar([("package/package.json", b"\xef\xbb\xbf" + packages.package_json("demo", "1.0.0"))])
    assert look(body).name == "demo"


def linked(kind: bytes, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        raw = packages.package_json("demo", "1.0.0")
        info = tarfile.TarInfo("package/package.json")
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = kind, target
        archive.addfile(link)
    return gzip.compress(buffer.getvalue(), mtime=0)


DOCUMENT = packages.package_json("demo", "1.0.0")


@pytest.mark.parametrize(
    "body",
    [
        packages.tar([]),
        packages.tar([("package/index.js", b"")]),
        packages.tar([("package.json", DOCUMENT)]),
        packages.tar([("package/package.json", DOCUMENT), ("other/x.js", b"")]),
        packages.tar([("package/package.json", DOCUMENT), ("package/package.json", DOCUMENT)]),
        packages.tar([("package/package.json", DOCUMENT), ("package/Package.JSON", DOCUMENT)]),
        packages.tar([("./package/package.json", DOCUMENT)]),
        packages.tar([("package/package.json", DOCUMENT), ("package/../evil", b"")]),
        packages.tar([("package/package.json", DOCUMENT), ("/etc/evil", b"")]),
        packages.tar([("package/package.json", DOCUMENT), ("package/a\\b", b"")]),
        packages.tar([("package/package.json", DOCUMENT), ("package/C:", b""), ("package/C:/x", b"")]),
        packages.tar([("package/package.json", b"[]")]),
        packages.tar([("package/package.json", b"{")]),
        packages.tar([("package/package.json", b'{"name":"demo","name":"evil","version":"1.0.0"}')]),
        packages.tar([("package/package.json", b'{"version":"1.0.0"}')]),
        packages.tar([("package/package.json", b'{"name":"demo"}')]),
        packages.tar([("package/package.json", b'{"name":["demo"],"version":"1.0.0"}')]),
        packages.tar([("package/package.json", b'{"name":"../demo","version":"1.0.0"}')]),
        packages.tar([("package/package.json", b'{"name":"demo","version":"1.0.0/../2"}')]),
        packages.tar([("package/package.json", b'{"name":"demo","version":"1.0.0","a":' + b"[" * 50_000)]),
        linked(tarfile.SYMTYPE, "/etc/passwd"),
        linked(tarfile.LNKTYPE, "package/package.json"),
        linked(tarfile.FIFOTYPE, ""),
        linked(tarfile.CHRTYPE, ""),
        packages.tarball("demo", "1.0.0") + b"x",
        packages.tarball("demo", "1.0.0") * 2,
        gzip.compress(b"x" * 1024, mtime=0),
    ],
)
def test_what_is_refused(body: bytes):
    with pytest.raises(Invalid):
        look(body)


def test_limits():
    small = Limits(
        content_bytes=100_000, members=5, document_bytes=2000, directory_bytes=1000, ratio_floor_bytes=50_000
    )
    for body in (
        packages.tarball("demo", "1.0.0", files={"x": bytes(100_001)}),
        packages.tarball("demo", "1.0.0", files={str(number): b"" for number in range(6)}),
        packages.tarball("demo", "1.0.0", description="x" * 2000),
        packages.tarball("demo", "1.0.0", files={"x" * 90 + "/" + "y" * 900: b""}),
        packages.tarball("demo", "1.0.0", files={"x": bytes(60_000)}),
    ):
        with pytest.raises(TooLarge):
            look(body, limits=small)


def test_a_bomb_costs_little():
    body = packages.tarball("demo", "1.0.0", files={"x": bytes(200 * MIB)})
    tracemalloc.start()
    with pytest.raises(Problem):
        look(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


def test_large_readmes_are_left_out_and_nul_is_stripped():
    body = packages.tarball("demo", "1.0.0", description="a\0b", files={"README.md": b"x" * 600_000})
    release = look(body)
    assert (release.description, release.description_type) == ("", "")
    assert release.summary == "ab"
    second = packages.tarball("demo", "1.0.0", files={"README.md": b"\0\xff# x"})
    assert look(second).description == "\ufffd# x"
