"""Builds that stand at breakpoints, in real sandboxes: told, resumed, stopped, and ended by their time-out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from hooks.builds.executor import StopReason
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.inside import STATE
from tests.build_bench import MISSING_SANDBOX, build, eventually, work_directory
from tests.build_outputs import OutputWorld, output_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
SPEC = """version: 0.2
phases: {build: {commands: ['echo before', 'codebuild-breakpoint && echo after']}}
"""


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    with work_directory() as place:
        yield ProcessExecutor(ProcessSettings(place))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutputWorld]:
    with output_world(tmp_path_factory.mktemp("standing")) as made:
        document = {"name": "p", "repository": "dev", "environment": {"network": "none"}}
        document["source"] = {"type": "NO_SOURCE", "buildspec": SPEC}
        assert made.call("PUT", "/build-projects/p", json={"document": json.dumps(document)}).status_code == 200
        yield made


class Standing:
    """Implements ``DebugSession``: hears, and never lets it go on."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stands(self) -> None:
        self.heard.append("stands")

    def goes_on(self) -> bool:
        return False

    def moved(self) -> None:
        self.heard.append("moved")


def test_a_build_stands_until_somebody_who_manages_its_project_resumes_it(world: OutputWorld) -> None:
    started = world.call("POST", "/build-projects/p/builds", as_="publisher", json={"debugSessionEnabled": True})
    assert started.status_code == 201, started.text
    path = f"/builds/{started.json['id']}"
    worker = threading.Thread(target=world.work_off)
    worker.start()
    try:
        shown = eventually(
            lambda: (found := world.call("GET", path).json)["debugSession"]["pausedAt"] and found, "it never stood"
        )
        assert (shown["status"], shown["debugSession"]["sessionEnabled"]) == ("IN_PROGRESS", True)
        assert world.call("POST", f"{path}/resume", as_="publisher").status_code == 403
        resumed = world.call("POST", f"{path}/resume")
        assert (resumed.status_code, resumed.json["debugSession"]["pausedAt"]) == (200, None)
    finally:
        worker.join(60)
    assert world.call("GET", path).json["status"] == "SUCCEEDED"
    log = world.call("GET", f"{path}/log").text
    for line in ("Build is paused at a breakpoint", "Build is resumed", "\nafter\n"):
        assert line in log
    assert world.call("POST", f"{path}/resume").status_code == 409


def test_without_a_session_nothing_stands(executor: ProcessExecutor) -> None:
    outcome, log = build(executor, SPEC)
    assert outcome.status == "SUCCEEDED"
    assert log.output == ["before", "codebuild-breakpoint: this build has no debug session", "after"]


@pytest.mark.long
def test_a_process_of_its_own_can_let_it_go_on(executor: ProcessExecutor) -> None:
    spec = SPEC.replace("echo before", "(sleep 2; codebuild-resume) >/dev/null 2>&1 &")
    standing = Standing()
    outcome, log = build(executor, spec, debug=standing)
    assert outcome.status == "SUCCEEDED", log.text
    assert log.output == ["after"]
    assert standing.heard == ["stands", "moved"]


def test_one_in_the_background_ends_with_its_command(executor: ProcessExecutor) -> None:
    """It holds nothing: a build that goes on is not shown as one that stands."""
    place = STATE / "breakpoint"
    first = f"codebuild-breakpoint >/dev/null 2>&1 & until test -d {place}; do sleep 0.1; done; echo stands"
    standing = Standing()
    spec = {"version": "0.2", "phases": {"build": {"commands": [first, f"test ! -d {place} && echo goes on"]}}}
    outcome, log = build(executor, json.dumps(spec), debug=standing)
    assert outcome.status == "SUCCEEDED", log.text
    assert log.output == ["stands", "goes on"]
    assert standing.heard == ["stands", "moved"]


@pytest.mark.parametrize("ended_by", ["a stop", pytest.param("its time-out", marks=pytest.mark.long)])
def test_a_standing_build_ends_as_any_other(executor: ProcessExecutor, ended_by: str) -> None:
    standing = Standing()

    def interrupt() -> StopReason | None:
        return StopReason.STOPPED if standing.heard and ended_by == "a stop" else None

    seconds = 600.0 if ended_by == "a stop" else 4.0
    outcome, log = build(executor, SPEC, debug=standing, interrupt=interrupt, timeout_seconds=seconds)
    assert outcome.status == ("STOPPED" if ended_by == "a stop" else "TIMED_OUT"), log.text
    assert standing.heard == ["stands"]
    assert log.output == ["before"]
