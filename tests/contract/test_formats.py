"""What every package format promises (``registry.format.Format``). A further format adds one ``Example`` here."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest

from registry import formats
from registry.errors import Invalid, NotFound, Problem
from registry.format import BadIndex, FileLink, Format, Listing, Release
from registry.formats.generic.pure import render_package
from registry.formats.maven import metadata as maven_metadata
from registry.formats.maven import paths as maven_paths
from registry.formats.maven.inspection import inspect as inspect_artifact
from registry.formats.npm import names as npm_names
from registry.formats.npm import packument
from registry.formats.npm.archive import inspect as inspect_tarball
from registry.formats.pypi import negotiation as pypi_negotiation
from registry.formats.pypi import writing as pypi_writing
from registry.formats.pypi.metadata import inspect as inspect_distribution
from tests.harness import maven, npm_packages, packages


@dataclass(frozen=True)
class Example:
    """What the suite needs to know of a format: one package of it in several shapes."""

    name: str
    spellings: tuple[str, ...]  # all of one package
    no_names: tuple[str, ...]
    version: str
    archives: tuple[tuple[str, bytes], ...]  # of that version
    no_archives: tuple[tuple[str, bytes], ...]
    inspect: Callable[[str, BinaryIO], Release] | None  # None where any bytes are a file
    versions: tuple[str, ...]  # in release order
    render: Callable[[Listing], tuple[bytes, str]]  # our page for it, and its type
    extra: dict[str, Any]  # of a file in an index
    lists_files: bool = True  # False where an index names versions only
    algorithms: tuple[str, ...] = ("sha256",)  # of a file in an index
    says_size: bool = True
    folder: str | None = None  # where files are below the index's address; None: below the package's page


def _pypi_page(listing: Listing) -> tuple[bytes, str]:
    files = [
        pypi_writing.ViewFile(link.filename, link.url, link.hashes, link.size_bytes, link.upload_time, **link.extra)
        for link in listing.files
    ]
    return pypi_writing.render_json(pypi_writing.ProjectView(listing.key.name, files)), pypi_negotiation.JSON_TYPE


def _npm_page(listing: Listing) -> tuple[bytes, str]:
    entries = [
        packument.Entry(link.version, link.filename, link.extra["manifest"], link.extra["dist"], "", link.upload_time)
        for link in listing.files
    ]
    name = npm_names.display_name(listing.key)
    # Where the files are is not the client's to choose: below the page's address.
    page = packument.Packument(name, entries, {"latest": "1.0.0"}, {}, "1-a", None, None)
    return packument.render_full(page, "https://index.invalid/"), packument.FULL_TYPE


_TGZ = npm_packages.tarball("@acme/demo", "1.0.0")
_TGZ_DIGESTS = npm_packages.integrity(_TGZ)


def _generic_page(listing: Listing) -> tuple[bytes, str]:
    files = {listing.files[0].version: list(listing.files)}
    return json.dumps(render_package(files, dict.fromkeys(files, "Published"))).encode(), "application/json"


def _maven_page(listing: Listing) -> tuple[bytes, str]:
    versions = {link.version for link in listing.files}
    return maven_metadata.render_artifact(listing.key, versions, "20260102030405"), "application/xml"


def _inspect_maven(filename: str, body: BinaryIO) -> Release:
    place = maven_paths.parse(f"com/acme/foo-bar/{filename}")
    if not isinstance(place, maven_paths.FilePath):
        raise Invalid("not the path of a file")
    return inspect_artifact(place, body)


_POM = maven.pom("foo-bar", "1.0").encode()
_WHEEL, _SDIST = packages.wheel("Foo.Bar", "1.0.0"), packages.sdist("Foo.Bar", "1.0.0")

EXAMPLES = (
    Example(
        name="pypi",
        spellings=("Foo.Bar", "foo-bar", "foo_bar", "FOO--BAR"),
        no_names=("", "-", "../foo", "foo/bar", "foo\n", "f\u043eo", "a" * 1000, "foo#", "foo%2e", "foo\x00"),
        version="1.0.0",
        archives=(("Foo_Bar-1.0.0-py3-none-any.whl", _WHEEL[1]), ("Foo.Bar-1.0.0.tar.gz", _SDIST[1])),
        no_archives=(
            ("foo_bar-1.0.0-py3-none-any.whl", b""),
            ("foo_bar-1.0.0-py3-none-any.whl", _SDIST[1]),
            ("foo_bar-1.0.0.tar.gz", _WHEEL[1]),
            ("foo_bar-1.0.0.tar.gz", _SDIST[1][:-50]),
            ("foo_bar-2.0.0.tar.gz", _SDIST[1]),
            ("other-1.0.0.tar.gz", _SDIST[1]),
            ("../foo_bar-1.0.0.tar.gz", _SDIST[1]),
            ("foo_bar", _SDIST[1]),
        ),
        inspect=inspect_distribution,
        versions=("0.9", "1.0rc1", "1.0", "1.2", "1.10"),
        render=_pypi_page,
        extra={"requires_python": ">=3.8", "yanked": False, "core_metadata": False, "provenance": None},
    ),
    Example(
        name="npm",
        spellings=("@acme/demo", "acme/demo"),
        no_names=(
            "",
            ".",
            "-",
            "@",
            "@acme",
            "@/demo",
            "@acme/",
            "../foo",
            "a/b/c",
            "@a/b/c",
            "foo\n",
            "f\u043eo",
            "a" * 1000,
            "foo#",
            "foo%2e",
            "foo\x00",
            ".foo",
            "_foo",
            "@acme/.foo",
            "node_modules",
            "foo bar",
        ),
        version="1.0.0",
        archives=(("demo-1.0.0.tgz", _TGZ),),
        no_archives=(
            ("demo-1.0.0.tgz", b""),
            ("demo-1.0.0.tgz", _TGZ[:-20]),
            ("demo-1.0.0.tgz", _WHEEL[1]),
            ("demo-2.0.0.tgz", _TGZ),
            ("other-1.0.0.tgz", _TGZ),
            ("../demo-1.0.0.tgz", _TGZ),
            ("demo-1.0.0.tgz", npm_packages.tarball("@acme/demo", "1.0.0", files={"../evil.js": b"x"})),
            ("demo-1.0.0.tgz", npm_packages.tarball("@acme/demo", "1.0")),
            ("Demo-1.0.0.tgz", npm_packages.tarball("@acme/Demo", "1.0.0")),
        ),
        inspect=inspect_tarball,
        versions=("0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.11", "1.0.0", "1.2.0", "1.10.0"),
        render=_npm_page,
        extra={"manifest": '{"name":"@acme/demo","version":"1.0.0"}', "dist": _TGZ_DIGESTS.dist},
        algorithms=("sha512", "sha1"),
        says_size=False,
        folder="@acme/demo/-/",
    ),
    Example(
        name="maven",
        spellings=("com.acme:foo-bar", "com.acme/foo-bar"),
        no_names=(
            "",
            "-",
            "foo",
            ":foo",
            "foo:",
            "../foo",
            "foo/bar/baz",
            "a..b:foo",
            "foo:bar\n",
            "com:f\u043eo",
            "a:" + "a" * 1000,
            "com:foo#",
            "com:foo%2e",
            "com:foo\x00",
        ),
        version="1.0",
        archives=(("1.0/foo-bar-1.0.pom", _POM), ("1.0/foo-bar-1.0.jar", maven.jar())),
        no_archives=(
            ("1.0/foo-bar-1.0.pom", b""),
            ("1.0/foo-bar-1.0.pom", b"<html/>"),
            ("1.0/foo-bar-1.0.pom", _POM[:-20]),
            ("1.0/foo-bar-1.0.pom", maven.pom("foo-bar", "2.0").encode()),
            ("1.0/foo-bar-1.0.pom", maven.pom("other", "1.0").encode()),
            ("2.0/foo-bar-2.0.pom", _POM),
            ("1.0/other-1.0.jar", maven.jar()),
            ("../1.0/foo-bar-1.0.jar", maven.jar()),
            ("foo-bar-1.0.jar", maven.jar()),
        ),
        inspect=_inspect_maven,
        versions=("0.9", "1.0-rc1", "1.0-SNAPSHOT", "1.0", "1.2", "1.10"),
        render=_maven_page,
        extra={},
        lists_files=False,
    ),
    Example(
        name="generic",
        spellings=("Tool_1.x",),
        no_names=("", "-x", "../foo", "foo/bar", "foo\n", "f\u043eo", "a" * 1000, "foo#", "foo%2e", "foo\x00", "foo."),
        version="2.0-rc1",
        archives=(("2.0-rc1/bin/tool.exe", b"MZ"), ("2.0-rc1/Read me (ü).txt", b"")),
        no_archives=(),
        inspect=None,
        versions=("nightly", "0.9", "1.0-rc1", "1.0", "1.2", "1.10"),
        render=_generic_page,
        extra={},
    ),
)


@pytest.fixture(params=EXAMPLES, ids=[example.name for example in EXAMPLES])
def example(request: pytest.FixtureRequest) -> Example:
    chosen = request.param
    assert isinstance(chosen, Example)
    return chosen


@pytest.fixture
def known(example: Example) -> Format:
    return formats.all_formats()[example.name]


def test_every_format_has_an_example() -> None:
    assert tuple(example.name for example in EXAMPLES) == formats.FORMATS == tuple(formats.all_formats())


def test_it_knows_its_name(known: Format, example: Example) -> None:
    assert known.name == example.name


def test_an_unknown_format_is_not_found() -> None:
    for word in ("", "os", "..", "pypi.routes"):
        with pytest.raises(NotFound):
            formats.load(word)
        with pytest.raises(NotFound):
            formats.blueprint(word, None)


def test_normalising_gives_one_form_and_is_idempotent(known: Format, example: Example) -> None:
    keys = {known.key(spelling) for spelling in example.spellings}
    assert len(keys) == 1
    assert {known.key(key.path) for key in keys} == keys
    assert {known.key(known.display_name(key)) for key in keys} == keys
    assert {key.format for key in keys} == {example.name}


def test_what_is_no_name_is_invalid(known: Format, example: Example) -> None:
    for raw in example.no_names:
        with pytest.raises(Invalid):
            known.key(raw)


def test_an_archive_says_what_its_file_name_says(known: Format, example: Example) -> None:
    if example.inspect is None:
        pytest.skip("any bytes are a file of this format")
    for filename, body in example.archives:
        release = example.inspect(filename, io.BytesIO(body))
        key = known.key(example.spellings[0])
        assert (release.namespace, release.name) == (key.namespace, key.name)
        assert release.version == example.version
        assert known.key(release.display_name) == key
        assert release.filename == filename
        # What goes into database columns must survive them.
        assert json.loads(json.dumps([release.metadata, release.extra])) == [release.metadata, release.extra]
        assert "\\u0000" not in json.dumps([release.metadata, release.extra, release.summary])


def test_what_is_read_of_a_kept_archive_is_what_a_publish_reads(known: Format, example: Example) -> None:
    archives = dict(example.archives)
    describing = known.describing(archives)
    assert set(describing) <= set(archives)
    assert bool(describing) == (example.inspect is not None)
    for filename in describing:
        said = known.describe(filename, io.BytesIO(archives[filename]))
        release = example.inspect(filename, io.BytesIO(archives[filename]))
        assert (said.summary, said.text, said.media_type) == (
            release.summary,
            release.description,
            release.description_type,
        )
        assert said.metadata == release.metadata
        for position in range(0, len(archives[filename]), 31):
            with contextlib.suppress(Problem):
                known.describe(filename, io.BytesIO(archives[filename][:position]))
    assert known.summary({}) == ""


def test_hostile_archives_are_refused_as_problems(example: Example) -> None:
    if example.inspect is None:
        pytest.skip("any bytes are a file of this format")
    for filename, body in example.no_archives:
        with pytest.raises(Problem):
            example.inspect(filename, io.BytesIO(body))


def test_damage_is_never_an_error_of_another_kind(example: Example) -> None:
    if example.inspect is None:
        pytest.skip("any bytes are a file of this format")
    for filename, body in example.archives:
        sound = example.inspect(filename, io.BytesIO(body))
        for position in range(0, len(body), 7):
            damaged = bytearray(body)
            damaged[position] ^= 0xFF
            for broken in (bytes(damaged), body[:position]):
                try:
                    release = example.inspect(filename, io.BytesIO(broken))
                except Problem:
                    continue
                assert (release.name, release.version) == (sound.name, sound.version)


def test_a_rendered_page_reads_back(known: Format, example: Example) -> None:
    key = known.key(example.spellings[0])
    files = tuple(
        FileLink(
            filename=filename,
            version=example.version,
            url=f"https://index.invalid/{known.index_path(key) if example.folder is None else example.folder}{quote(filename)}",
            hashes={algorithm: hashlib.new(algorithm, body).hexdigest() for algorithm in example.algorithms},
            size_bytes=len(body) if example.says_size else None,
            upload_time=datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC),
            extra=example.extra,
        )
        for filename, body in example.archives
    )
    listing = Listing(key, files)
    body, content_type = example.render(listing)
    read = known.parse_index(key, body, content_type, f"https://index.invalid/{known.index_path(key)}")
    assert tuple(read.files) == (files if example.lists_files else ())
    assert example.lists_files or read.extra["versions"] == [example.version]
    assert read.key == key
    final_url = f"https://index.invalid/{known.index_path(key)}"
    for link in read.files:
        assert known.find_link(key, body, content_type, final_url, link.filename) == link
    assert known.find_link(key, body, content_type, final_url, "no-such-file") is None


def test_rubbish_for_an_index_is_a_bad_index(known: Format, example: Example) -> None:
    key = known.key(example.spellings[0])
    for body in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"nothing", b'{"a": 1e999}'):
        with pytest.raises(BadIndex):
            known.parse_index(key, body, "application/json", "https://index.invalid/")
        with pytest.raises(BadIndex):
            known.find_link(key, body, "application/json", "https://index.invalid/", "x")


def test_versions_sort(known: Format, example: Example) -> None:
    backwards = list(reversed(example.versions))
    assert tuple(sorted(backwards, key=known.sort_key)) == example.versions
    assert max(["1.0", "no version", "x" * 10_000], key=known.sort_key) == "1.0"


def test_urls_and_hints(known: Format, example: Example) -> None:
    key = known.key(example.spellings[0])
    assert not known.index_path(key).startswith("/")
    assert key.name in known.index_path(key)
    assert known.index_accept()
    url = "https://registry.invalid/r/"
    hints = known.install_hint(url, key, "1.0; rm -rf /")
    assert hints
    for tool, command in hints:
        assert tool
        assert url in command
        assert "'" in command  # what a shell would act upon is quoted


def test_the_default_upstream_is_never_this_server_itself(known: Format) -> None:
    constant = known.default_upstream_url(lambda _: True)  # whatever is configured: all of it is ours
    assert constant is None or constant.endswith("/")
    asked: list[str] = []
    usual = known.default_upstream_url(lambda url: bool(asked.append(url)))
    assert (usual is None) == (constant is None)
    assert usual == constant or str(usual).rstrip("/") in [url.rstrip("/") for url in asked]


def test_the_pure_half_imports_no_framework(example: Example) -> None:
    code = (
        f"import sys\nfrom registry import formats\nformats.load({example.name!r})\n"
        "print(sorted({'flask', 'sqlalchemy', 'requests', 'urllib3', 'werkzeug'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
