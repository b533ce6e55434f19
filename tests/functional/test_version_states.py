"""States of versions through the management interface: what changes, what is refused and in which words."""

from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import NotFound
from registry.repos import assets, states
from tests.fakes.upstream import FaultyUpstream
from tests.functional.api_world import World
from tests.functional.outside_world import OutsideWorld
from tests.harness import npm_packages
from tests.harness.maven import jar, metadata, pom

DEV = "/domains/default/repositories/dev"
STAGING = "/domains/default/repositories/staging"
PACKAGE = "packages/pypi/my-pkg"
VERSIONS = f"{DEV}/{PACKAGE}/versions"


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    for version in ("1.0", "1.1", "1.2"):
        made.publish("dev", "my-pkg", version, canonical=version)
    yield made
    made.close()


def set_to(world: World, status: str, *versions: str, **more: object) -> dict:
    body = {"versions": list(versions), "targetStatus": status, **more}
    answer = world.call("POST", f"{VERSIONS}/update_status", json=body)
    assert answer.status_code == 200, answer.json
    return answer.json


def act(world: World, what: str, *versions: str, **more: object) -> dict:
    answer = world.call("POST", f"{VERSIONS}/{what}", json={"versions": list(versions), **more})
    assert answer.status_code == 200, answer.json
    return answer.json


def copy(world: World, *versions: str, source: str = DEV, target: str = "staging", **more: object) -> dict:
    body = {"destinationRepository": target, **({"versions": list(versions)} if versions else {}), **more}
    answer = world.call("POST", f"{source}/{PACKAGE}/versions/copy", json=body)
    assert answer.status_code == 200, answer.json
    return answer.json


def shown(world: World, version: str, repository: str = DEV) -> dict:
    return world.call("GET", f"{repository}/{PACKAGE}/versions/{version}").json


def codes(answer: dict) -> dict[str, str]:
    return {version: failed["errorCode"] for version, failed in answer["failedVersions"].items()}


def page(world: World, repository: str = "dev") -> dict:
    headers = {"Accept": "application/vnd.pypi.simple.v1+json", "Authorization": f"Bearer {world.tokens['admin']}"}
    answer = world.http.get(f"/pypi/default/{repository}/simple/my-pkg/", headers=headers)
    return {file["filename"]: file["yanked"] for file in answer.json["files"]} if answer.status_code == 200 else {}


def fetch(world: World, version: str, repository: str = "dev") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}"}
    url = f"/pypi/default/{repository}/files/my-pkg/my_pkg-{version}-py3-none-any.whl"
    answer = world.http.get(url, headers=headers)
    return answer.status_code, answer.get_data(as_text=True)


# --- states ----------------------------------------------------------------------------------------------------------


def test_each_state_shows_in_index_and_download(world: World) -> None:
    wheel = "my_pkg-1.1-py3-none-any.whl"
    assert page(world)[wheel] is False
    revision = shown(world, "1.1")["revision"]
    assert set_to(world, "Unlisted", "1.1")["successfulVersions"] == {
        "1.1": {"revision": revision, "status": "Unlisted"}
    }
    assert (page(world)[wheel], fetch(world, "1.1")[0]) == (states.UNLISTED_REASON, 200)
    set_to(world, "Archived", "1.1")
    assert wheel not in page(world)
    status, said = fetch(world, "1.1")
    assert (status, "1.1 is Archived" in said) == (403, True)
    set_to(world, "Published", "1.1")
    assert (page(world)[wheel], fetch(world, "1.1")[0]) == (False, 200)
    disposed = act(world, "dispose", "1.1")["successfulVersions"]["1.1"]
    assert (disposed["status"], disposed["revision"] != revision) == ("Disposed", True)
    assert (wheel in page(world), fetch(world, "1.1")[0]) == (False, 404)
    kept = shown(world, "1.1")
    assert (kept["status"], kept["assets"]) == ("Disposed", [])
    assert [action for _, action, _ in world.audit()[-4:]] == ["version.status"] * 4


def test_a_yanked_version_keeps_its_own_reason_while_it_is_unlisted(world: World) -> None:
    world.call("POST", f"{VERSIONS}/1.1/yank", json={"reason": "tastes odd"})
    set_to(world, "Unlisted", "1.1")
    assert page(world)["my_pkg-1.1-py3-none-any.whl"] == "tastes odd"


