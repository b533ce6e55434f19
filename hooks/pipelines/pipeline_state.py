"""The state of a pipeline, stage by stage (CodePipeline's GetPipelineState, in its names)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, StageExecution
from hooks.models.pipeline_condition import PipelineFreeze, StageHold
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.pipelines import condition_views, freezes, holds, job_courses, store
from hooks.pipelines.definition import Slot, StageDefinition
from hooks.pipelines.inbound import HOLD, keepers
from hooks.pipelines.state import ExecutionStatus

MOST_INBOUND = 500


@dataclass(frozen=True, slots=True)
class StageExecutionState:
    """An execution as a stage has it: ``status`` is the stage's own, or the execution's while it waits before it."""

    pipeline_execution_id: int
    status: str
    type: str


@dataclass(frozen=True, slots=True)
class TransitionState:
    """The way into a stage; ``disabled_reason`` is of a closed one."""

    enabled: bool
    last_changed_by: str | None
    last_changed_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class LatestAction:
    """The attempt at an action that counts. ``token`` is an approval's.

    ``external_execution_id`` is the id of its build, deployment or execution, or what a worker calls it, and
    ``external_execution_url`` where that is looked at, below this server's address or at the worker's. ``percent_complete``
    is as a worker told it.
    """

    action_execution_id: int
    status: str
    summary: str
    last_status_change: datetime
    token: str | None
    external_execution_id: str | None
    external_execution_url: str | None
    last_updated_by: str | None
    percent_complete: int | None = None


@dataclass(frozen=True, slots=True)
class ActionState:
    """An action; ``latest_execution`` None: not started in the stage's latest execution.

    ``entity_url`` is where a worker shows what the action is about, ``current_revision`` what it said it worked on.
    """

    action_name: str
    latest_execution: LatestAction | None
    entity_url: str | None = None
    current_revision: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RetryStageMetadata:
    """How often the latest execution of a stage was retried, and how last: ``AutomatedStageRetry``, ``ManualStageRetry``."""

    auto_stage_retry_attempt: int
    manual_stage_retry_attempt: int
    latest_retry_trigger: str


@dataclass(frozen=True, slots=True)
class HoldState:
    """What keeps a package out of a stage after a manual rollback, until somebody releases it.

    ``rollback_execution_id`` has rolled back, from what ``from_execution_id`` had brought there (null: nothing is known).
    """

    domain: str
    repository: str
    package: str
    rollback_execution_id: int
    from_execution_id: int | None
    held_by: str
    held_at: datetime


@dataclass(frozen=True, slots=True)
class FreezeState:
    """A freeze window that keeps executions out of a stage now."""

    name: str
    reason: str
    created_by: str
    until: datetime


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage: what waits before it (``inbound_execution`` is the newest of them), and what was in it last or still is.

    ``freeze`` and ``holds`` keep executions before it. The conditions are those of the latest execution.
    """

    stage_name: str
    inbound_execution: StageExecutionState | None
    inbound_executions: tuple[StageExecutionState, ...]
    inbound_transition_state: TransitionState
    action_states: tuple[ActionState, ...]
    latest_execution: StageExecutionState | None
    before_entry_condition_state: condition_views.StageConditionState | None
    on_success_condition_state: condition_views.StageConditionState | None
    on_failure_condition_state: condition_views.StageConditionState | None
    retry_stage_metadata: RetryStageMetadata | None
    freeze: FreezeState | None
    holds: tuple[HoldState, ...]


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A pipeline's stages as they are now, in order; after them stages of older definitions that still hold something."""

    pipeline_name: str
    pipeline_version: int
    execution_mode: str
    created: datetime
    updated: datetime
    stage_states: tuple[StageState, ...]

    def stage(self, name: str) -> StageState:
        """The stage of that name. Raises StopIteration for one that is not there."""
        return next(stage for stage in self.stage_states if stage.stage_name == name)


