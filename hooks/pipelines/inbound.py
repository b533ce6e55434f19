"""What keeps executions out of the stages before which they wait: the one order in which pages and the board tell it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_condition import PipelineFreeze, StageHold
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.pipelines.freezes import covers, holds_until
from hooks.pipelines.holds import full_name
from hooks.pipelines.store import ExecutionView

TRANSITION, HOLD, FREEZE, STAGE = "transition", "hold", "freeze", "stage"


@dataclass(frozen=True, slots=True)
class Keeper:
    """What keeps an execution out of ``stage``: ``kind`` is the closed way in, a hold, a freeze, or who is in the stage.

    ``told`` says it in words that begin small and end without a stop; ``since`` is when it came to this, if that is kept.
    """

    kind: str
    told: str
    since: datetime | None = None


def keepers(session: Session, executions: Collection[ExecutionView], now: datetime) -> Mapping[int, Keeper]:
    """Execution → what keeps it, of those that wait before a stage. Five queries, however many they are."""
    waiting = [each for each in executions if each.inbound_stage is not None]
    if not waiting:
        return {}
    names = {each.summary.pipeline for each in waiting}
    found_ids = session.execute(select(Pipeline.name, Pipeline.id).where(Pipeline.name.in_(names)))
    ids = {row.name: row.id for row in found_ids}
    of_these = StageSlot.pipeline_id.in_(ids.values())
    slots = {(slot.pipeline_id, slot.stage): slot for slot in session.scalars(select(StageSlot).where(of_these))}
    holds = session.scalars(select(StageHold).where(StageHold.pipeline_id.in_(ids.values()))).all()
    freezes = list(session.scalars(select(PipelineFreeze)))  # a few hundred at the most
    passed = set(
        session.scalars(
            select(InboundExecution.execution_id).where(
                InboundExecution.execution_id.in_([each.summary.id for each in waiting]),
                InboundExecution.passed_by.is_not(None),
            )
        )
    )
    found = {}
    for each in waiting:
        pipeline_id, stage = ids[each.summary.pipeline], each.inbound_stage or ""
        slot = slots.get((pipeline_id, stage))
        mine = [row for row in freezes if row.pipeline_id in {None, pipeline_id} and each.summary.id not in passed]
        found[each.summary.id] = (
            _closed(slot, stage)
            or _held(each, pipeline_id, stage, holds)
            or _frozen(each, stage, mine, now)
            or _occupied(slot, stage)
        )
    return found


def _closed(slot: StageSlot | None, stage: str) -> Keeper | None:
    if slot is None or slot.is_open:
        return None
    return Keeper(TRANSITION, f"{slot.changed_by} closed the way into {stage}: {slot.disabled_reason}", slot.changed_at)


def _held(execution: ExecutionView, pipeline_id: int, stage: str, holds: Collection[StageHold]) -> Keeper | None:
    about = execution.summary
    mine = (pipeline_id, stage, about.domain, about.repository, about.format, about.namespace, about.name)
    for row in holds:
        if mine == (row.pipeline_id, row.stage, row.domain, row.repository, row.format, row.namespace, row.name):
            told = f"{row.held_by} rolled {stage} back (#{row.rollback_id}), and until somebody releases it nothing of"
            return Keeper(HOLD, f"{told} {full_name(row)} enters", row.held_at)
    return None


def _frozen(execution: ExecutionView, stage: str, freezes: Collection[PipelineFreeze], now: datetime) -> Keeper | None:
    # No transition leads to the first stage; the route of a rollback begins with the stage that is rolled back.
    if execution.summary.rollback_target_id is None and stage == execution.stages[0].name:
        return None
    holding = [(until, row) for row in freezes if covers(row, stage) and (until := holds_until(row, now)) is not None]
    if not holding:
        return None
    until, row = max(holding, key=lambda each: each[0])
    return Keeper(FREEZE, f"frozen until {until:%Y-%m-%d %H:%M} UTC by {row.name} ({row.reason})")


def _occupied(slot: StageSlot | None, stage: str) -> Keeper:
    inside = f"execution {slot.occupant_id}" if slot is not None and slot.occupant_id else "another execution"
    return Keeper(STAGE, f"{inside} is in stage {stage}, which takes one at a time")