def test_a_state_counts_for_who_looks_through_the_repository_and_a_copy_has_its_own(world: World) -> None:
    copy(world, "1.0")
    set_to(world, "Archived", "1.0")
    assert "my_pkg-1.0-py3-none-any.whl" not in page(world)
    assert fetch(world, "1.0", "staging")[0] == 200
    world.call("POST", "/domains/default/repositories", json={"name": "behind", "upstreams": ["dev", "staging"]})
    # dev is asked first, and says that the version is archived: staging is not asked in its place.
    assert fetch(world, "1.0", "behind")[0] == 403
    assert sorted(page(world, "behind")) == ["my_pkg-1.1-py3-none-any.whl", "my_pkg-1.2-py3-none-any.whl"]


def test_what_is_disposed_of_never_comes_back(world: World) -> None:
    act(world, "dispose", "1.1")
    for status in ("Published", "Unlisted", "Archived"):
        assert codes(set_to(world, status, "1.1")) == {"1.1": "NOT_ALLOWED"}
    with pytest.raises(Exception, match="is Disposed in default/dev"):
        world.publish("dev", "my-pkg", "1.1", canonical="1.1")  # the same bytes
    assert act(world, "dispose", "1.1")["successfulVersions"]["1.1"]["status"] == "Disposed"
    assert codes(copy(world, "1.1")) == {"1.1": "NOT_ALLOWED"}
    assert act(world, "delete", "1.1")["successfulVersions"]["1.1"]["status"] == "Deleted"
    assert world.call("GET", f"{VERSIONS}/1.1").status_code == 404


def test_an_archived_version_takes_no_files(world: World) -> None:
    set_to(world, "Archived", "1.0")
    for suffix in ("-py3-none-any.whl", ".tar.gz"):  # the file that is there, and a new one
        with pytest.raises(Exception, match="is Archived in default/dev"):
            world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=suffix)
    set_to(world, "Unlisted", "1.0")
    world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    assert len(shown(world, "1.0")["assets"]) == 2


def test_a_version_is_changed_only_as_it_was_expected(world: World) -> None:
    revision = shown(world, "1.0")["revision"]
    answer = set_to(
        world, "Archived", "1.0", "1.1", "1.2", "9.9", versionRevisions={"1.0": revision, "1.1": "another"},
        expectedStatus="Published",
    )  # fmt: skip
    assert answer["successfulVersions"].keys() == {"1.0", "1.2"}
    assert codes(answer) == {"1.1": "MISMATCHED_REVISION", "9.9": "NOT_FOUND"}
    assert codes(set_to(world, "Unlisted", "1.0", expectedStatus="Published")) == {"1.0": "MISMATCHED_STATUS"}
    assert shown(world, "1.1")["status"] == "Published"


def test_a_revision_is_of_files_and_metadata_and_not_of_the_state(world: World) -> None:
    def revision() -> str:
        return str(shown(world, "1.0")["revision"])

    first = revision()
    set_to(world, "Unlisted", "1.0")
    set_to(world, "Published", "1.0")
    assert revision() == first
    world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    second = revision()
    world.call("POST", f"{VERSIONS}/1.0/yank", json={"reason": "odd"})
    assert len({first, second, revision()}) == 3
    assert codes(act(world, "dispose", "1.0", versionRevisions={"1.0": first})) == {"1.0": "MISMATCHED_REVISION"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("update_status", {"versions": ["1.0"], "targetStatus": "Disposed"}),
        ("update_status", {"versions": ["1.0"], "targetStatus": "Unfinished"}),
        ("update_status", {"versions": ["1.0"], "targetStatus": "archived"}),
        ("update_status", {"versions": ["1.0"]}),
        ("update_status", {"versions": [], "targetStatus": "Archived"}),
        ("update_status", {"versions": [str(n) for n in range(101)], "targetStatus": "Archived"}),
        ("update_status", {"versions": ["1.0"], "targetStatus": "Archived", "expectedStatus": "Gone"}),
        ("update_status", {"versions": ["1.0"], "targetStatus": "Archived", "versionRevisions": {"1.1": "x"}}),
        ("dispose", {"versions": ["1.0"], "force": True}),
        ("delete", {"versions": "1.0"}),
        ("copy", {"destinationRepository": "staging"}),
        ("copy", {"destinationRepository": "staging", "versions": ["1.0"], "versionRevisions": {"1.0": "x"}}),
        ("copy", {"destinationRepository": "dev", "versions": ["1.0"]}),
        ("copy", {"versions": ["1.0"]}),
    ],
)
def test_requests_that_make_no_sense_change_nothing(world: World, path: str, body: dict) -> None:
    before = world.audit()
    assert world.call("POST", f"{VERSIONS}/{path}", json=body).status_code == 400
    assert world.audit() == before


