"""A pipeline's build action that is a batch: it waits for all of it, and stops all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds.batch_engine import groups_of
from hooks.builds.batch_parts import part_of, write_found
from hooks.builds.phases import BuildStatus
from hooks.builds.records import finish_build, get_build
from hooks.builds.spec import parse_buildspec
from hooks.pipelines.engine import on_build_finished
from tests.functional.test_hooks_api import BUILT, Hooks, action

BATCHED = BUILT.replace("name: built", "name: batched").replace(
    "{ProjectName: unit}", '{ProjectName: unit, BatchEnabled: "true", CombineArtifacts: "false"}'
)
SPEC = "version: 0.2\nphases: {}\nbatch: {build-list: [{identifier: one}, {identifier: two}]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    made = Hooks(Path(tmp_path_factory.mktemp("hooks")))
    applied = made.call("PUT", "/pipelines", json={"document": BATCHED})
    assert applied.status_code == 200, applied.text
    yield made
    made.close()


def end(world: Hooks, batch: str, identifier: str, status: BuildStatus, **variables: str) -> None:
    with world.db.write() as session:
        (build_id,) = [group.build_id for group in groups_of(session, batch) if group.identifier == identifier]
        build = get_build(session, build_id)
        part = part_of(session, build, ("process",))
        if part.reading is not None:
            assert part.reading.take(parse_buildspec(SPEC)) == []
        write_found(session, build, part, status)
        finish_build(
            session,
            build.id,
            status,
            now=world.now,
            on_finished=lambda session, ended: on_build_finished(session, world.hooks.actions, ended),
            exported_variables=variables,
        )


def test_an_action_ends_as_its_batch_ends(world: Hooks) -> None:
    started = world.start("batched")
    batch = action(started, "Test", "Unit")["buildId"]
    shown = world.call("GET", f"/build-batches/{batch}").json
    assert (shown["initiator"], shown["subject"]) == ("codepipeline/batched", f"execution:{started['id']}")
    assert shown["buildBatchConfig"] == {"combineArtifacts": False}
    end(world, batch, "DOWNLOAD_SOURCE", BuildStatus.SUCCEEDED)
    end(world, batch, "one", BuildStatus.SUCCEEDED, VERSION="7")
    unit = action(world.call("GET", f"/executions/{started['id']}").json, "Test", "Unit")
    assert unit["status"] == "InProgress"
    end(world, batch, "two", BuildStatus.FAILED)
    unit = action(world.call("GET", f"/executions/{started['id']}").json, "Test", "Unit")
    assert (unit["status"], unit["summary"]) == ("Failed", "build batch 1: FAILED, two: FAILED")
    assert unit["outputVariables"] == {"one_VERSION": "7"}


def test_what_is_not_combined_cannot_be_handed_on(world: Hooks) -> None:
    handing = BATCHED.replace("name: batched", "name: handing").replace(
        'CombineArtifacts: "false"}', 'CombineArtifacts: "false"}\n    outputArtifacts: [{name: Made}]'
    )
    applied = world.call("PUT", "/pipelines", json={"document": handing})
    assert applied.status_code == 200, applied.text
    unit = action(world.start("handing"), "Test", "Unit")
    assert (unit["status"], unit["buildId"]) == ("Failed", None)
    assert "set CombineArtifacts to true" in unit["summary"]


def test_an_execution_that_is_abandoned_stops_its_batch(world: Hooks) -> None:
    started = world.start("batched")
    batch = action(started, "Test", "Unit")["buildId"]
    stopped = world.call("POST", f"/executions/{started['id']}/stop", as_="publisher", json={"abandon": True})
    assert stopped.status_code == 200, stopped.text
    world.work()
    assert world.call("GET", f"/build-batches/{batch}").json["endingAs"] == "STOPPED"
    assert world.call("GET", f"/build-batches/{batch}").json["buildBatchStatus"] == "STOPPED"
