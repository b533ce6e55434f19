"""What an execution does next, as arithmetic over statuses (CodePipeline "stages and actions"). Pure.

The same rows always give the same steps, so that asking again after a crash, or twice, is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

from hooks.pipelines.definition import Result, RetryMode, Slot


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
    SKIPPED = "Skipped"

    @property
    def lets_on(self) -> bool:
        """Whether the execution goes on to the next stage."""
        return self in {StageStatus.SUCCEEDED, StageStatus.SKIPPED}

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


class ConditionStatus(StrEnum):
    """The statuses of a condition, and of its rules. ``Errored``: it could not be judged, which is no answer."""

    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ERRORED = "Errored"
    CANCELLED = "Cancelled"
    ABANDONED = "Abandoned"
    OVERRIDDEN = "Overridden"

    @property
    def lets_in(self) -> bool:
        """Whether what it guards goes on."""
        return self in {ConditionStatus.SUCCEEDED, ConditionStatus.OVERRIDDEN}

    @property
    def is_broken_off(self) -> bool:
        """Whether somebody stopped it."""
        return self in {ConditionStatus.CANCELLED, ConditionStatus.ABANDONED}


@dataclass(frozen=True, slots=True)
class ConditionView:
    """A condition that a stage has; ``status`` None: not asked. Without rules (on failure) it holds by itself."""

    result: Result
    status: ConditionStatus | None
    has_rules: bool = True
    retry_mode: RetryMode = RetryMode.FAILED_ACTIONS


@dataclass(frozen=True, slots=True)
class ActionView:
    """An action as far as it matters here; ``status`` None: not started (or given back by a retry)."""

    name: str
    run_order: int
    status: ActionStatus | None


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage with its actions and conditions; ``status`` None: not entered. ``auto_retries`` are those by rule."""

    name: str
    status: StageStatus | None
    actions: tuple[ActionView, ...]
    conditions: Mapping[Slot, ConditionView] = field(default_factory=dict)
    auto_retries: int = 0


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
class AskCondition:
    """The rules of the condition start now, together."""

    stage: str
    slot: Slot


@dataclass(frozen=True, slots=True)
class RetryStage:
    """The stage is tried again by itself."""

    stage: str
    mode: RetryMode


@dataclass(frozen=True, slots=True)
class EndStage:
    """The stage has ended so; ``rolls_back``: it is then run with what succeeded in it last."""

    stage: str
    status: StageStatus
    rolls_back: bool = False


@dataclass(frozen=True, slots=True)
class EndExecution:
    """The execution has ended so."""

    status: ExecutionStatus


Step = EnterStage | AskCondition | StartAction | RetryStage | EndStage | EndExecution

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
    had succeeded by then has succeeded. A skipped stage counts as one that let the execution on.

    What a condition leads to follows from an answer: before entry and on success from rules that failed, on failure from
    rules that are met. One that could not be judged fails the stage, and leads to nothing else. On failure is asked when
    actions have failed, not when a condition has, and not while stopping.
    """
    if view.status.is_final:
        return []
    for stage in view.stages:
        if stage.status is None or not stage.status.lets_on:
            return _steps_in(stage, is_stopping=view.status is ExecutionStatus.STOPPING)
    return [EndExecution(ExecutionStatus.SUCCEEDED)]


def _steps_in(stage: StageView, *, is_stopping: bool) -> list[Step]:
    if stage.status is None:
        return [EndExecution(ExecutionStatus.STOPPED)] if is_stopping else [EnterStage(stage.name)]
    if not stage.status.is_open:
        return [EndExecution(_EXECUTION_OF[stage.status])]
    before = _guarded(stage, Slot.BEFORE_ENTRY, is_stopping=is_stopping)
    if before is not None:
        return before
    started = [action.status for action in stage.actions if action.status is not None]
    is_running = any(status.is_running for status in started)
    worst = worst_of(status for status in started if not status.is_running)
    if worst is not ActionStatus.SUCCEEDED:
        return [] if is_running else _steps_after(stage, worst, is_stopping=is_stopping)
    group = _current_group(stage.actions)
    if not group:
        after = _guarded(stage, Slot.ON_SUCCESS, is_stopping=is_stopping)
        return [EndStage(stage.name, StageStatus.SUCCEEDED)] if after is None else after
    if is_stopping:
        return [] if is_running else [EndStage(stage.name, StageStatus.STOPPED)]
    return [StartAction(stage.name, action.name) for action in group if action.status is None]


def _guarded(stage: StageView, slot: Slot, *, is_stopping: bool) -> list[Step] | None:
    """What the condition before entry or on success has done now; None: it lets on, or there is none."""
    condition = stage.conditions.get(slot)
    if condition is None or (condition.status is not None and condition.status.lets_in):
        return None
    if condition.status is ConditionStatus.IN_PROGRESS:
        return []
    if condition.status is None:
        return [EndStage(stage.name, StageStatus.STOPPED)] if is_stopping else [AskCondition(stage.name, slot)]
    if condition.status.is_broken_off:
        return [EndStage(stage.name, StageStatus.STOPPED)]
    if condition.status is ConditionStatus.FAILED and condition.result is Result.SKIP:
        return [EndStage(stage.name, StageStatus.SKIPPED)]
    rolls_back = condition.status is ConditionStatus.FAILED and condition.result is Result.ROLLBACK
    return [EndStage(stage.name, StageStatus.FAILED, rolls_back)]


def _steps_after(stage: StageView, worst: ActionStatus, *, is_stopping: bool) -> list[Step]:
    """What becomes of a stage whose actions have come to a bad end."""
    ended: list[Step] = [EndStage(stage.name, _STAGE_OF[worst])]
    condition = stage.conditions.get(Slot.ON_FAILURE)
    if worst is not ActionStatus.FAILED or is_stopping or condition is None:
        return ended
    if condition.result is Result.RETRY and stage.auto_retries:
        return ended
    if condition.has_rules and condition.status is None:
        return [AskCondition(stage.name, Slot.ON_FAILURE)]
    if condition.status is ConditionStatus.IN_PROGRESS:
        return []
    if condition.has_rules and condition.status is not ConditionStatus.SUCCEEDED:
        return ended
    match condition.result:
        case Result.RETRY:
            return [RetryStage(stage.name, condition.retry_mode)]
        case Result.SKIP:
            return [EndStage(stage.name, StageStatus.SKIPPED)]
        case result:
            return [EndStage(stage.name, StageStatus.FAILED, rolls_back=result is Result.ROLLBACK)]


def _current_group(actions: Sequence[ActionView]) -> list[ActionView]:
    """The actions of the lowest runOrder that has not wholly succeeded."""
    order = attrgetter("run_order")
    for _, members in groupby(sorted(actions, key=order), key=order):
        group = list(members)
        if any(action.status is not ActionStatus.SUCCEEDED for action in group):
            return group
    return []
