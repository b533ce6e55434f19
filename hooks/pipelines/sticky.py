"""What keeps executions before stages until it is over or somebody lets them: freeze windows and holds, and the way past."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution
from hooks.models.pipeline_condition import ConditionExecution, StageHold
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines import freezes, holds
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ExecutionMode, Slot
from hooks.pipelines.engine import advance, let_in, look_at_condition
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import lock, lock_pipeline
from registry.errors import Conflict, Denied, Invalid, NotFound

MAX_REASON_CHARACTERS = 300


def let_through(session: Session, parts: Parts, execution_id: int, *, actor: str, reason: str, now: datetime) -> None:
    """Let an execution that waits to enter a stage through the freeze windows there, with a reason.

    What else keeps it out, another execution inside, a closed transition or a hold, goes on doing so. Raises NotFound,
    Invalid for no reason or one of more than 300 characters, and Conflict for an execution that no freeze keeps out.
    """
    if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
        raise Invalid(f"a reason of 1 to {MAX_REASON_CHARACTERS} characters is needed")
    run = lock(session, execution_id)
    kept = freezes.keeps_out(session, run.execution, now)
    if kept is None:
        raise Conflict(f"no freeze keeps execution {execution_id} out of a stage")
    stage, freeze = kept
    waiting = session.get(InboundExecution, execution_id)
    place = waiting if waiting is not None else run.stages[stage]
    place.passed_by, place.pass_reason = actor, reason
    session.flush()
    run.record(session, now, actor, "freeze.pass", stage=stage, freeze=freeze.name, reason=reason)
    if waiting is None:
        look_at_condition(session, parts, run.conditions[stage, Slot.BEFORE_ENTRY].id, now)
    elif run.goes_one_by_one:
        let_in(session, parts, run.execution.pipeline_id, stage, now)
    else:
        advance(session, parts, execution_id, now)


def release_stage(
    session: Session,
    parts: Parts,
    pipeline: str,
    stage: str,
    *,
    actor: str,
    reason: str,
    now: datetime,
    may: Callable[[StageHold], None],
) -> int:
    """Let what rollbacks have held before a stage enter it again; how many packages that was.

    ``may`` raises Denied or NotFound for a hold that the actor has no right to let go: of several the others are. Raises
    what it raised when none is left, NotFound for the pipeline or the stage, and Conflict when nothing is held there.
    """
    row = holds.pipeline_named(session, pipeline)
    lock_pipeline(session, row.id)
    found = holds.holds_of(session, row.id, stage)
    if not found and current_definition(session, row.id)[1].stage(stage) is None:
        raise NotFound("stage", stage)
    permitted, refusals = [], []
    for each in found:
        try:
            may(each)
        except (Denied, NotFound) as refusal:
            refusals.append(refusal)
        else:
            permitted.append(each)
    if refusals and not permitted:
        raise refusals[0]
    holds.release(session, row, stage, permitted, actor=actor, reason=reason, now=now)
    let_in(session, parts, row.id, stage, now)
    return len(permitted)


def thaw(session: Session, parts: Parts, pipeline_id: int, now: datetime, only: int | None = None) -> None:
    """Let what waits before stages of a pipeline, or is on its way in, go in as far as it may now; ``only``: one execution.

    Harmless at any time.
    """
    if only is not None:
        advance(session, parts, only, now)
        return
    lock_pipeline(session, pipeline_id)
    waiting = session.execute(
        select(InboundExecution.execution_id, InboundExecution.stage, Execution.mode)
        .join(Execution, Execution.id == InboundExecution.execution_id)
        .where(InboundExecution.pipeline_id == pipeline_id)
        .order_by(InboundExecution.execution_id)
    ).all()
    for stage in dict.fromkeys(row.stage for row in waiting if row.mode != ExecutionMode.PARALLEL):
        let_in(session, parts, pipeline_id, stage, now)
    for row in waiting:
        if row.mode == ExecutionMode.PARALLEL:
            advance(session, parts, row.execution_id, now)
    entering = select(ConditionExecution.id).join(Execution).where(Execution.pipeline_id == pipeline_id)
    for condition_id in session.scalars(entering.where(*freezes.WAITS_TO_ENTER).order_by(ConditionExecution.id)).all():
        look_at_condition(session, parts, condition_id, now)
