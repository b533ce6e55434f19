"""Holds: after a manual rollback nothing of the package enters the stage again until somebody releases it.

Otherwise the next release that comes along overwrites what somebody has just gone back to. What is held is whatever
comes of the package, newer versions as well: whether they have the same fault nobody can know but people.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution, Pipeline, StageExecution
from hooks.models.pipeline_condition import StageHold
from hooks.pipelines.state import StageStatus
from registry import audit
from registry.errors import Conflict, Invalid, NotFound

MAX_REASON_CHARACTERS = 300
_PACKAGE = ("domain", "repository", "format", "namespace", "name")


def hold(session: Session, rollback: Execution, stage: str, *, actor: str, now: datetime) -> None:
    """Hold a stage against the package that ``rollback`` is about; an earlier hold of it is replaced."""
    same = _of_package(rollback, stage)
    session.execute(delete(StageHold).where(*same))
    session.add(
        StageHold(
            pipeline_id=rollback.pipeline_id,
            stage=stage,
            **{word: getattr(rollback, word) for word in _PACKAGE},
            rollback_id=rollback.id,
            from_id=_before(session, rollback, stage),
            held_by=actor,
            held_at=now,
        )
    )
    session.flush()


def find_hold(session: Session, execution: Execution, stage: str) -> StageHold | None:
    """The hold that keeps an execution out of a stage, if any."""
    return session.scalar(
        select(StageHold).where(*_of_package(execution, stage)), execution_options={"populate_existing": True}
    )


def holds_of(session: Session, pipeline_id: int, stage: str | None = None) -> Sequence[StageHold]:
    """The holds of a pipeline, or of one of its stages, in the order in which they were made."""
    statement = select(StageHold).where(StageHold.pipeline_id == pipeline_id).order_by(StageHold.id)
    return session.scalars(statement if stage is None else statement.where(StageHold.stage == stage)).all()


def release(
    session: Session,
    pipeline: Pipeline,
    stage: str,
    found: Sequence[StageHold],
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """Let go of holds of a stage. Raises Conflict for none, and Invalid for a reason that is too long."""
    if len(reason) > MAX_REASON_CHARACTERS:
        raise Invalid(f"the reason has {len(reason)} characters, at most {MAX_REASON_CHARACTERS} are allowed")
    if not found:
        raise Conflict(f"nothing is held before stage {stage} of pipeline {pipeline.name}")
    for row in found:
        session.delete(row)
    session.flush()
    packages = [f"{row.domain}/{row.repository}/{full_name(row)}" for row in found]
    rollbacks = [row.rollback_id for row in found]
    told = {"stage": stage, "reason": reason, "packages": packages, "rollbacks": rollbacks}
    audit.record(session, now, actor, "hold.release", f"pipeline/{pipeline.name}", **told)


def pipeline_named(session: Session, name: str) -> Pipeline:
    """The row of a pipeline. Raises NotFound."""
    row = session.scalar(select(Pipeline).where(Pipeline.name == name))
    if row is None:
        raise NotFound("pipeline", name)
    return row


def full_name(row: StageHold) -> str:
    """The package's canonical name, behind its namespace if it has one."""
    return f"{row.namespace}/{row.name}" if row.namespace else row.name


def _of_package(execution: Execution, stage: str) -> tuple[ColumnElement[bool], ...]:
    mine: list[ColumnElement[bool]] = [getattr(StageHold, word) == getattr(execution, word) for word in _PACKAGE]
    return (StageHold.pipeline_id == execution.pipeline_id, StageHold.stage == stage, *mine)


def _before(session: Session, rollback: Execution, stage: str) -> int | None:
    """The execution of the package that was in the stage last: what is rolled back away from."""
    mine = [getattr(Execution, word) == getattr(rollback, word) for word in _PACKAGE]
    return session.scalar(
        select(Execution.id)
        .join(StageExecution, StageExecution.execution_id == Execution.id)
        .where(
            Execution.pipeline_id == rollback.pipeline_id,
            *mine,
            Execution.id != rollback.id,
            StageExecution.name == stage,
            StageExecution.status != StageStatus.SKIPPED.value,
        )
        .order_by(StageExecution.id.desc())
        .limit(1)
    )