def test_nothing_of_a_quarantined_package_is_changed(world: World) -> None:
    world.call("PUT", f"{DEV}/{PACKAGE}/status", json={"status": "quarantined"})
    assert codes(set_to(world, "Archived", "1.0")) == {"1.0": "NOT_ALLOWED"}
    assert codes(act(world, "dispose", "1.0")) == codes(act(world, "delete", "1.0")) == {"1.0": "NOT_ALLOWED"}
    assert codes(copy(world, "1.0")) == {"1.0": "NOT_ALLOWED"}
    assert world.call("DELETE", f"{DEV}/{PACKAGE}").status_code == 403
    world.call("PUT", f"{DEV}/{PACKAGE}/status", json={"status": "active"})
    assert fetch(world, "1.0")[0] == 200


def test_a_whole_package_is_deleted_and_its_name_stays_ours(world: World) -> None:
    gone = world.call("DELETE", f"{DEV}/{PACKAGE}", as_="publisher")
    assert gone.json["versions"] == ["1.0", "1.1", "1.2"]
    assert (world.call("GET", f"{DEV}/{PACKAGE}").status_code, page(world)) == (404, {})
    assert world.call("DELETE", f"{DEV}/{PACKAGE}").status_code == 404
    assert world.audit()[-1] == ("publisher", "package.delete", "default/dev/pypi/my-pkg")


def test_no_build_takes_a_file_that_is_archived_or_quarantined(world: World) -> None:
    sha256 = shown(world, "1.0")["assets"][0]["sha256"]

    def read() -> bytes:
        coordinate = {
            "domain": "default",
            "repository": "dev",
            "format_name": "pypi",
            "namespace": "",
            "name": "my-pkg",
        }
        stores, filename = world.services.stores, "my_pkg-1.0-py3-none-any.whl"
        with assets.open_asset(world.db, stores, **coordinate, version="1.0", filename=filename, sha256=sha256) as body:
            return body.read()

    set_to(world, "Unlisted", "1.0")
    assert read() == b"bytes of my_pkg-1.0-py3-none-any.whl"
    set_to(world, "Archived", "1.0")
    with pytest.raises(NotFound):
        read()
    set_to(world, "Published", "1.0")
    world.call("PUT", f"{DEV}/{PACKAGE}/status", json={"status": "quarantined"})
    with pytest.raises(NotFound):
        read()


# --- lists -----------------------------------------------------------------------------------------------------------


def listed(world: World, **query: object) -> list[str]:
    answer = world.call("GET", VERSIONS, query_string=query)
    assert answer.status_code == 200, answer.json
    return [entry["version"] for entry in answer.json["versions"]]


def test_versions_are_listed_by_state_origin_and_time_in_pages(world: World) -> None:
    world.now += timedelta(hours=1)
    world.publish("dev", "my-pkg", "0.9", canonical="0.9")
    set_to(world, "Archived", "1.1")
    act(world, "dispose", "1.0")
    assert listed(world) == ["1.2", "1.1", "1.0", "0.9"]
    assert listed(world, status="Archived") == ["1.1"]
    assert listed(world, status="Disposed") == ["1.0"]
    assert listed(world, originType="EXTERNAL") == []
    assert listed(world, originType="INTERNAL", status="Published") == ["1.2", "0.9"]
    assert listed(world, sortBy="PUBLISHED_TIME")[0] == "0.9"
    first = world.call("GET", VERSIONS, query_string={"maxResults": 3}).json
    assert (first["nextToken"], first["defaultDisplayVersion"]) == ("1.0", "1.2")
    assert listed(world, maxResults=3, nextToken=first["nextToken"]) == ["0.9"]
    entry = first["versions"][0]
    assert entry["origin"] == {"originType": "INTERNAL", "domainEntryPoint": {"repositoryName": "dev"}}
    for bad in ({"status": "archived"}, {"sortBy": "NAME"}, {"originType": "x"}, {"nextToken": "7"}, {"maxResults": 0}):
        assert world.call("GET", VERSIONS, query_string=bad).status_code == 400, bad


def test_files_readme_and_dependencies_of_a_version(world: World) -> None:
    world.publish("dev", "told", "1.0", canonical="1.0", description="# Told\n")
    there = f"{DEV}/packages/pypi/told/versions/1.0"
    assets = world.call("GET", f"{there}/assets").json
    (asset,) = assets["assets"]
    assert (asset["name"], len(asset["hashes"]["SHA-256"])) == ("told-1.0-py3-none-any.whl", 64)
    readme = world.call("GET", f"{there}/readme").json
    assert (readme["readme"], readme["versionRevision"]) == ("# Told\n", assets["versionRevision"])
    assert world.call("GET", f"{there}/dependencies").json["dependencies"] == []


