"""Stages that let in one execution at a time, as rows (CodePipeline "How executions work").

Every function wants the pipeline locked (``run.lock`` and ``run.lock_pipeline`` do it): a stage is entered, left and
waited for by one transaction at a time. Executions of PARALLEL definitions have nothing to do with any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution, StageExecution
from hooks.models.pipeline_condition import StageHold
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.pipelines import freezes, holds
from hooks.pipelines.definition import ExecutionMode


@dataclass(frozen=True, slots=True)
class Way:
    """How an execution came into a stage: past a freeze, where ``passed_by`` has let it through for ``pass_reason``."""

    passed_by: str | None = None
    pass_reason: str | None = None


OPEN_WAY = Way()


def slot_of(session: Session, pipeline_id: int, stage: str) -> StageSlot:
    """The row of a stage, as it is now; made if it is not there."""
    found = session.scalar(
        select(StageSlot).where(StageSlot.pipeline_id == pipeline_id, StageSlot.stage == stage),
        execution_options={"populate_existing": True},
    )
    if found is None:
        found = StageSlot(pipeline_id=pipeline_id, stage=stage, is_open=True)
        session.add(found)
        session.flush()
    return found


def try_to_enter(session: Session, execution: Execution, stage: str, now: datetime) -> Way | None:
    """Go into a stage that is free and open, or (None) wait before it behind all that started earlier and may enter.

    A freeze window keeps out whom nobody has let through it, a hold the package that it is about.
    """
    slot = slot_of(session, execution.pipeline_id, stage)
    waiting = session.get(InboundExecution, execution.id)
    if slot.occupant_id is None and slot.is_open and _first(session, execution.pipeline_id, stage, now, execution):
        slot.occupant_id = execution.id
        return _come_in(session, waiting)
    if waiting is None:
        _wait(session, execution, stage, now)
    return None


def occupy(session: Session, execution: Execution, stage: str) -> None:
    """Take a free stage without coming through its transition: a retry's or a rollback's way in."""
    slot_of(session, execution.pipeline_id, stage).occupant_id = execution.id
    session.flush()


def leave(session: Session, execution: Execution, stage: str) -> bool:
    """Free a stage of its occupant; whether it was this execution."""
    slot = slot_of(session, execution.pipeline_id, stage)
    if slot.occupant_id != execution.id:
        return False
    slot.occupant_id = None
    session.flush()
    return True


def stop_waiting(session: Session, execution: Execution) -> None:
    """The execution waits nowhere any more."""
    session.execute(delete(InboundExecution).where(InboundExecution.execution_id == execution.id))


def next_inbound(session: Session, pipeline_id: int, stage: str, now: datetime) -> int | None:
    """The execution that is to enter a stage now: the first that waits and may, if the stage is free and open."""
    first = _first(session, pipeline_id, stage, now)
    if first is None:
        return None
    slot = slot_of(session, pipeline_id, stage)
    return first if slot.is_open and slot.occupant_id is None else None


def may_come_in(session: Session, execution: Execution, stage: str, now: datetime) -> Way | None:
    """The way of an execution that meets no other; None: it waits before the stage until a freeze ends."""
    waits = exists().where(InboundExecution.execution_id == execution.id)
    # Mostly there is neither, and then nothing is read.
    if not session.scalar(select(or_(waits, freezes.any_of(execution.pipeline_id)))):
        return OPEN_WAY
    waiting = session.get(InboundExecution, execution.id)
    has_passed = waiting is not None and waiting.passed_by is not None
    if not has_passed and _frozen(session, execution.pipeline_id, stage, now, only=execution.id):
        if waiting is None:
            _wait(session, execution, stage, now)
        return None
    return _come_in(session, waiting)


def superseded_by(session: Session, execution: Execution, stage: str) -> Sequence[int]:
    """Those whose place an arriving execution takes: older ones of its package that wait there to be superseded."""
    return session.scalars(
        _waiting(stage)
        .where(*same_package(execution), Execution.id < execution.id, Execution.mode == ExecutionMode.SUPERSEDED)
        .order_by(Execution.id)
    ).all()


def is_overtaken(session: Session, execution: Execution, stage: str) -> bool:
    """Whether a newer execution of the same package waits before the stage, or has been in it.

    It takes a definition that changed meanwhile, so that the newer one had fewer stages to go through. A rollback does
    not count: it brings nothing newer.
    """
    newer = (*same_package(execution), Execution.id > execution.id, Execution.mode != ExecutionMode.PARALLEL)
    if session.scalar(_waiting(stage).where(*newer).limit(1)) is not None:
        return True
    return session.scalar(_entered(stage).where(*newer, Execution.execution_type == "STANDARD").limit(1)) is not None


def newer_inbound(session: Session, execution: Execution, stage: str, now: datetime) -> int | None:
    """The newest execution of the same package that waits before a stage, started later and may enter, if any."""
    newer = _waiting(stage).where(
        *same_package(execution), Execution.id > execution.id, Execution.mode != ExecutionMode.PARALLEL
    )
    newest = session.scalar(newer.order_by(Execution.id.desc()).limit(1))
    if newest is None:
        return None
    if _package(execution) in {_package(row) for row in holds.holds_of(session, execution.pipeline_id, stage)}:
        return None
    if _frozen(session, execution.pipeline_id, stage, now):
        passed = newer.where(InboundExecution.passed_by.is_not(None))
        return session.scalar(passed.order_by(Execution.id.desc()).limit(1))
    return newest


def entered_later(session: Session, execution: Execution, stage: StageExecution) -> int | None:
    """An execution of the same package that entered the stage after this one did, if any."""
    return session.scalar(
        _entered(stage.name)
        .where(*same_package(execution), Execution.mode != ExecutionMode.PARALLEL, StageExecution.id > stage.id)
        .limit(1)
    )


def _come_in(session: Session, waiting: InboundExecution | None) -> Way:
    way = OPEN_WAY
    if waiting is not None:
        way = Way(waiting.passed_by, waiting.pass_reason)
        session.delete(waiting)
    session.flush()
    return way


def _wait(session: Session, execution: Execution, stage: str, now: datetime) -> None:
    session.add(
        InboundExecution(execution_id=execution.id, pipeline_id=execution.pipeline_id, stage=stage, arrived_at=now)
    )
    session.flush()


def _frozen(session: Session, pipeline_id: int, stage: str, now: datetime, only: int | None = None) -> bool:
    """Whether a freeze keeps executions out; if so the stage is looked at again when it ends."""
    row = freezes.frozen(session, pipeline_id, stage, now)
    until = None if row is None else freezes.holds_until(row, now)
    if until is None:
        return False
    freezes.thaw_later(session, pipeline_id, freezes.look_again_at(until, now), now, only=only)
    return True


def _first(
    session: Session, pipeline_id: int, stage: str, now: datetime, coming: Execution | None = None
) -> int | None:
    """The first that may enter of those that wait; with ``coming`` its own number if it is that, else None."""
    statement = (
        select(InboundExecution, Execution)
        .join(Execution, Execution.id == InboundExecution.execution_id)
        .where(InboundExecution.pipeline_id == pipeline_id, InboundExecution.stage == stage)
        .where(Execution.mode != ExecutionMode.PARALLEL)
        .order_by(InboundExecution.execution_id)
    )
    if coming is None and session.execute(statement.limit(1)).first() is None:
        return None
    held = {_package(row) for row in holds.holds_of(session, pipeline_id, stage)}
    has_freezes = session.scalar(select(freezes.any_of(pipeline_id)))
    is_frozen = bool(has_freezes) and _frozen(session, pipeline_id, stage, now)
    if coming is not None:
        statement = statement.where(InboundExecution.execution_id <= coming.id)
    # Whoever waits longest is the first, unless something keeps out some of them and not others.
    rows = session.execute(statement if held or is_frozen else statement.limit(1))
    waiting: list[tuple[InboundExecution | None, Execution]] = [(row[0], row[1]) for row in rows]
    if coming is not None and all(execution.id != coming.id for _, execution in waiting):
        waiting.append((None, coming))
    for inbound, execution in waiting:
        has_passed = inbound is not None and inbound.passed_by is not None
        if _package(execution) not in held and (has_passed or not is_frozen):
            return execution.id if coming is None or coming.id == execution.id else None
    return None


def _package(row: Execution | StageHold) -> tuple[str, ...]:
    return (row.domain, row.repository, row.format, row.namespace, row.name)


def _waiting(stage: str) -> Select[int]:
    return (
        select(Execution.id)
        .join(InboundExecution, InboundExecution.execution_id == Execution.id)
        .where(InboundExecution.stage == stage)
    )


def _entered(stage: str) -> Select[int]:
    return (
        select(Execution.id)
        .join(StageExecution, StageExecution.execution_id == Execution.id)
        .where(StageExecution.name == stage)
    )


def same_package(execution: Execution) -> tuple[ColumnElement[bool], ...]:
    """Of the same pipeline and about the same package: a source is a pattern, and one package must not oust another."""
    columns = (
        Execution.pipeline_id,
        Execution.domain,
        Execution.repository,
        Execution.format,
        Execution.namespace,
        Execution.name,
    )
    return tuple(column == getattr(execution, column.key) for column in columns)
