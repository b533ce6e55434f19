"""Schedules as rows: those of a pipeline's definition in force, each with the moment at which it is due next."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline_source import PipelineSchedule
from hooks.pipelines.definition import PipelineDefinition
from hooks.pipelines.sources.schedules import parse_schedule


def keep_schedules(session: Session, pipeline_id: int, definition: PipelineDefinition, now: datetime) -> None:
    """Make the rows fit a definition that comes into force. One that says what it said before keeps its next moment."""
    rows = session.scalars(select(PipelineSchedule).where(PipelineSchedule.pipeline_id == pipeline_id))
    held = {row.position: row for row in rows}
    for position, each in enumerate(definition.schedules):
        row = held.pop(position, None)
        if row is None:
            row = PipelineSchedule(pipeline_id=pipeline_id, position=position, expression="", time_zone="", fault="")
            session.add(row)
        if (row.expression, row.time_zone) != (each.expression, each.time_zone):
            row.expression, row.time_zone, row.fault = each.expression, each.time_zone, ""
            row.next_at = parse_schedule(each.expression, each.time_zone).after(now)
    for row in held.values():
        session.delete(row)
    session.flush()
