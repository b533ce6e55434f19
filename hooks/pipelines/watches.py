"""Which sources the server asks for news itself (``PollForSourceChanges``): a row for each, as the definition in force says."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from hooks.jobs.queue import enqueue
from hooks.models.pipeline_source import SourceWatch
from hooks.pipelines.actions.git import QUEUE
from hooks.pipelines.definition import GIT_PROVIDERS, PipelineDefinition
from hooks.pipelines.sources.git_settings import settings_of

JOB_KIND = "poll_sources"
EVERY = timedelta(seconds=60)
"""No source is asked more often."""


def keep_watches(session: Session, pipeline_id: int, definition: PipelineDefinition) -> None:
    """Make the rows fit a definition that comes into force. A source that is elsewhere now is looked at anew."""
    held = {
        row.action: row for row in session.scalars(select(SourceWatch).where(SourceWatch.pipeline_id == pipeline_id))
    }
    for action in definition.sources:
        if action.type.provider not in GIT_PROVIDERS:
            continue
        settings = settings_of(action.configuration)
        if not settings.polls:
            continue
        place = f"{settings.connection} {settings.url or settings.full_name} {settings.branch}"
        row = held.pop(action.name, None)
        if row is None:
            row = SourceWatch(pipeline_id=pipeline_id, action=action.name, location="", heads={}, fault="")
            session.add(row)
        if row.location != place:
            row.location, row.heads, row.is_first, row.fault, row.asked_at = place, {}, True, "", None
    for row in held.values():
        session.delete(row)
    session.flush()


def due(now: datetime) -> ColumnElement[bool]:
    """The condition on watches that are to be asked."""
    return or_(SourceWatch.asked_at.is_(None), SourceWatch.asked_at <= now - EVERY)


def enqueue_due(session: Session) -> bool:
    """Put in the one job that asks, unless it is there already."""
    return enqueue(session, JOB_KIND, {}, queue=QUEUE, dedupe=JOB_KIND, timeout_seconds=900) is not None