def get_pipeline_state(
    session: Session, name: str, may_see: Callable[[store.ExecutionSummary], bool], now: datetime
) -> PipelineState:
    """The state of a pipeline. Executions that ``may_see`` denies are left out, as if they were not. Raises NotFound.

    Of those that wait the newest ``MOST_INBOUND`` are told, however many a closed stage has collected.
    """
    view = store.get_pipeline(session, name)
    pipeline = session.get_one(Pipeline, view.id)
    slots = {row.stage: row for row in session.scalars(select(StageSlot).where(StageSlot.pipeline_id == view.id))}
    waiting: dict[str, list[int]] = {}
    for row in session.scalars(
        select(InboundExecution)
        .where(InboundExecution.pipeline_id == view.id)
        .order_by(InboundExecution.execution_id.desc())
        .limit(MOST_INBOUND)
    ):
        waiting.setdefault(row.stage, []).append(row.execution_id)
    latest = _latest(session, view.id)
    kept = holds.holds_of(session, view.id)
    told = {row.execution_id for row in latest.values()} | {each for ids in waiting.values() for each in ids}
    told |= {row.rollback_id for row in kept}
    seen = {summary.id: summary for summary in store.summaries(session, told) if may_see(summary)}
    latest = {stage: row for stage, row in latest.items() if row.execution_id in seen}
    actions = _actions(session, [row.id for row in latest.values()])
    judged = condition_views.states_of(session, [row.id for row in latest.values()])
    courses = job_courses.of_actions(session, list(actions.values()))
    held = {stage for stage, slot in slots.items() if not slot.is_open or slot.occupant_id is not None} | set(waiting)
    current = {stage.name for stage in view.definition.stages}
    stages = (*view.definition.stages, *(StageDefinition(stage, ()) for stage in sorted(held - current)))
    frozen = freezes.frozen_stages(session, view.id, [stage.name for stage in stages], now)
    return PipelineState(
        name,
        view.version,
        view.definition.execution_mode.value,
        pipeline.created_at,
        pipeline.updated_at,
        tuple(
            _with_gates(
                _stage(
                    stage,
                    slots.get(stage.name),
                    waiting.get(stage.name, ()),
                    latest.get(stage.name),
                    actions,
                    seen=seen,
                    courses=courses,
                ),
                judged.get(latest[stage.name].id, {}) if stage.name in latest else {},
                latest.get(stage.name),
                _freeze(frozen.get(stage.name), now),
                tuple(_hold(row) for row in kept if row.stage == stage.name and row.rollback_id in seen),
            )
            for stage in stages
        ),
    )


def _with_gates(
    state: StageState,
    judged: Mapping[Slot, condition_views.StageConditionState],
    latest: StageExecution | None,
    freeze: FreezeState | None,
    kept: tuple[HoldState, ...],
) -> StageState:
    retries = None
    if latest is not None and latest.latest_retry is not None:
        by_hand = latest.attempt - 1 - latest.auto_retries
        retries = RetryStageMetadata(latest.auto_retries, by_hand, latest.latest_retry)
    return replace(
        state,
        before_entry_condition_state=judged.get(Slot.BEFORE_ENTRY),
        on_success_condition_state=judged.get(Slot.ON_SUCCESS),
        on_failure_condition_state=judged.get(Slot.ON_FAILURE),
        retry_stage_metadata=retries,
        freeze=freeze,
        holds=kept,
    )


def _freeze(row: PipelineFreeze | None, now: datetime) -> FreezeState | None:
    until = None if row is None else freezes.holds_until(row, now)
    return None if row is None or until is None else FreezeState(row.name, row.reason, row.created_by, until)


def _hold(row: StageHold) -> HoldState:
    package = holds.full_name(row)
    return HoldState(row.domain, row.repository, package, row.rollback_id, row.from_id, row.held_by, row.held_at)


