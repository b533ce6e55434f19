"""Overriding a stage's condition (CodePipeline's OverrideStageCondition): it counts as met, in somebody's name."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hooks.pipelines import conditions, freezes, happenings
from hooks.pipelines.definition import Slot
from hooks.pipelines.engine import advance
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import lock
from hooks.pipelines.state import ConditionStatus, ExecutionStatus, StageStatus
from hooks.pipelines.steering import go_back_in
from registry.errors import Conflict, Invalid, NotFound

MAX_REASON_CHARACTERS = 300
OVERRIDABLE = (Slot.BEFORE_ENTRY, Slot.ON_SUCCESS)
_OPEN = {ConditionStatus.IN_PROGRESS, ConditionStatus.FAILED, ConditionStatus.ERRORED}


def override_condition(
    session: Session, parts: Parts, execution_id: int, stage: str, slot: Slot, *, actor: str, reason: str, now: datetime
) -> None:
    """Let a condition that waits, or that has failed its stage, count as met; the execution goes on from there.

    Raises NotFound, Invalid for no reason or one of more than 300 characters, and Conflict where CodePipeline refuses
    (ConditionNotOverridableException): on failure, for a condition that was answered otherwise, while the execution is
    being stopped, for a stage that was skipped or is frozen, and when another execution of the package has entered the
    stage since.
    """
    if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
        raise Invalid(f"a reason of 1 to {MAX_REASON_CHARACTERS} characters is needed")
    run = lock(session, execution_id)
    if run.definition.stage(stage) is None:
        raise NotFound("stage", stage)
    if slot not in OVERRIDABLE:
        raise Conflict(f"a condition {slot} cannot be overridden, only {' and '.join(OVERRIDABLE)}")
    condition, row = run.conditions.get((stage, slot)), run.stages.get(stage)
    if condition is None or row is None or ConditionStatus(condition.status) not in _OPEN:
        told = "was not asked" if condition is None else f"is {condition.status}"
        raise Conflict(f"condition {slot} of stage {stage} {told}: there is nothing to override")
    if row.status not in {StageStatus.IN_PROGRESS, StageStatus.FAILED} or run.status is ExecutionStatus.STOPPING:
        raise Conflict(f"stage {stage} is {row.status}: there is nothing to override")
    freeze = freezes.frozen(session, run.execution.pipeline_id, stage, now)
    is_outside = row.passed_by is None and not freezes.has_begun(session, row)
    if slot is Slot.BEFORE_ENTRY and freeze is not None and is_outside:
        raise Conflict(
            f"stage {stage} is frozen by {freeze.name}: an administrator can let the execution through first"
        )
    if row.status == StageStatus.FAILED:
        if run.goes_one_by_one:
            go_back_in(session, run, row)
        row.status = StageStatus.IN_PROGRESS.value
        row.ended_at = None
        run.execution.status = ExecutionStatus.IN_PROGRESS.value
        run.execution.ended_at = None
    conditions.end_override(session, parts, condition, now, actor=actor, reason=reason)
    run.record(session, now, actor, "condition.override", stage=stage, condition=slot.value, reason=reason)
    happenings.tell_condition(session, run, stage, condition, now)
    advance(session, parts, execution_id, now)
