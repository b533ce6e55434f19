"""Batch builds over the management interface, built by real workers in real sandboxes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from config import wiring
from hooks import care
from hooks.builds import records
from hooks.jobs.worker import Worker
from tests.build_bench import MISSING_SANDBOX, eventually, work_directory
from tests.functional.api_world import World

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
SPEC = """version: 0.2
env:
  exported-variables: [CODEBUILD_BATCH_BUILD_IDENTIFIER, V, W]
phases:
  build:
    commands: ['{command}']
artifacts: {artifacts}
batch: {batch}
"""


@dataclass
class Site:
    world: World

    def put(
        self, name: str, command: str, batch: str, *, artifacts: str = "{files: ['*.txt']}", **document: Any
    ) -> None:
        spec = SPEC.replace("{command}", command).replace("{batch}", batch).replace("{artifacts}", artifacts)
        text = json.dumps(
            {
                "name": name,
                "repository": "dev",
                "source": {"type": "NO_SOURCE", "buildspec": spec},
                "environment": {"network": "none", "variables": {"V": "project", "W": "project"}},
                **document,
            }
        )
        answer = self.world.call("PUT", f"/build-projects/{name}", json={"document": text})
        assert answer.status_code == 200, answer.text

    def start(self, name: str, **body: Any) -> Any:
        return self.ask("POST", f"/build-projects/{name}/batches", 201, json=body)

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = self.world.call(method, path, as_="publisher", **options)
        assert answer.status_code == status, answer.text
        return answer.json

    def show(self, batch: dict[str, Any]) -> Any:
        return self.ask("GET", f"/build-batches/{batch['id']}")

    def ended(self, batch: dict[str, Any]) -> Any:
        return eventually(lambda: (found := self.show(batch))["complete"] and found, "the batch never ended")

    def log(self, batch: dict[str, Any], identifier: str) -> str:
        return str(self.world.call("GET", f"/builds/{group(batch, identifier)['currentBuildSummary']['id']}/log").text)


def group(batch: dict[str, Any], identifier: str) -> dict[str, Any]:
    (found,) = [each for each in batch["buildGroups"] if each["identifier"] == identifier]
    return dict(found)


def states(batch: dict[str, Any]) -> dict[str, str]:
    return {each["identifier"]: each["status"] for each in batch["buildGroups"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with work_directory() as work:
        world = World(tmp_path_factory.mktemp("world"), {"ENTREPOT_BUILDS_WORKSPACE_PATH": str(work)})
        world.account("builds", "read")
        parts = world.hooks.actions
        builds = wiring.build_jobs(world.settings, world.services, parts)
        general = wiring.general_jobs(parts)
        combining = wiring.combining_jobs(world.settings, world.services, parts)
        workers = [
            Worker(
                world.db, builds.handlers, settle=builds.settle, slots=2, queues=(records.QUEUE,), poll_seconds=0.05
            ),
            Worker(
                world.db,
                {**general.handlers, **combining.handlers},
                settle=combining.settle,
                slots=1,
                poll_seconds=0.05,
            ),
        ]
        for worker in workers:
            worker.start()
        try:
            yield Site(world)
        finally:
            for worker in workers:
                worker.drain(0)
            for worker in workers:
                assert worker.join(40)
            assert care.check(world.db) == []
            world.close()


def test_a_graph_with_an_ignored_failure_succeeds_and_its_artifacts_are_one(site: Site) -> None:
    command = "test $CODEBUILD_BATCH_BUILD_IDENTIFIER != lint && echo same > same.txt && echo $V > $CODEBUILD_BATCH_BUILD_IDENTIFIER.txt"
    site.put(
        "graph",
        command.replace("'", "''"),
        "{build-graph: [{identifier: lint, ignore-failure: true}, {identifier: unit, env: {variables: {V: mine}}},"
        " {identifier: pack, depend-on: [lint, unit]}]}",
        buildBatchConfig={"combineArtifacts": True},
    )
    started = site.start("graph", environmentVariablesOverride=[{"name": "W", "value": "start"}])
    assert (started["buildBatchStatus"], started["currentPhase"]) == ("IN_PROGRESS", "DOWNLOAD_BATCHSPEC")
    batch = site.ended(started)
    assert batch["buildBatchStatus"] == "SUCCEEDED", batch
    assert states(batch) == {"DOWNLOAD_SOURCE": "SUCCEEDED", "lint": "FAILED", "unit": "SUCCEEDED", "pack": "SUCCEEDED"}
    assert [phase["phaseType"] for phase in batch["phases"]] == [
        "SUBMITTED", "DOWNLOAD_BATCHSPEC", "IN_PROGRESS", "COMBINE_ARTIFACTS", "SUCCEEDED",
    ]  # fmt: skip
    unit = site.ask("GET", f"/builds/{group(batch, 'unit')['currentBuildSummary']['id']}")
    assert unit["exportedVariables"] == {"CODEBUILD_BATCH_BUILD_IDENTIFIER": "unit", "V": "mine", "W": "start"}
    assert "Running command" not in site.log(batch, "DOWNLOAD_SOURCE")
    # Each build keeps its own artifact, and the batch's first has what they come to.
    place = group(batch, "DOWNLOAD_SOURCE")["currentBuildSummary"]["primaryArtifact"]["location"]
    body = site.world.call("GET", place.removeprefix("/api/v1"), as_="publisher").data
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "same.txt": b"same\n",
            "unit.txt": b"mine\n",
            "pack.txt": b"project\n",
        }


@pytest.mark.long
def test_artifacts_that_contradict_each_other_are_not_combined(site: Site) -> None:
    site.put(
        "clash",
        "echo $CODEBUILD_BATCH_BUILD_IDENTIFIER > out.txt",
        "{build-list: [{identifier: a}, {identifier: b}]}",
        buildBatchConfig={"combineArtifacts": True},
    )
    batch = site.ended(site.start("clash"))
    assert (batch["buildBatchStatus"], batch["phases"][-2]["phaseStatus"]) == ("FAILED", "FAILED")
    assert "a and b have different files 'out.txt'" in batch["message"]


@pytest.mark.long
def test_a_matrix_fails_where_one_choice_fails_and_only_that_is_retried(site: Site) -> None:
    site.put(
        "matrix",
        "echo $V > v.txt; test $V = one",
        "{build-matrix: {dynamic: {env: {variables: {V: [one, two]}}}}}",
    )
    batch = site.ended(site.start("matrix"))
    assert (batch["buildBatchStatus"], batch["message"]) == ("FAILED", "matrix_2: FAILED")
    assert states(batch) == {"DOWNLOAD_SOURCE": "SUCCEEDED", "matrix_1": "SUCCEEDED", "matrix_2": "FAILED"}
    assert group(batch, "matrix_2")["chosen"] == {"$V": "two"}
    site.ask("POST", f"/builds/{group(batch, 'matrix_2')['currentBuildSummary']['id']}/retry", 409)
    again = site.ask("POST", f"/build-batches/{batch['id']}/retry", json={"retryType": "RETRY_FAILED_BUILDS"})
    assert again["buildBatchStatus"] == "IN_PROGRESS"
    retried = site.ended(again)
    failed, fine = group(retried, "matrix_2"), group(retried, "matrix_1")
    assert [each["id"] for each in failed["priorBuildSummaryList"]] == [
        group(batch, "matrix_2")["currentBuildSummary"]["id"]
    ]
    assert fine["currentBuildSummary"] == group(batch, "matrix_1")["currentBuildSummary"]
    assert (retried["attempt"], retried["buildBatchStatus"]) == (2, "FAILED")
    assert [item["id"] for item in site.ask("GET", "/build-batches?project=matrix&status=FAILED")["items"]] == [
        batch["id"]
    ]
    found = site.ask("GET", f"/build-batches/batch-get?ids={batch['id']},absent")
    assert ([each["id"] for each in found["buildBatches"]], found["buildBatchesNotFound"]) == (
        [batch["id"]],
        ["absent"],
    )


def test_a_batch_is_stopped_with_all_that_runs(site: Site) -> None:
    site.put("slow", "echo begun; sleep 600", "{build-graph: [{identifier: a}, {identifier: b, depend-on: [a]}]}")
    started = site.start("slow")
    eventually(
        lambda: states(site.show(started)).get("a") == "IN_PROGRESS" and "begun\n" in site.log(site.show(started), "a")
    )
    site.ask("POST", f"/build-batches/{started['id']}/stop")
    batch = site.ended(started)
    assert (batch["buildBatchStatus"], batch["endingAs"], batch["currentPhase"]) == ("STOPPED", "STOPPED", "STOPPED")
    assert states(batch) == {"DOWNLOAD_SOURCE": "SUCCEEDED", "a": "STOPPED", "b": "SKIPPED"}
    assert group(batch, "b")["currentBuildSummary"] is None
    site.ask("POST", f"/build-batches/{started['id']}/stop", 409)


@pytest.mark.long
def test_the_builds_of_a_fanout_share_the_files(site: Site) -> None:
    search = 'codebuild-tests-run --test-command cat --files-search "codebuild-glob-search *.case"'
    site.put(
        "fanout",
        f"for n in 1 2 3; do echo case-$n > $n.case; done; {search}",
        "{build-fanout: {parallelism: 2}}",
        artifacts="{files: ['*.case']}",
    )
    batch = site.ended(site.start("fanout"))
    assert batch["buildBatchStatus"] == "SUCCEEDED", site.log(batch, "fanout_1")
    shares = [[n for n in (1, 2, 3) if f"\ncase-{n}\n" in site.log(batch, f"fanout_{shard}")] for shard in (1, 2)]
    assert shares == [[1], [2, 3]]


@pytest.mark.long
def test_what_the_project_restricts_is_said_before_anything_runs(site: Site) -> None:
    site.put(
        "narrow",
        "true",
        "{build-list: [{identifier: a}, {identifier: b}]}",
        buildBatchConfig={"restrictions": {"maximumBuildsAllowed": 1}},
    )
    wide = {"restrictions": {"maximumBuildsAllowed": 9}, "combineArtifacts": False}
    batch = site.ended(site.start("narrow", buildBatchConfigOverride=wide))
    assert (batch["buildBatchStatus"], list(states(batch))) == ("FAILED", ["DOWNLOAD_SOURCE"])
    assert batch["message"] == "the batch has 2 builds, and the project allows 1 (maximumBuildsAllowed)"
    assert batch["phases"][1]["phaseStatus"] == "FAILED"
