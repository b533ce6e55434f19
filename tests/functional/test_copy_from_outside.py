"""CopyPackageVersions with includeFromUpstream: what only lies outside is fetched, kept, and copied; or it is said why not."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.repos import from_upstream
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import OutsideWorld
from tests.harness import packages
from tests.harness.maven import digest, jar, metadata, pom

DEV = "/domains/default/repositories/dev"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def copy(
    world: OutsideWorld, *versions: str, name: str = "pypi/theirs", status: int = 200, **more: Any
) -> dict[str, Any]:
    body = {"destinationRepository": "prod", "versions": list(versions), "includeFromUpstream": True, **more}
    answer = world.call("POST", f"{DEV}/packages/{name}/versions/copy", json=body)
    assert answer.status_code == status, answer.text
    return answer.json


def codes(result: dict[str, Any]) -> dict[str, str]:
    return {version: failed["errorCode"] for version, failed in result["failedVersions"].items()}


def held(world: OutsideWorld, repository: str, version: str = "1.0", package: str = "pypi/theirs") -> dict[str, str]:
    path = f"/domains/default/repositories/{repository}/packages/{package}/versions/{version}/assets"
    answer = world.call("GET", path)
    return (
        {asset["name"]: asset["hashes"]["SHA-256"] for asset in answer.json["assets"]}
        if answer.status_code == 200
        else {}
    )


def test_all_files_of_a_version_are_fetched_kept_and_copied(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    files = dict([packages.wheel("theirs", "1.0"), packages.sdist("theirs", "1.0"), packages.wheel("theirs", "2.0")])
    upstream.add_project("theirs", files)
    assert codes(copy(world, "1.0", includeFromUpstream=False)) == {"1.0": "NOT_FOUND"}, "the control: not asked to"
    assert held(world, "prod") == {}
    result = copy(world, "1", "3.0")  # in another spelling, and one that is nowhere
    assert result["successfulVersions"].keys() == {"1"}
    assert codes(result) == {"3.0": "NOT_FOUND"}
    wanted = {name: hashlib.sha256(body).hexdigest() for name, body in files.items() if "-1.0" in name}
    # Where it was asked for, where the connection is, and where it was copied to.
    assert [held(world, name) for name in ("dev", "public", "prod")] == [wanted] * 3
    assert held(world, "prod", "2.0") == {}, "what was not named stays outside"
    assert ("admin", "version.promote", "default/prod/pypi/theirs/1.0") in world.audit()
    # Again: nothing is asked of the outside for it, and the answer is the same.
    before = len([each for each in upstream.requests if "-1.0" in each.path])
    assert copy(world, "1.0")["successfulVersions"].keys() == {"1.0"}
    assert len([each for each in upstream.requests if "-1.0" in each.path]) == before > 0


def test_a_version_of_which_a_part_is_kept_is_made_whole_before_it_goes(
    world: OutsideWorld, upstream: FaultyUpstream
) -> None:
    files = dict([packages.wheel("theirs", "1.0"), packages.sdist("theirs", "1.0")])
    upstream.add_project("theirs", files)
    wheel = next(name for name in files if name.endswith(".whl"))
    assert world.get(f"pypi/default/dev/files/theirs/{wheel}").status_code == 200
    assert set(held(world, "dev")) == {wheel}
    copy(world, "1.0")
    assert set(held(world, "prod")) == set(files)


def test_a_name_of_ours_is_not_taken_from_outside(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    upstream.add_project("ours", dict([packages.wheel("ours", "9.0")]))
    world.publish("dev", "ours", "1.0")
    assert codes(copy(world, "9.0", name="pypi/ours")) == {"9.0": "NOT_FOUND"}
    assert held(world, "prod", "9.0", "pypi/ours") == {}


def test_an_outage_copies_nothing_and_says_so(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    upstream.add_project("theirs", dict([packages.wheel("theirs", "1.0")]))
    assert world.versions("theirs") == ["1.0"]
    upstream.refuse()
    said = copy(world, "1.0", status=502)
    assert "cannot be reached" in said["detail"]
    assert [held(world, name) for name in ("dev", "prod")] == [{}, {}]


def test_maven_versions_whose_index_names_no_files_bring_their_pom_and_jar(
    world: OutsideWorld, upstream: FaultyUpstream
) -> None:
    body = {"format": "maven", "name": "outside", "url": f"{upstream.url}/maven/"}
    assert world.call("POST", "/domains/default/repositories/public/connections", json=body).status_code == 201
    at = "/maven/org/acme/tool"
    upstream.serve(f"{at}/maven-metadata.xml", metadata("1.0").encode(), content_type="application/xml")
    for ending, content in (("pom", pom("tool", "1.0").encode()), ("jar", jar())):
        upstream.serve(f"{at}/1.0/tool-1.0.{ending}", content)
        upstream.serve(f"{at}/1.0/tool-1.0.{ending}.sha1", digest(content).encode())
    path = f"{DEV}/packages/maven/tool/versions/copy?namespace=org.acme"
    body = {"destinationRepository": "prod", "versions": ["1.0", "2.0"], "includeFromUpstream": True}
    result = world.call("POST", path, json=body).json
    assert (result["successfulVersions"].keys(), codes(result)) == ({"1.0"}, {"2.0": "NOT_FOUND"})
    answer = world.http.get(
        "/maven/default/prod/org/acme/tool/1.0/tool-1.0.jar",
        headers={"Authorization": f"Bearer {world.tokens['admin']}"},
    )
    assert answer.status_code == 200


def test_the_number_of_files_is_bounded(
    world: OutsideWorld, upstream: FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_upstream, "MOST_FILES", 1)
    upstream.add_project("theirs", dict(packages.wheel("theirs", version) for version in ("1.0", "2.0")))
    result = copy(world, "1.0", "2.0")
    assert (codes(result), result["successfulVersions"].keys()) == ({"2.0": "NOT_ALLOWED"}, {"1.0"})
    assert "name fewer" in result["failedVersions"]["2.0"]["errorMessage"]
