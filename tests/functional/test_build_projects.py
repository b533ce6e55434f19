"""Build projects over the management interface, built by the real worker in the real sandbox."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from config import wiring
from hooks.builds import records
from hooks.jobs.worker import Worker
from tests.build_bench import MISSING_SANDBOX, eventually, work_directory
from tests.fakes.forge import Forge, Repository, forge
from tests.functional.api_world import World

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
TOKEN = "forge-token-0815-secret"
SHOW = """version: 0.2
env:
  exported-variables: [CODEBUILD_RESOLVED_SOURCE_VERSION, CODEBUILD_SOURCE_VERSION, CODEBUILD_SOURCE_REPO_URL, STAGE]
phases:
  build:
    commands: ["cat README", "test ! -e $HOME/credentials", "env"]
"""


@dataclass
class Site:
    world: World
    forge: Forge
    repository: Repository
    other: Repository
    commits: list[str]

    def put(self, name: str, status: int = 200, as_: str = "admin", **document: Any) -> Any:
        text = json.dumps({"name": name, "repository": "dev", **document})
        answer = self.world.call("PUT", f"/build-projects/{name}", as_=as_, json={"document": text})
        assert answer.status_code == status, answer.text
        return answer.json

    def git(self, name: str, **document: Any) -> Any:
        source = {"type": "GIT", "location": f"{self.forge.url}/one.git", **document.pop("source", {})}
        return self.put(name, source=source, **document)

    def start(self, name: str, status: int = 201, as_: str = "publisher", **body: Any) -> Any:
        answer = self.world.call("POST", f"/build-projects/{name}/builds", as_=as_, json=body)
        assert answer.status_code == status, answer.text
        return answer.json

    def ended(self, build: dict[str, Any]) -> Any:
        def look() -> Any:
            found = self.world.call("GET", f"/builds/{build['id']}").json
            return found if found["status"] != "IN_PROGRESS" else None

        return eventually(look, "the build never ended")

    def log(self, build: dict[str, Any]) -> str:
        return str(self.world.call("GET", f"/builds/{build['id']}/log").text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with work_directory() as work:
        root = work.parent / "repositories"
        root.mkdir()
        root.chmod(0o755)
        one, other = Repository(root, "one"), Repository(root, "other")
        commits = [one.commit({"README": "first\n", "buildspec.yml": SHOW}, tag="v1")]
        commits.append(one.commit({"README": "second\n", "ci/other.yml": SHOW}))
        other.commit({"data.txt": "the other\n"})
        world = World(
            tmp_path_factory.mktemp("world"),
            {
                "ENTREPOT_UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8",
                "ENTREPOT_BUILDS_WORKSPACE_PATH": str(work),
                "ENTREPOT_BUILDS_REGISTRY_ADDRESS": "127.0.0.1:9",
            },
        )
        world.account("builds", "read")
        jobs = wiring.build_jobs(world.settings, world.services, world.hooks.actions)
        worker = Worker(
            world.db, jobs.handlers, settle=jobs.settle, slots=2, queues=(records.QUEUE,), poll_seconds=0.05
        )
        worker.start()
        try:
            with forge(root) as running:
                yield Site(world, running, one, other, commits)
        finally:
            worker.drain(0)
            assert worker.join(40)
            world.close()


def test_a_git_source_is_built_and_retried_at_the_same_commit(site: Site) -> None:
    site.git("unit", environment={"environmentVariables": [{"name": "STAGE", "value": "project"}]})
    build = site.start("unit", environmentVariablesOverride=[{"name": "STAGE", "value": "beta"}])
    assert (build["status"], build["initiator"], build["domain"], build["repository"]) == (
        "IN_PROGRESS",
        "publisher",
        "default",
        "dev",
    )
    done = site.ended(build)
    assert done["status"] == "SUCCEEDED", site.log(build)
    assert done["exportedVariables"] == {
        "CODEBUILD_RESOLVED_SOURCE_VERSION": site.commits[1],
        "CODEBUILD_SOURCE_REPO_URL": f"{site.forge.url}/one.git",
        "STAGE": "beta",
    }
    assert done["resolvedSourceVersion"] == site.commits[1]
    assert "second\n" in site.log(build)
    site.repository.commit({"README": "third\n"})
    again = site.world.call("POST", f"/builds/{build['id']}/retry", as_="publisher")
    assert again.status_code == 201, again.text
    repeated = site.ended(again.json)
    assert (repeated["retryOf"], repeated["resolvedSourceVersion"]) == (build["id"], site.commits[1])
    assert repeated["exportedVariables"]["STAGE"] == "beta"
    newest = site.ended(site.start("unit"))
    assert newest["resolvedSourceVersion"] not in site.commits


def test_versions_depth_and_buildspecs_are_the_starts_to_choose(site: Site) -> None:
    site.git("chosen", sourceVersion="main")
    done = site.ended(site.start("chosen", sourceVersion="v1"))
    assert done["resolvedSourceVersion"] == site.commits[0]
    assert done["exportedVariables"]["CODEBUILD_SOURCE_VERSION"] == "v1"
    other = site.ended(site.start("chosen", buildspecOverride="ci/other.yml"))
    assert other["status"] == "SUCCEEDED", site.log(other)
    inline = "version: 0.2\nphases: {build: {commands: ['false']}}"
    assert site.ended(site.start("chosen", buildspecOverride=inline))["status"] == "FAILED"
    lost = site.ended(site.start("chosen", sourceVersion="nowhere"))
    assert (lost["status"], lost["phase"]) == ("FAILED", "COMPLETED")
    assert "could not be fetched" in lost["message"]
    for version in ("--upload-pack=x", "a b", "main\nx", "$(id)", "a..b"):
        assert site.start("chosen", 400 if version != "$(id)" else 201, sourceVersion=version)


def test_secondary_sources_have_directories_of_their_own(site: Site) -> None:
    spec = "version: 0.2\nphases: {build: {commands: ['cat $CODEBUILD_SRC_DIR_tools/data.txt', 'cat README']}}"
    site.git(
        "both",
        source={"buildspec": spec},
        secondarySources=[
            {"type": "GITHUB", "location": f"{site.forge.url}/other.git", "sourceIdentifier": "tools"},
        ],
    )
    done = site.ended(site.start("both"))
    assert done["status"] == "SUCCEEDED", site.log(done)
    assert "the other\n" in site.log(done)
    assert {source["sourceIdentifier"]: bool(source["resolvedSourceVersion"]) for source in done["sources"]} == {
        "": True,
        "tools": True,
    }


def test_a_credential_opens_a_repository_and_shows_nowhere(site: Site) -> None:
    site.git("private")
    site.forge.credentials["one.git"] = ("x-access-token", TOKEN)
    try:
        assert site.ended(site.start("private"))["status"] == "FAILED"
        given = {"authType": "PERSONAL_ACCESS_TOKEN", "token": TOKEN}
        path = "/build-projects/private/source-credential"
        assert site.world.call("PUT", path, as_="publisher", json=given).status_code == 403
        answer = site.world.call("PUT", path, json=given)
        assert (answer.status_code, answer.json["credentials"]) == (200, {"": "PERSONAL_ACCESS_TOKEN"})
        assert TOKEN not in answer.text
        done = site.ended(site.start("private"))
        assert done["status"] == "SUCCEEDED", site.log(done)
        assert TOKEN not in site.log(done)
        # Somewhere else it would be somebody else's to read.
        moved = site.git("private", source={"location": f"{site.forge.url}/other.git"})
        assert moved["credentials"] == {}
    finally:
        del site.forge.credentials["one.git"]


def zipped(files: dict[str, str]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return body.getvalue()


def test_an_uploaded_zip_is_built(site: Site) -> None:
    site.put("sent", source={"type": "UPLOAD"})
    assert site.start("sent", 400)["detail"].count("sourceUpload is missing") == 1
    path, kind = "/build-sources?project=sent", {"Content-Type": "application/zip"}
    assert site.world.call("POST", path, data=b"no zip at all", headers=kind).status_code == 400
    body = zipped({"README": "sent\n", "buildspec.yml": SHOW})
    assert site.world.call("POST", path, as_="reader", data=body, headers=kind).status_code == 403
    answer = site.world.call("POST", path, as_="publisher", data=body, headers=kind)
    assert answer.status_code == 201, answer.text
    assert not any(body in found.read_bytes() for found in site.world.settings.blobs_path.rglob("*") if found.is_file())
    done = site.ended(site.start("sent", sourceUpload=answer.json["id"]))
    assert done["status"] == "SUCCEEDED", site.log(done)
    assert "sent\n" in site.log(done)
    site.git("elsewhere")
    assert site.start("elsewhere", 404, sourceUpload=answer.json["id"])


def test_without_a_source_the_buildspec_is_the_projects(site: Site) -> None:
    assert "needs its text" in site.put("none", 400, source={"type": "NO_SOURCE"})["detail"]
    spec = "version: 0.2\nphases: {build: {commands: ['ls -A | wc -l']}}"
    site.put("none", source={"type": "NO_SOURCE", "buildspec": spec})
    done = site.ended(site.start("none"))
    assert done["status"] == "SUCCEEDED", site.log(done)
    assert "\n0\n" in site.log(done)


def test_a_failed_build_is_repeated_by_itself_as_often_as_it_is_allowed(site: Site) -> None:
    spec = "version: 0.2\nphases: {build: {commands: ['false']}}"
    site.put("again", source={"type": "NO_SOURCE", "buildspec": spec}, autoRetryLimit=1)
    first = site.ended(site.start("again"))

    def repetitions() -> list[dict[str, Any]]:
        found = site.world.call("GET", "/builds?project=again").json["items"]
        return [site.world.call("GET", f"/builds/{each['id']}").json for each in found]

    eventually(lambda: all(each["status"] == "FAILED" for each in repetitions()) and len(repetitions()) == 2)
    second = next(each for each in repetitions() if each["id"] != first["id"])
    assert (second["retryOf"], second["autoRetryConfig"]) == (
        first["id"],
        {"autoRetryLimit": 1, "autoRetryNumber": 1},
    )


def test_a_start_is_one_however_often_it_is_sent(site: Site) -> None:
    spec = "version: 0.2\nphases: {build: {commands: ['true']}}"
    site.put("once", source={"type": "NO_SOURCE", "buildspec": spec})
    first = site.start("once", idempotencyToken="t1")
    assert site.start("once", idempotencyToken="t1")["id"] == first["id"]
    assert site.start("once", idempotencyToken="t2")["id"] != first["id"]


def test_a_document_is_shown_as_it_can_be_applied_again(site: Site) -> None:
    document = {
        "description": "All of it",
        "source": {
            "type": "GITHUB_ENTERPRISE",
            "location": f"{site.forge.url}/one.git",
            "gitCloneDepth": 0,
            "gitSubmodulesConfig": {"fetchSubmodules": True},
        },
        "environment": {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "X"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "cache": {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE"]},
        "serviceRole": "arn:aws:iam::123:role/x",
        "concurrentBuildLimit": 2,
        "tags": [{"key": "team", "value": "a"}],
    }
    saved = site.put("whole", **document)
    assert saved["change"] == "created"
    assert [word for word in ("serviceRole", "LINUX_CONTAINER") if any(word in text for text in saved["warnings"])] == [
        "serviceRole",
        "LINUX_CONTAINER",
    ]
    shown = site.world.call("GET", "/build-projects/whole").json["document"]
    again = site.world.call("PUT", "/build-projects/whole", json={"document": json.dumps(shown)})
    assert (again.status_code, again.json["change"]) == (200, "unchanged"), again.text
    assert shown["cache"] == document["cache"]
    assert site.world.call("DELETE", "/build-projects/whole", as_="publisher").status_code == 403
    assert site.world.call("DELETE", "/build-projects/whole").status_code == 204
    assert site.world.call("GET", "/build-projects/whole").status_code == 404
    assert site.put("whole", **document)["change"] == "created"


def test_all_that_is_wrong_is_told_at_once(site: Site) -> None:
    told = site.put(
        "wrong",
        400,
        source={"type": "S3", "location": "file://../x", "auth": {"type": "OAUTH"}, "insecureSsl": True},
        vpcConfig={"vpcId": "vpc-1"},
        timeoutInMinutes=1,
        secondarySources=[{"type": "GIT", "location": "ext::sh -c id"}],
        colour="red",
    )["detail"]
    for word in (
        "S3",
        "auth",
        "insecureSsl",
        "vpcConfig",
        "timeoutInMinutes",
        "sourceIdentifier",
        "colour",
        "location",
    ):
        assert word in told, word
    assert site.world.call("GET", "/build-projects/wrong").status_code == 404
