"""What is shown of versions that came from upstreams: read out of the kept archive, once, and sealed like a publish's."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.errors import Invalid
from registry.formats.npm.archive import describe
from registry.models import PackageVersion
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import OutsideWorld
from tests.harness import npm_packages, packages
from tests.harness.maven import digest, pom

Offer = Callable[[FaultyUpstream], str]
"""Gives an upstream one file of version 1.0.0 of "kept", and our path for it."""


def npm(upstream: FaultyUpstream) -> str:
    body = npm_packages.tarball("kept", "1.0.0", license="MIT", dependencies={"ms": "^2.0.0"})
    upstream.add_npm_package("kept", {"1.0.0": body})
    return "npm/default/dev/kept/-/kept-1.0.0.tgz"


def pypi_wheel(upstream: FaultyUpstream) -> str:
    filename, body = packages.wheel("kept", "1.0.0", requires=("ms>=2",))
    upstream.add_project("kept", {filename: body})
    return f"pypi/default/dev/files/kept/{filename}"


def pypi_sdist(upstream: FaultyUpstream) -> str:
    filename, body = packages.sdist("kept", "1.0.0")
    upstream.add_project("kept", {filename: body})
    return f"pypi/default/dev/files/kept/{filename}"


def maven(upstream: FaultyUpstream) -> str:
    path = "org/far/kept/1.0.0/kept-1.0.0.pom"
    body = pom("kept", "1.0.0", group="org.far", more="<description>Words of the author.</description>").encode()
    upstream.serve(f"/m2/{path}", body)
    upstream.serve(f"/m2/{path}.sha1", digest(body).encode())
    return f"maven/default/dev/{path}"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    for format_name, folder in (("pypi", "simple"), ("npm", "npm"), ("maven", "m2")):
        made.connect(upstream, format=format_name, url=f"{upstream.url}/{folder}/")
    yield made
    made.close()


def place(path: str, repository: str = "dev") -> str:
    format_name = path.partition("/")[0]
    namespace = "?namespace=org.far" if format_name == "maven" else ""
    version = "1" if format_name == "pypi" else "1.0.0"
    return f"/domains/default/repositories/{repository}/packages/{format_name}/kept/versions/{version}{namespace}"


@pytest.mark.parametrize(
    ("offer", "text", "fact"),
    [
        (npm, "A package for tests.", ("license", "MIT")),
        (pypi_wheel, "A package for tests.", ("requires_dist", ["ms>=2"])),
        (pypi_sdist, "A package for tests.", ("metadata_version", "2.1")),
        (maven, "Words of the author.", ("packaging", "jar")),
    ],
)
def test_it_is_read_when_somebody_looks_and_kept_sealed(
    world: OutsideWorld, upstream: FaultyUpstream, offer: Offer, text: str, fact: tuple[str, object]
):
    path = offer(upstream)
    assert world.get(path).status_code == 200
    upstream.refuse()
    assert [row.description for row in boxes(world)] == [None, None]  # here and where the connection is
    shown = world.call("GET", place(path)).json
    assert text in shown["description"]
    assert shown["metadata"][fact[0]] == fact[1]
    here = [row for row in boxes(world) if row.description is not None]
    assert len(here) == 1
    assert text.encode() not in here[0].description
    # Read once: what is stored is shown, whatever becomes of the archive.
    remove_bodies(world)
    again = world.call("GET", place(path)).json
    assert (again["description"], again["metadata"]) == (shown["description"], shown["metadata"])
    # The control: where nobody looked while the archive was there, there is nothing to show, and no error.
    elsewhere = world.call("GET", place(path, "public"))
    assert (elsewhere.status_code, elsewhere.json["description"]) == (200, "")


def boxes(world: OutsideWorld) -> list[sa.Row]:
    with world.db.read() as session:
        return list(session.execute(sa.select(PackageVersion.id, PackageVersion.description)))


def remove_bodies(world: OutsideWorld) -> None:
    removed = [path for path in world.settings.blobs_path.rglob("*") if path.is_file()]
    assert removed
    for path in removed:
        path.unlink()


def test_a_promoted_version_has_it_too(world: OutsideWorld, upstream: FaultyUpstream):
    path = npm(upstream)
    world.get(path)
    assert world.call("POST", place(path) + "/promote", json={"target": "staging"}).status_code == 200
    assert "A package for tests." in world.call("GET", place(path, "staging")).json["description"]


def test_lists_show_the_line_that_the_index_gave(world: OutsideWorld, upstream: FaultyUpstream):
    # Half of a character, which no database takes, must not fail an install.
    tarball = npm_packages.tarball("kept", "1.0.0")
    document = npm_packages.packument("kept", {"1.0.0": tarball}, f"{upstream.url}/npm")
    document["versions"]["1.0.0"]["description"] = "Half \ud83d of one"
    upstream.add_npm_package("kept", {"1.0.0": tarball})
    upstream.serve("/npm/kept", json.dumps(document).encode(), content_type="application/json")
    assert world.get("npm/default/dev/kept/-/kept-1.0.0.tgz").status_code == 200
    listed = world.call("GET", "/domains/default/repositories/dev/packages").json["items"]
    assert [package["summary"] for package in listed] == ["Half ? of one"]


def test_what_cannot_be_read_is_shown_without(world: OutsideWorld, upstream: FaultyUpstream):
    upstream.add_npm_package("kept", {"1.0.0": npm_packages.tarball("kept", "1.0.0")})
    broken = npm_packages.tar([("package/README.md", b"x")])
    digests = npm_packages.integrity(broken)
    document = npm_packages.packument("kept", {"1.0.0": npm_packages.tarball("kept", "1.0.0")}, f"{upstream.url}/npm")
    document["versions"]["1.0.0"]["dist"].update(integrity=digests.integrity, shasum=digests.shasum)
    upstream.serve("/npm/kept", json.dumps(document).encode(), content_type="application/json")
    upstream.serve("/npm/kept/-/kept-1.0.0.tgz", broken)
    assert world.get("npm/default/dev/kept/-/kept-1.0.0.tgz").status_code == 200
    for _ in range(2):
        answer = world.call("GET", place("npm/"))
        assert (answer.status_code, answer.json["description"]) == (200, "")


def test_old_tarballs_may_break_rules_behind_what_is_read():
    manifest = npm_packages.package_json("kept", "1.0.0")
    body = npm_packages.tar(
        [("./package/package.json", manifest), ("package/ReadMe.md", b"# Old"), ("/etc/x", b""), ("package/a", b"")]
    )
    said = describe(io.BytesIO(body))
    assert (said.text, said.media_type, said.summary) == ("# Old", "text/markdown", "The kept package")
    without = npm_packages.tar([("package/package.json", manifest), ("package/README.txt", b"plain")])
    cut = describe(io.BytesIO(without[:-12]))
    assert (cut.text, cut.media_type) == ("plain", "text/plain")
    with pytest.raises(Invalid):
        describe(io.BytesIO(npm_packages.tar([("package/sub/package.json", manifest)])))
