"""Opening and closing the way into a stage (CodePipeline's EnableStageTransition and DisableStageTransition)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_stage import StageSlot
from hooks.pipelines import slots
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.engine import let_in
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import lock_pipeline
from registry import audit
from registry.errors import Conflict, Invalid, NotFound

MAX_REASON_CHARACTERS = 300


def disable_transition(session: Session, pipeline: str, stage: str, *, reason: str, actor: str, now: datetime) -> None:
    """Close a stage: what comes to it waits before it, what is inside goes on. Closing again changes the reason.

    Raises NotFound, Invalid for no reason or one of more than 300 characters, and Conflict for the first stage, to
    which no transition leads, and in a PARALLEL pipeline.
    """
    if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
        raise Invalid(f"a reason of 1 to {MAX_REASON_CHARACTERS} characters is needed")
    row = _locked(session, pipeline)
    _, definition = current_definition(session, row.id)
    if definition.stage(stage) is None:
        raise NotFound("stage", stage)
    if stage == definition.stages[0].name:
        raise Conflict(f"{stage} is the first stage: no transition leads to it")
    if definition.execution_mode is ExecutionMode.PARALLEL:
        raise Conflict(
            "stages of a PARALLEL pipeline cannot be closed; use an approval action, or another executionMode"
        )
    slot = slots.slot_of(session, row.id, stage)
    if not slot.is_open and slot.disabled_reason == reason:
        return
    _change(slot, actor, now, is_open=False, reason=reason)
    audit.record(session, now, actor, "transition.disable", f"pipeline/{pipeline}", stage=stage, reason=reason)


def enable_transition(session: Session, parts: Parts, pipeline: str, stage: str, *, actor: str, now: datetime) -> None:
    """Open a stage and let in what has waited longest; nothing happens to one that is open. Raises NotFound.

    A stage that a later definition no longer has can still be opened: executions of the older one may wait for it.
    """
    row = _locked(session, pipeline)
    slot = session.scalar(select(StageSlot).where(StageSlot.pipeline_id == row.id, StageSlot.stage == stage))
    if slot is None and current_definition(session, row.id)[1].stage(stage) is None:
        raise NotFound("stage", stage)
    if slot is None or slot.is_open:
        return
    _change(slot, actor, now, is_open=True, reason=None)
    audit.record(session, now, actor, "transition.enable", f"pipeline/{pipeline}", stage=stage)
    session.flush()
    let_in(session, parts, row.id, stage, now)


def _locked(session: Session, name: str) -> Pipeline:
    row = session.scalar(select(Pipeline).where(Pipeline.name == name))
    if row is None:
        raise NotFound("pipeline", name)
    lock_pipeline(session, row.id)
    session.refresh(row)
    return row


def _change(slot: StageSlot, actor: str, now: datetime, *, is_open: bool, reason: str | None) -> None:
    slot.is_open = is_open
    slot.disabled_reason = reason
    slot.changed_by = actor
    slot.changed_at = now
