"""Approvals that end because a newer execution waits behind them (``ExpiresWhenSuperseded``).

An approval holds its stage while it waits. With this setting it lets go of it as soon as a newer execution of the same
package stands before the stage and could come in: the old version's approval expires, the newer one's is asked for.
Every function wants the pipeline locked, as all of ``slots`` does.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hooks.jobs.queue import give_up
from hooks.models.pipeline import ActionExecution, Execution
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines import happenings, slots
from hooks.pipelines.run import SYSTEM, Run, lock
from hooks.pipelines.state import ActionStatus

SETTING = "ExpiresWhenSuperseded"


def give_way(session: Session, run: Run, now: datetime) -> list[Run]:
    """Expire what holds up a newer execution, where ``run`` waits or is; the executions that have to move then."""
    if not run.goes_one_by_one:
        return []
    inbound = session.get(InboundExecution, run.execution.id)
    stages = {stage for (stage, _), row in run.actions.items() if _gives_way(row)}
    if inbound is not None:
        stages.add(inbound.stage)
    return [held for stage in sorted(stages) if (held := at_stage(session, run.execution.pipeline_id, stage, now))]


def at_stage(session: Session, pipeline_id: int, stage: str, now: datetime) -> Run | None:
    """Expire the approvals that wait in a stage for an older execution than one that could come in; that older one."""
    slot = slots.slot_of(session, pipeline_id, stage)
    if slot.occupant_id is None or not slot.is_open:
        return None
    occupant = session.get_one(Execution, slot.occupant_id)
    newer = slots.newer_inbound(session, occupant, stage, now)
    if newer is None:
        return None
    run = lock(session, occupant.id)
    waiting = [row for (owner, _), row in run.actions.items() if owner == stage and _gives_way(row)]
    for row in waiting:
        _expire(session, run, row, newer, now)
    return run if waiting else None


def _gives_way(row: ActionExecution) -> bool:
    return row.status == ActionStatus.WAITING and row.resolved_configuration.get(SETTING) == "true"


def _expire(session: Session, run: Run, row: ActionExecution, newer: int, now: datetime) -> None:
    row.status = ActionStatus.FAILED.value
    row.summary = f"expired: execution {newer} of the same package waits behind it"
    row.decided_by = SYSTEM
    row.ended_at = now
    if row.job_id is not None:
        give_up(session, row.job_id)
    run.record(session, now, SYSTEM, "approval.expire", approval=row.name, superseded_by=newer)
    happenings.tell(session, run, happenings.APPROVAL_EXPIRED, now, action=row.name, superseded_by=newer)
    happenings.tell_action(session, run, row, now)
    session.flush()
