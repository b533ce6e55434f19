"""Batch builds, planned: which builds there are, what the project allows, what starts when, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.builds.batch_parts import Reading
from hooks.builds.batch_plan import (
    DOWNLOAD_SOURCE,
    BatchView,
    EndBatch,
    SkipTask,
    StartTask,
    Task,
    TaskStatus,
    WindDown,
    plan,
    to_retry,
)
from hooks.builds.batch_tasks import BatchSettings, config_faults, environment_of, expand, merged
from hooks.builds.phases import BuildStatus
from hooks.builds.spec import parse_buildspec
from registry.errors import InvalidDocument

ENDS = [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.FAULT, TaskStatus.TIMED_OUT, TaskStatus.STOPPED]
DONE, FAILED, RUNS = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.IN_PROGRESS
PROJECT: dict[str, Any] = {"type": "process", "network": "registry", "variables": {"A": "project", "B": "project"}}


def read(batch: str, **options: Any) -> tuple[list[str], Reading]:
    reading = Reading(options.pop("settings", BatchSettings()), {**PROJECT, **options}, ("process", "container"))
    faults = reading.take(parse_buildspec(f"version: 0.2\nphases: {{}}\nbatch: {batch}"))
    return list(faults), reading


# --- what starts when ------------------------------------------------------------------------------------------------


def test_a_list_starts_at_once_and_a_graph_as_its_dependencies_let_it() -> None:
    assert plan(BatchView((Task("a"), Task("b")))) == [StartTask("a"), StartTask("b")]
    graph = (Task("a", DONE), Task("b", RUNS), Task("c", depends_on=("a",)), Task("d", depends_on=("a", "b")))
    assert plan(BatchView(graph)) == [StartTask("c")]


def test_what_depends_on_a_failure_is_skipped_unless_the_failure_is_ignored() -> None:
    after = Task("b", depends_on=("a",))
    assert plan(BatchView((Task("a", FAILED), after))) == [SkipTask("b")]
    assert plan(BatchView((Task("a", FAILED, ignore_failure=True), after))) == [StartTask("b")]
    # One that never ran has not failed, and nobody can say what would have come of it.
    skipped = Task("a", TaskStatus.SKIPPED, ignore_failure=True)
    assert plan(BatchView((skipped, after))) == [SkipTask("b")]


def test_a_failure_that_counts_fails_the_batch_when_all_has_ended() -> None:
    assert plan(BatchView((Task("a", FAILED), Task("b", RUNS)))) == []
    assert plan(BatchView((Task("a", FAILED), Task("b", DONE)))) == [EndBatch(BuildStatus.FAILED)]
    ignored = Task("a", FAILED, ignore_failure=True)
    assert plan(BatchView((ignored, Task("b", DONE)))) == [EndBatch(BuildStatus.SUCCEEDED)]


def test_fast_fail_stops_what_runs_at_the_first_failure_that_counts() -> None:
    others = (Task("b", RUNS), Task("c"))
    assert plan(BatchView((Task("a", FAILED), *others), fast_fail=True)) == [SkipTask("c"), WindDown(("b",))]
    ignored = Task("a", FAILED, ignore_failure=True)
    assert plan(BatchView((ignored, *others), fast_fail=True)) == [StartTask("c")]


def test_a_batch_that_is_stopped_ends_when_all_that_ran_has_ended() -> None:
    running = BatchView((Task("a", RUNS), Task("b")), ending=BuildStatus.STOPPED)
    assert plan(running) == [SkipTask("b"), WindDown(("a",))]
    ended = BatchView((Task("a", DONE), Task("b", TaskStatus.SKIPPED)), ending=BuildStatus.TIMED_OUT)
    assert plan(ended) == [EndBatch(BuildStatus.TIMED_OUT)]


def test_a_retry_of_what_failed_takes_what_depends_on_it_along() -> None:
    first = Task(DOWNLOAD_SOURCE, DONE)
    tasks = [first, Task("a", DONE), Task("b", FAILED), Task("c", DONE, ("b",)), Task("d", TaskStatus.SKIPPED, ("c",))]
    assert to_retry(tasks, only_failed=True) == {"b", "c", "d"}
    assert to_retry(tasks, only_failed=False) == {"a", "b", "c", "d"}
    assert to_retry([Task(DOWNLOAD_SOURCE, FAILED)], only_failed=False) == {DOWNLOAD_SOURCE}


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    """Tasks that depend only on earlier ones, in any order."""
    size = draw(st.integers(1, 7))
    tasks = [
        Task(
            str(number),
            depends_on=tuple(draw(st.sets(st.sampled_from([str(n) for n in range(number)]))) if number else ()),
            ignore_failure=draw(st.booleans()),
        )
        for number in range(size)
    ]
    return draw(st.permutations(tasks))


@settings(max_examples=40, deadline=None)
@given(graphs(), st.booleans(), st.data())
def test_any_batch_comes_to_one_end_that_its_builds_explain(
    tasks: list[Task], fast_fail: bool, data: st.DataObject
) -> None:
    state = {task.identifier: task for task in tasks}
    ending = None
    started: list[str] = []
    for _ in range(100):
        steps = plan(BatchView(tuple(state.values()), fast_fail, ending))
        if steps and isinstance(steps[0], EndBatch):
            break
        for step in steps:
            if isinstance(step, StartTask):
                task = state[step.identifier]
                needed = [state[name] for name in task.depends_on]
                assert all(each.status is DONE or (each.ignore_failure and each.status in ENDS) for each in needed)
                assert ending is None
                started.append(step.identifier)
                state[step.identifier] = change(task, RUNS)
            elif isinstance(step, SkipTask):
                state[step.identifier] = change(state[step.identifier], TaskStatus.SKIPPED)
        running = [task for task in state.values() if task.status is RUNS]
        assert running or any(isinstance(step, SkipTask) for step in steps), "it waits for nothing"
        if running:
            task = data.draw(st.sampled_from(running))
            state[task.identifier] = change(task, data.draw(st.sampled_from(ENDS)))
        if data.draw(st.integers(0, 9)) == 0:
            ending = BuildStatus.STOPPED
    else:
        pytest.fail("it never ended")
    assert len(started) == len(set(started))
    assert not any(task.status.is_open for task in state.values())
    counted = any(
        task.status in ENDS and task.status is not DONE and not task.ignore_failure for task in state.values()
    )
    assert steps == [EndBatch(ending or (BuildStatus.FAILED if counted else BuildStatus.SUCCEEDED))]
    if not counted and ending is None:
        skipped = [task for task in state.values() if task.status is TaskStatus.SKIPPED]
        assert skipped == []


def change(task: Task, status: TaskStatus) -> Task:
    return Task(task.identifier, status, task.depends_on, task.ignore_failure)


# --- which builds there are ------------------------------------------------------------------------------------------


def test_a_matrix_is_every_way_to_choose() -> None:
    faults, reading = read(
        "{build-matrix: {static: {ignore-failure: true, env: {type: LINUX_CONTAINER, variables: {B: static}}},"
        " dynamic: {buildspec: [a.yml, b.yml], env: {image: [localhost/x], variables: {V: ['3.10', '3.11'], W: [w]}}}}}"
    )
    assert faults == []
    tasks = [task for task, _ in reading.tasks]
    assert [task.identifier for task in tasks] == ["matrix_1", "matrix_2", "matrix_3", "matrix_4"]
    assert {task.ignore_failure for task in tasks} == {True}
    assert [(task.chosen["buildspec"], task.chosen["$V"]) for task in tasks] == [
        ("a.yml", "3.10"), ("a.yml", "3.11"), ("b.yml", "3.10"), ("b.yml", "3.11"),
    ]  # fmt: skip
    assert reading.tasks[1][1] == {
        "type": "container",
        "network": "registry",
        "image": "localhost/x",
        "variables": {"A": "project", "B": "static", "V": "3.11", "W": "w"},
    }


def test_a_matrix_has_an_end() -> None:
    values = str([str(number) for number in range(11)])
    matrix = f"{{build-matrix: {{dynamic: {{env: {{variables: {{A: {values}, B: {values}}}}}}}}}}}"
    with pytest.raises(InvalidDocument) as caught:
        parse_buildspec(f"version: 0.2\nphases: {{}}\nbatch: {matrix}")
    assert any("makes 121 builds; at most 100" in fault for fault in caught.value.faults)


def test_a_fanout_is_so_many_shards() -> None:
    batch = parse_buildspec(
        "version: 0.2\nphases: {}\nbatch: {build-fanout: {parallelism: 3, ignore-failure: yes}}"
    ).batch
    assert batch is not None
    assert [(task.identifier, task.shard, task.ignore_failure) for task in expand(batch)] == [
        ("fanout_1", (0, 3), True), ("fanout_2", (1, 3), True), ("fanout_3", (2, 3), True),
    ]  # fmt: skip


def test_a_builds_own_environment_wins_over_the_projects() -> None:
    faults, reading = read(
        "{fast-fail: true, build-list: [{identifier: a, buildspec: ci/a.yml,"
        " env: {compute-type: BUILD_GENERAL1_SMALL, privileged-mode: false, variables: {A: mine}}}, {identifier: b}]}",
        privilegedMode=True,
    )
    (one, environment), (other, plain) = reading.tasks
    assert (faults, reading.fast_fail) == ([], True)
    assert (one.buildspec, other.buildspec) == ("ci/a.yml", None)
    assert (environment["computeType"], environment["privilegedMode"]) == ("BUILD_GENERAL1_SMALL", False)
    assert environment["variables"] == {"A": "mine", "B": "project"}
    assert plain == {**PROJECT, "privilegedMode": True}
    assert environment_of(other, PROJECT) == PROJECT


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{identifier: a, env: {privileged-mode: true}}", "a buildspec cannot give it"),
        ("{identifier: a, env: {fleet: arn}}", "there are no fleets"),
        ("{identifier: DOWNLOAD_SOURCE}", "the build is called which reads the batch"),
        ("{identifier: a, env: {type: nothing}}", "environment.type 'nothing'"),
        ("{identifier: a, env: {type: LINUX_CONTAINER, compute-type: HUGE}}", "computeType 'HUGE'"),
        ("{identifier: a, buildspec: ../other.yml}", "neither the text of one nor a path"),
    ],
)
def test_what_a_build_of_a_batch_cannot_have(task: str, words: str) -> None:
    (fault,), _ = read(f"{{build-list: [{task}]}}")
    assert words in fault


def test_restrictions_are_held_against_what_the_section_expands_to() -> None:
    restricted = BatchSettings.of(
        {"restrictions": {"maximumBuildsAllowed": 1, "computeTypesAllowed": ["BUILD_GENERAL1_SMALL"]}}
    )
    batch = "{build-list: [{identifier: a, env: {compute-type: BUILD_GENERAL1_LARGE}}, {identifier: b}]}"
    faults, _ = read(batch, settings=restricted, computeType="BUILD_GENERAL1_SMALL")
    assert faults == [
        "the batch has 2 builds, and the project allows 1 (maximumBuildsAllowed)",
        "build a: compute-type is 'BUILD_GENERAL1_LARGE', and the project allows BUILD_GENERAL1_SMALL (computeTypesAllowed)",
    ]


def test_a_start_changes_the_batch_config_and_cannot_lift_what_the_project_restricts() -> None:
    ours = {"timeoutInMins": 10, "restrictions": {"maximumBuildsAllowed": 4, "computeTypesAllowed": ["A", "B"]}}
    more = {"combineArtifacts": True, "restrictions": {"maximumBuildsAllowed": 9, "computeTypesAllowed": ["B", "C"]}}
    assert merged(ours, more) == {
        "timeoutInMins": 10,
        "combineArtifacts": True,
        "restrictions": {"maximumBuildsAllowed": 4, "computeTypesAllowed": ["B"]},
    }
    assert merged({}, {}) == {}


@pytest.mark.parametrize(
    "config",
    [
        {"timeoutInMins": 4},
        {"batchReportMode": "NO"},
        {"restrictions": {"maximumBuildsAllowed": 0}},
        {"restrictions": {"fleetsAllowed": []}},
        {"restrictions": {"computeTypesAllowed": "A"}},
        {"combineArtifacts": "yes"},
        {"more": 1},
    ],
)
def test_a_batch_config_is_checked(config: dict[str, Any]) -> None:
    assert len(config_faults(config)) == 1


def test_a_document_without_a_batch_starts_none() -> None:
    reading = Reading(BatchSettings(), PROJECT, ("process",))
    assert reading.take(parse_buildspec("version: 0.2\nphases: {}")) == ["the document has no batch section"]