# --- copies ----------------------------------------------------------------------------------------------------------


def test_a_copy_is_the_same_set_and_repeating_it_is_success(world: World) -> None:
    revisions = {version: shown(world, version)["revision"] for version in ("1.0", "1.1")}
    first = copy(world, versionRevisions=revisions)
    assert first["successfulVersions"] == {
        version: {"revision": revision, "status": "Published"} for version, revision in revisions.items()
    }
    before = world.audit()
    assert copy(world, "1.0", "1.1") == first
    assert world.audit() == before
    assert shown(world, "1.0", STAGING)["promotedFrom"] == "dev"
    assert sorted(page(world, "staging")) == ["my_pkg-1.0-py3-none-any.whl", "my_pkg-1.1-py3-none-any.whl"]
    assert codes(copy(world, versionRevisions={"1.2": "other"})) == {"1.2": "MISMATCHED_REVISION"}
    assert codes(copy(world, "7")) == {"7": "NOT_FOUND"}


def test_a_copy_keeps_the_state_and_what_is_archived_stays(world: World) -> None:
    set_to(world, "Unlisted", "1.0")
    set_to(world, "Archived", "1.1")
    answer = copy(world, "1.0", "1.1")
    assert (answer["successfulVersions"]["1.0"]["status"], codes(answer)) == ("Unlisted", {"1.1": "NOT_ALLOWED"})
    assert page(world, "staging") == {"my_pkg-1.0-py3-none-any.whl": states.UNLISTED_REASON}


def test_what_is_otherwise_in_the_target_is_overwritten_only_when_asked(world: World) -> None:
    copy(world, "1.0")
    world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    world.publish("staging", "my-pkg", "1.0", canonical="1.0", suffix="-1-py3-none-any.whl")
    assert codes(copy(world, "1.0")) == {"1.0": "ALREADY_EXISTS"}
    done = copy(world, "1.0", allowOverwrite=True)["successfulVersions"]["1.0"]
    assert done["revision"] == shown(world, "1.0")["revision"] == shown(world, "1.0", STAGING)["revision"]
    assert [asset["filename"] for asset in shown(world, "1.0", STAGING)["assets"]] == [
        "my_pkg-1.0-py3-none-any.whl",
        "my_pkg-1.0.tar.gz",
    ]
    assert world.audit()[-1][1] == "version.overwrite"
    act(world, "delete", "1.2")
    assert world.call("POST", f"{STAGING}/{PACKAGE}/versions/dispose", json={"versions": ["1.0"]}).status_code == 200
    assert codes(copy(world, "1.0", allowOverwrite=True)) == {"1.0": "NOT_ALLOWED"}


def test_a_copy_finds_what_the_source_finds_behind_it(world: World) -> None:
    world.call("POST", "/domains/default/repositories", json={"name": "front", "upstreams": ["dev"]})
    front = "/domains/default/repositories/front"
    assert codes(copy(world, "1.0", source=front)) == {"1.0": "NOT_FOUND"}
    answer = copy(world, "1.0", source=front, includeFromUpstream=True)
    assert answer["successfulVersions"].keys() == {"1.0"}
    assert shown(world, "1.0", STAGING)["promotedFrom"] == "dev"


# --- freezing --------------------------------------------------------------------------------------------------------


def test_an_administrator_reopens_an_old_version_for_some_hours(world: World) -> None:
    world.now += timedelta(days=14, seconds=1)
    with pytest.raises(Exception, match="takes no further ones"):
        world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    answer = world.call("POST", f"{VERSIONS}/1.0/reopen", json={"hours": 2, "reason": "a forgotten sdist"})
    assert answer.status_code == 200
    assert world.audit()[-1] == ("admin", "version.reopen", "default/dev/pypi/my-pkg/1.0")
    world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    world.now += timedelta(hours=2)
    with pytest.raises(Exception, match="takes no further ones"):
        world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix="-1-py3-none-any.whl")
    for hours in (0, 169, "2"):
        assert world.call("POST", f"{VERSIONS}/1.0/reopen", json={"hours": hours}).status_code == 400


def test_the_freezing_ends_where_it_says_and_can_be_off(world: World) -> None:
    first, days = world.now, timedelta(days=14)
    assert not states.is_frozen(first, first + days, days)
    assert states.is_frozen(first, first + days + timedelta(seconds=1), days)
    assert not states.is_frozen(first, first + 1000 * days, timedelta(0))


