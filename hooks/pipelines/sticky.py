"""What keeps executions before stages until it is over or somebody lets them: freeze windows and holds, and the way past."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution
from hooks.models.pipeline_condition import StageHold
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines import freezes, holds
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.engine import advance, let_in
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import lock, lock_pipeline
from registry.errors import Conflict, Invalid, NotFound

MAX_REASON_CHARACTERS = 300


def let_through(session: Session, parts: Parts, execution_id: int, *, actor: str, reason: str, now: datetime) -> None:
    """Let an execution that waits before a stage through the freeze windows there, with a reason.

    What else keeps it out, another execution inside, a closed transition or a hold, goes on doing so. Raises NotFound,
    Invalid for no reason or one of more than 300 characters, and Conflict for an execution that no freeze keeps out.
    """
    if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
        raise Invalid(f"a reason of 1 to {MAX_REASON_CHARACTERS} characters is needed")
    run = lock(session, execution_id)
    waiting = session.get(InboundExecution, execution_id, populate_existing=True)
    freeze = None
    if waiting is not None:
        freeze = freezes.frozen(session, waiting.pipeline_id, waiting.stage, now)
    if waiting is None or freeze is None:
        raise Conflict(f"no freeze keeps execution {execution_id} before a stage")
    if waiting.passed_by is not None:
        raise Conflict(f"{waiting.passed_by} has let execution {execution_id} through already")
    waiting.passed_by, waiting.pass_reason = actor, reason
    session.flush()
    run.record(session, now, actor, "freeze.pass", stage=waiting.stage, freeze=freeze.name, reason=reason)
    _move_on(session, parts, run.execution, waiting.stage, now)


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

    ``may`` raises Denied for a hold that the actor has no right to let go. Raises NotFound for the pipeline or the stage,
    and Conflict when nothing is held there.
    """
    row = holds.pipeline_named(session, pipeline)
    lock_pipeline(session, row.id)
    found = holds.holds_of(session, row.id, stage)
    if not found and current_definition(session, row.id)[1].stage(stage) is None:
        raise NotFound("stage", stage)
    for each in found:
        may(each)
    holds.release(session, row, stage, found, actor=actor, reason=reason, now=now)
    let_in(session, parts, row.id, stage, now)
    return len(found)


def thaw(session: Session, parts: Parts, pipeline_id: int, now: datetime) -> None:
    """Let what waits before stages of a pipeline go in as far as it may now. Harmless at any time."""
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


def _move_on(session: Session, parts: Parts, execution: Execution, stage: str, now: datetime) -> None:
    if execution.mode == ExecutionMode.PARALLEL:
        advance(session, parts, execution.id, now)
    else:
        let_in(session, parts, execution.pipeline_id, stage, now)