def why_inbound(session: Session, execution: store.ExecutionView, now: datetime) -> str:
    """What an execution waits for before a stage, in words; empty for one that waits before none."""
    stage = execution.inbound_stage
    if stage is None:
        return ""
    keeper = keepers(session, [execution], now)[execution.summary.id]
    if keeper.kind == HOLD:
        return f"Held before {stage}: {keeper.told}."
    return f"Waits before {stage}: {keeper.told}."


def is_frozen_out(session: Session, execution: store.ExecutionView, now: datetime) -> bool:
    """Whether a freeze window keeps an execution out of a stage, so that somebody could let it through."""
    if ExecutionStatus(execution.summary.status).is_final:
        return False
    return freezes.keeps_out(session, session.get_one(Execution, execution.summary.id), now) is not None


def _latest(session: Session, pipeline_id: int) -> Mapping[str, StageExecution]:
    """Stage → how the execution that entered it last is, or was, in it."""
    newest = (
        select(func.max(StageExecution.id))
        .join(Execution, Execution.id == StageExecution.execution_id)
        .where(Execution.pipeline_id == pipeline_id)
        .group_by(StageExecution.name)
    )
    return {row.name: row for row in session.scalars(select(StageExecution).where(StageExecution.id.in_(newest)))}


def _actions(session: Session, stage_executions: Sequence[int]) -> Mapping[tuple[int, str], ActionExecution]:
    rows = session.scalars(
        select(ActionExecution).where(
            ActionExecution.stage_execution_id.in_(stage_executions), ActionExecution.is_current
        )
    )
    return {(row.stage_execution_id, row.name): row for row in rows}


def _stage(
    stage: StageDefinition,
    slot: StageSlot | None,
    waiting: Sequence[int],
    latest: StageExecution | None,
    actions: Mapping[tuple[int, str], ActionExecution],
    *,
    seen: Mapping[int, store.ExecutionSummary],
    courses: Mapping[str, job_courses.JobCourse],
) -> StageState:
    inbound = tuple(
        StageExecutionState(each, seen[each].status, seen[each].execution_type) for each in waiting if each in seen
    )
    transition = TransitionState(enabled=True, last_changed_by=None, last_changed_at=None, disabled_reason=None)
    if slot is not None:
        transition = TransitionState(slot.is_open, slot.changed_by, slot.changed_at, slot.disabled_reason)
    found = {action.name: actions.get((latest.id, action.name)) if latest else None for action in stage.actions}
    last = None
    if latest is not None:
        execution = seen[latest.execution_id]
        last = StageExecutionState(execution.id, latest.status, execution.execution_type)
    return StageState(
        stage.name,
        inbound[0] if inbound else None,
        inbound,
        transition,
        tuple(_action_state(name, row, courses) for name, row in found.items()),
        last,
        before_entry_condition_state=None,
        on_success_condition_state=None,
        on_failure_condition_state=None,
        retry_stage_metadata=None,
        freeze=None,
        holds=(),
    )


def _action_state(name: str, row: ActionExecution | None, courses: Mapping[str, job_courses.JobCourse]) -> ActionState:
    if row is None:
        return ActionState(name, None)
    course = courses.get(row.action_job_id or "", job_courses.NONE)
    return ActionState(name, _latest_action(row, course), course.entity_url, course.current_revision)


def _latest_action(row: ActionExecution, course: job_courses.JobCourse) -> LatestAction:
    return LatestAction(
        row.id,
        row.status,
        row.summary,
        row.ended_at or row.started_at,
        row.token if row.status == "Waiting" else None,
        row.build_id or row.deployment_id or _number(row.invoked_execution_id) or course.external_execution_id,
        _external_url(row) or course.external_execution_url,
        row.decided_by,
        course.percent_complete,
    )


def _number(number: int | None) -> str | None:
    return None if number is None else str(number)


def _external_url(row: ActionExecution) -> str | None:
    if row.build_id is not None:
        return f"/builds/{row.build_id}"
    if row.invoked_execution_id is not None:
        return f"/executions/{row.invoked_execution_id}"
    return f"/deployments/{row.deployment_id}" if row.deployment_id is not None else None
