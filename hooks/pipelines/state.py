"""What an execution does next, as arithmetic over statuses (CodePipeline "stages and actions"). Pure.

The same rows always give the same steps, so that asking again after a crash, or twice, is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import attrgetter


class ExecutionStatus(StrEnum):
    """CodePipeline's execution statuses. Cancelled is known so that imported histories keep it."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"
    CANCELLED = "Cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens any more, unless somebody retries a stage."""
        return self not in {ExecutionStatus.IN_PROGRESS, ExecutionStatus.STOPPING}


class StageStatus(StrEnum):
    """The statuses of a stage that was entered."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_open(self) -> bool:
        """Whether actions of the stage may still run or start."""
        return self in {StageStatus.IN_PROGRESS, StageStatus.STOPPING}


class ActionStatus(StrEnum):
    """The statuses of an action that was started. ``Waiting`` is an unanswered approval (CodePipeline: InProgress)."""

    IN_PROGRESS = "InProgress"
    WAITING = "Waiting"
    SUCCEEDED = "Succeeded"
    ABANDONED = "Abandoned"
    FAILED = "Failed"

    @property
    def is_running(self) -> bool:
        """Whether its end is still to come."""
        return self in {ActionStatus.IN_PROGRESS, ActionStatus.WAITING}


@dataclass(frozen=True, slots=True)
class ActionView:
    """An action as far as it matters here; ``status`` None: not started (or given back by a retry)."""

    name: str
    run_order: int
    status: ActionStatus | None


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage with its actions; ``status`` None: not entered."""

    name: str
    status: StageStatus | None
    actions: tuple[ActionView, ...]


@dataclass(frozen=True, slots=True)
class View:
    """An execution with all stages of its definition, in order."""

    status: ExecutionStatus
    stages: tuple[StageView, ...]


@dataclass(frozen=True, slots=True)
class EnterStage:
    """The execution goes into the stage."""

    stage: str


@dataclass(frozen=True, slots=True)
class StartAction:
    """The action starts now, at the same time as the others of the same plan."""

    stage: str
    action: str


@dataclass(frozen=True, slots=True)
class EndStage:
    """The stage has ended so."""

    stage: str
    status: StageStatus


@dataclass(frozen=True, slots=True)
class EndExecution:
    """The execution has ended so."""

    status: ExecutionStatus


Step = EnterStage | StartAction | EndStage | EndExecution

_WORSE = (ActionStatus.SUCCEEDED, ActionStatus.ABANDONED, ActionStatus.FAILED)
_STAGE_OF = {
    ActionStatus.SUCCEEDED: StageStatus.SUCCEEDED,
    ActionStatus.ABANDONED: StageStatus.STOPPED,
    ActionStatus.FAILED: StageStatus.FAILED,
}
_EXECUTION_OF = {
    StageStatus.STOPPED: ExecutionStatus.STOPPED,
    StageStatus.FAILED: ExecutionStatus.FAILED,
    StageStatus.CANCELLED: ExecutionStatus.CANCELLED,
}


def worst_of(statuses: Iterable[ActionStatus]) -> ActionStatus:
    """The worst of ended actions: Failed before Abandoned before Succeeded; Succeeded for none."""
    return max(statuses, key=_WORSE.index, default=ActionStatus.SUCCEEDED)


def plan(view: View) -> list[Step]:
    """The steps to take now; empty while something runs or waits, and when the execution has ended.

    Actions of one runOrder start together. After the first failure those that run come to their end, no further group
    starts, and the stage ends with the worst result. While stopping nothing starts; an execution all of whose stages
    had succeeded by then has succeeded.
    """
    if view.status.is_final:
        return []
    for stage in view.stages:
        if stage.status is not StageStatus.SUCCEEDED:
            return _steps_in(stage, is_stopping=view.status is ExecutionStatus.STOPPING)
    return [EndExecution(ExecutionStatus.SUCCEEDED)]


def _steps_in(stage: StageView, *, is_stopping: bool) -> list[Step]:
    if stage.status is None:
        return [EndExecution(ExecutionStatus.STOPPED)] if is_stopping else [EnterStage(stage.name)]
    if not stage.status.is_open:
        return [EndExecution(_EXECUTION_OF[stage.status])]
    started = [action.status for action in stage.actions if action.status is not None]
    is_running = any(status.is_running for status in started)
    worst = worst_of(status for status in started if not status.is_running)
    if worst is not ActionStatus.SUCCEEDED:
        return [] if is_running else [EndStage(stage.name, _STAGE_OF[worst])]
    group = _current_group(stage.actions)
    if not group:
        return [EndStage(stage.name, StageStatus.SUCCEEDED)]
    if is_stopping:
        return [] if is_running else [EndStage(stage.name, StageStatus.STOPPED)]
    return [StartAction(stage.name, action.name) for action in group if action.status is None]


def _current_group(actions: Sequence[ActionView]) -> list[ActionView]:
    """The actions of the lowest runOrder that has not wholly succeeded."""
    order = attrgetter("run_order")
    for _, members in groupby(sorted(actions, key=order), key=order):
        group = list(members)
        if any(action.status is not ActionStatus.SUCCEEDED for action in group):
            return group
    return []
