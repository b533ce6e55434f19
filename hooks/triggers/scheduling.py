"""Schedules that are due: each starts its pipeline once with what is newest, and says when it is due again."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import PipelineSchedule
from hooks.pipelines.current import current_definition
from hooks.pipelines.engine import REFUSALS, Start, Trigger
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import SYSTEM
from hooks.pipelines.sources.schedules import parse_schedule
from hooks.triggers.newest import start_with_newest
from registry import audit
from registry.db import Database

ACTOR = "schedule"
_AT_ONCE = 20


def run_due(db: Database, parts: Parts) -> int:
    """Start what is due; how many schedules were. What was due while nobody looked counts once.

    Any number of processes may do this: start and next moment are one transaction, and the row is locked in it.
    """
    with db.read() as session:
        now = parts.clock()
        due = session.execute(
            select(PipelineSchedule.pipeline_id, PipelineSchedule.position)
            .where(PipelineSchedule.next_at <= now)
            .order_by(PipelineSchedule.next_at)
            .limit(_AT_ONCE)
        ).all()
    for pipeline_id, position in due:
        db.retry(partial(_run, parts=parts, at=(pipeline_id, position)))
    return len(due)


def _run(session: Session, parts: Parts, at: tuple[int, int]) -> None:
    now = parts.clock()
    row = session.get(PipelineSchedule, at, with_for_update=True, populate_existing=True)
    if row is None or row.next_at is None or row.next_at > now:
        return  # another process was quicker
    due, row.next_at = row.next_at, parse_schedule(row.expression, row.time_zone).after(now)
    row.fault = ""
    session.flush()
    fault = _start(session, parts, row, due, now)
    if fault:
        row.fault = fault[:1000]
        name = session.get_one(Pipeline, row.pipeline_id).name
        about = {"reason": fault[:500], "schedule": row.expression}
        audit.record(session, now, SYSTEM, "execution.refuse", f"pipeline/{name}", **about)


def _start(session: Session, parts: Parts, row: PipelineSchedule, due: datetime, now: datetime) -> str:
    trigger = Trigger("schedule", f"schedule:{row.position}:{due.isoformat()}", ACTOR)
    try:
        with session.begin_nested():
            _, definition = current_definition(session, row.pipeline_id)
            start_with_newest(session, parts, row.pipeline_id, definition, Start(), trigger=trigger, now=now)
    except REFUSALS as refusal:
        return str(refusal)
    return ""
