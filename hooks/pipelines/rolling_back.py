"""The rows of rollbacks, and those that a condition leads to by itself (CodePipeline's trigger AutomatedRollback)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution, StageExecution
from hooks.pipelines import slots
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.run import SYSTEM, Run
from hooks.pipelines.state import ExecutionStatus, StageStatus

BY_HAND, BY_RULE = "rollback", "auto-rollback"
"""Kinds of triggers: CodePipeline's ManualRollback and AutomatedRollback."""


def new_rollback(target: Execution, stage: str, *, kind: str, identity: str, actor: str, now: datetime) -> Execution:
    """An execution that runs ``stage`` once more with what ``target`` had there."""
    return Execution(
        pipeline_id=target.pipeline_id,
        definition_id=target.definition_id,
        status=ExecutionStatus.IN_PROGRESS.value,
        trigger_kind=kind,
        trigger_identity=identity,
        triggered_by=actor,
        revision_type=target.revision_type,
        domain=target.domain,
        repository=target.repository,
        format=target.format,
        namespace=target.namespace,
        name=target.name,
        version=target.version,
        digest=target.digest,
        assets=dict(target.assets),
        publishers=list(target.publishers),
        variables=dict(target.variables),
        depth=target.depth,
        mode=target.mode,
        execution_type="ROLLBACK",
        rollback_target_id=target.id,
        rollback_stage=stage,
        started_at=now,
    )


def by_rule(session: Session, run: Run, stage: str, now: datetime) -> list[int]:
    """Put a rollback of a stage that ``run`` has just left into it: its number, or nothing where there is none to go back to.

    The target is the last execution of the same package that succeeded there under the definition in force.
    """
    session.flush()
    failed = run.execution
    target = _target(session, failed, stage)
    if target is None or slots.slot_of(session, failed.pipeline_id, stage).occupant_id is not None:
        run.record(session, now, SYSTEM, "stage.no_rollback", stage=stage, reason="nothing has succeeded there before")
        return []
    identity = f"auto-rollback:{failed.id}:{run.stages[stage].id}:{run.stages[stage].attempt}"
    rollback = new_rollback(target, stage, kind=BY_RULE, identity=identity, actor=SYSTEM, now=now)
    session.add(rollback)
    session.flush()
    # In the same breath, before anything that waits could come in.
    slots.occupy(session, rollback, stage)
    return [rollback.id]


def _target(session: Session, failed: Execution, stage: str) -> Execution | None:
    current, definition = current_definition(session, failed.pipeline_id)
    if definition.execution_mode is ExecutionMode.PARALLEL or definition.stage(stage) is None:
        return None
    return session.scalar(
        select(Execution)
        .join(StageExecution, StageExecution.execution_id == Execution.id)
        .where(
            *slots.same_package(failed),
            Execution.definition_id == current.id,
            Execution.rollback_stage.is_(None),
            Execution.id != failed.id,
            StageExecution.name == stage,
            StageExecution.status == StageStatus.SUCCEEDED.value,
        )
        .order_by(StageExecution.ended_at.desc(), StageExecution.id.desc())
        .limit(1)
    )