def test_a_late_promotion_brings_what_was_published_in_time_and_nothing_later(world: World) -> None:
    world.publish("dev", "my-pkg", "1.0", canonical="1.0", suffix=".tar.gz")
    world.call(
        "POST", f"{VERSIONS}/1.0/promote",
        json={"target": "staging", "assets": {a["filename"]: a["sha256"] for a in shown(world, "1.0")["assets"][:1]}},
    )  # fmt: skip
    world.now += timedelta(days=20)
    assert world.call("POST", f"{VERSIONS}/1.0/promote", json={"target": "staging"}).status_code == 200
    world.publish("prod", "my-pkg", "1.0", canonical="1.0", suffix="-1-py3-none-any.whl")  # planted today
    planted = world.call(
        "POST", f"/domains/default/repositories/prod/{PACKAGE}/versions/1.0/promote", json={"target": "staging"}
    )
    assert (planted.status_code, "takes no further ones" in planted.json["detail"]) == (403, True)
    assert len(shown(world, "1.0", STAGING)["assets"]) == 2


def ask(world: World, method: str, path: str, **options: object):
    headers = {"Authorization": f"Bearer {world.tokens['admin']}"}
    return world.http.open(path, method=method, headers=headers, **options)


def test_tags_and_rendered_lists_are_right_after_a_copy(world: World) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0-beta.1"):
        sent = npm_packages.publish_document("tagged", version, tags=("beta" if "beta" in version else "latest",))
        answer = ask(world, "PUT", "/npm/default/staging/tagged", json=sent)
        assert (answer.status_code, len(answer.headers["X-Entrepot-Version-Revision"])) == (201, 32)
    there = "/domains/default/repositories/staging/packages"

    def copied(*versions: str) -> tuple[list[str], dict[str, str]]:
        body = {"versions": list(versions), "destinationRepository": "prod"}
        answer = world.call("POST", f"{there}/npm/tagged/versions/copy", json=body)
        assert answer.json["failedVersions"] == {}, answer.json
        document = ask(world, "GET", "/npm/default/prod/tagged").json
        return list(document["versions"]), document["dist-tags"]

    assert copied("1.0.0") == (["1.0.0"], {"latest": "1.0.0"})
    assert copied("3.0.0-beta.1", "2.0.0") == (["1.0.0", "2.0.0", "3.0.0-beta.1"], {"latest": "2.0.0"})

    for version in ("1.0", "1.1"):
        for filename, body in ((f"lib-{version}.pom", pom("lib", version)), (f"lib-{version}.jar", jar(a=version))):
            assert (
                ask(world, "PUT", f"/maven/default/staging/com/acme/lib/{version}/{filename}", data=body).status_code
                == 201
            )
    assert ask(
        world, "PUT", "/maven/default/staging/com/acme/lib/maven-metadata.xml", data=metadata("1.0", "1.1")
    ).status_code == 201  # fmt: skip
    body = {"versions": ["1.1"], "destinationRepository": "prod"}
    answer = world.call("POST", f"{there}/maven/com.acme:lib/versions/copy", json=body)
    assert answer.json["failedVersions"] == {}, answer.json
    listed = ask(world, "GET", "/maven/default/prod/com/acme/lib/maven-metadata.xml").get_data(as_text=True)
    assert ("<release>1.1</release>" in listed, "<version>1.0</version>" in listed) == (True, False)


def test_what_an_upstream_lists_is_withheld_here(tmp_path: Path) -> None:
    with FaultyUpstream() as upstream:
        outside = OutsideWorld(tmp_path)
        try:
            outside.disconnect()
            outside.connect(upstream)
            files = {f"far-{version}.tar.gz": version.encode() for version in ("1.0", "1.1", "1.2")}
            upstream.add_project("far", files)
            for version in ("1.0", "1.1"):
                assert outside.get(f"pypi/default/dev/files/far/far-{version}.tar.gz").status_code == 200
            for version, status in (("1.0", "Unlisted"), ("1.1", "Archived")):
                body = {"versions": [version], "targetStatus": status}
                there = f"{DEV}/packages/pypi/far/versions/update_status"
                assert outside.call("POST", there, json=body).json["failedVersions"] == {}
            page = outside.get("pypi/default/dev/simple/far/", Accept="application/vnd.pypi.simple.v1+json")
            shown = {file["filename"]: file["yanked"] for file in page.json["files"]}
            assert shown == {"far-1.0.tar.gz": states.UNLISTED_REASON, "far-1.2.tar.gz": False}
            got = [
                outside.get(f"pypi/default/dev/files/far/far-{version}.tar.gz").status_code
                for version in ("1.0", "1.1", "1.2")
            ]
            assert got == [200, 403, 200]
        finally:
            outside.close()
