import pytest

from hooks.pipelines.state import (
    ActionStatus,
    ActionView,
    EndExecution,
    EndStage,
    EnterStage,
    ExecutionStatus,
    StageStatus,
    StageView,
    StartAction,
    View,
    plan,
    worst_of,
)

S, F, R, W, A = (
    ActionStatus.SUCCEEDED,
    ActionStatus.FAILED,
    ActionStatus.IN_PROGRESS,
    ActionStatus.WAITING,
    ActionStatus.ABANDONED,
)
GOING, STOPPING = ExecutionStatus.IN_PROGRESS, ExecutionStatus.STOPPING
OPEN = StageStatus.IN_PROGRESS


def view(status, *stages):
    return View(
        status,
        tuple(
            StageView(name, stage_status, tuple(ActionView(f"a{i}", order, s) for i, (order, s) in enumerate(actions)))
            for name, stage_status, actions in stages
        ),
    )


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([(1, None), (1, None), (2, None)], [StartAction("A", "a0"), StartAction("A", "a1")]),
        ([(1, R), (1, S), (2, None)], []),
        ([(1, W)], []),
        ([(1, S), (1, S), (7, None)], [StartAction("A", "a2")]),
        ([(7, None), (1, S)], [StartAction("A", "a0")]),
        ([(1, F), (1, R), (2, None)], []),
        ([(1, F), (1, W), (2, None)], []),
        ([(1, F), (1, S), (2, None)], [EndStage("A", StageStatus.FAILED)]),
        ([(1, A), (1, S)], [EndStage("A", StageStatus.STOPPED)]),
        ([(1, A), (1, F)], [EndStage("A", StageStatus.FAILED)]),
        ([(1, S), (2, S)], [EndStage("A", StageStatus.SUCCEEDED)]),
        # a retry took the failed one back: it starts beside its still running sibling
        ([(1, None), (1, R), (2, None)], [StartAction("A", "a0")]),
    ],
)
def test_within_a_stage(actions, expected):
    assert plan(view(GOING, ("A", OPEN, actions))) == expected


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([(1, R), (1, None)], []),
        ([(1, S), (2, None)], [EndStage("A", StageStatus.STOPPED)]),
        ([(1, S), (2, S)], [EndStage("A", StageStatus.SUCCEEDED)]),
        ([(1, F), (1, R)], []),
        ([(1, F), (1, S)], [EndStage("A", StageStatus.FAILED)]),
    ],
)
def test_while_stopping_nothing_starts(actions, expected):
    assert plan(view(STOPPING, ("A", StageStatus.STOPPING, actions))) == expected


@pytest.mark.parametrize(
    ("status", "first", "second", "expected"),
    [
        (GOING, None, None, [EnterStage("A")]),
        (GOING, StageStatus.SUCCEEDED, None, [EnterStage("B")]),
        (STOPPING, StageStatus.SUCCEEDED, None, [EndExecution(ExecutionStatus.STOPPED)]),
        (GOING, StageStatus.FAILED, None, [EndExecution(ExecutionStatus.FAILED)]),
        (STOPPING, StageStatus.STOPPED, None, [EndExecution(ExecutionStatus.STOPPED)]),
        (STOPPING, StageStatus.FAILED, None, [EndExecution(ExecutionStatus.FAILED)]),
        (GOING, StageStatus.SUCCEEDED, StageStatus.SUCCEEDED, [EndExecution(ExecutionStatus.SUCCEEDED)]),
        (STOPPING, StageStatus.SUCCEEDED, StageStatus.SUCCEEDED, [EndExecution(ExecutionStatus.SUCCEEDED)]),
    ],
)
def test_between_stages(status, first, second, expected):
    ended = [(1, S)]
    assert plan(view(status, ("A", first, ended), ("B", second, ended))) == expected


@pytest.mark.parametrize("status", [s for s in ExecutionStatus if s.is_final])
def test_nothing_follows_the_end(status):
    assert plan(view(status, ("A", OPEN, [(1, None)]))) == []


def test_worst_of():
    assert worst_of([]) is S
    assert worst_of([S, A, S]) is A
    assert worst_of([A, F, S]) is F
