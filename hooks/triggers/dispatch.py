"""From events to jobs: each event is looked at once, and what follows from it is written in the same transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.database_clock import database_now
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, postpone
from hooks.models.job import Job, JobState
from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.pipelines.definition import from_model
from hooks.pipelines.run import SYSTEM
from hooks.triggers.collect import Coordinates
from hooks.triggers.match import PackageFilter, filter_of
from hooks.triggers.start import JOB_KIND
from registry import audit, events
from registry.db import Database
from registry.models import Event

BATCH = 200
LONGEST_SETTLE_FACTOR = 10
"""Further files put a start off, but for no longer than so many times ``SettleSeconds``."""

_QUEUE = "default"
# Asked five times a second for ever: making it costs more than asking it.
_UNHANDLED = select(Event.id).where(Event.handled_at.is_(None)).limit(1)


Consumer = Callable[[Session, Sequence[Event], datetime], None]
"""Told of a batch of events in the transaction that marks them as handled."""


def dispatch(db: Database, now: datetime, consumers: Sequence[Consumer] = ()) -> int:
    """Turn all unhandled events into jobs, and hand them to ``consumers``; return how many events were handled.

    Any number of dispatchers may run at once, in any number of processes: a batch's events are locked (PostgreSQL
    skips what another holds, SQLite's writers take turns), and marked as handled in the transaction of their jobs.
    """
    handled = 0
    while True:
        with db.read() as session:
            if session.scalar(_UNHANDLED) is None:
                return handled  # idle rounds never take SQLite's write lock
        count = db.retry(lambda session: _dispatch_batch(session, now, consumers))
        handled += count
        if count == 0:
            return handled  # another dispatcher holds what is left


def _dispatch_batch(session: Session, now: datetime, consumers: Sequence[Consumer]) -> int:
    rows = session.scalars(
        select(Event)
        .where(Event.handled_at.is_(None))
        .order_by(Event.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    filters = _filters(session) if rows else []
    for row in rows:
        _dispatch_event(session, row, filters, now)
        row.handled_at = now
    if rows:
        for consume in consumers:
            consume(session, rows, now)
    return len(rows)


def _filters(session: Session) -> Sequence[tuple[int, PackageFilter]]:
    models = session.execute(
        select(Pipeline.id, PipelineDefinitionVersion.model)
        .join(PipelineDefinitionVersion, PipelineDefinitionVersion.pipeline_id == Pipeline.id)
        .where(PipelineDefinitionVersion.version == Pipeline.current_version)
        .order_by(Pipeline.id)
    )
    found = [(pipeline_id, filter_of(from_model(model))) for pipeline_id, model in models]
    return [(pipeline_id, wanted) for pipeline_id, wanted in found if wanted is not None]


def _dispatch_event(session: Session, row: Event, filters: Sequence[tuple[int, PackageFilter]], now: datetime) -> None:
    try:
        event = events.parse(row.kind, row.payload)
    except (KeyError, TypeError) as error:
        # Of a newer or damaged kind: it must not hold up those behind it, and must not vanish without a trace.
        audit.record(session, now, SYSTEM, "event.unreadable", f"event/{row.id}", kind=row.kind, error=str(error))
        return
    if not isinstance(event, events.AssetPublished):
        return
    at = Coordinates(event.domain, event.repository, event.format, event.namespace, event.name, event.version)
    candidate = at.candidate()
    for pipeline_id, package_filter in filters:
        if package_filter.matches(candidate):
            _start_when_settled(session, pipeline_id, at, row.id, package_filter.settle_seconds)


def _start_when_settled(
    session: Session, pipeline_id: int, at: Coordinates, event_id: int, settle_seconds: int
) -> None:
    """One job for all files of a version that arrive together; it runs when none has arrived for ``settle_seconds``."""
    told = f"{at.domain}\n{at.repository}\n{at.format}\n{at.namespace}\n{at.name}\n{at.version}"
    dedupe = f"start:{pipeline_id}:{hashlib.sha256(told.encode()).hexdigest()}"
    if _enqueue(session, pipeline_id, at, dedupe, settle_seconds):
        return
    waited_seconds = session.scalar(
        select(database_now() - Job.enqueued_at).where(
            Job.queue == _QUEUE, Job.dedupe == dedupe, Job.state == JobState.QUEUED
        )
    )
    if waited_seconds is not None:
        left_seconds = settle_seconds * LONGEST_SETTLE_FACTOR - waited_seconds
        if postpone(session, _QUEUE, dedupe, max(0.0, min(float(settle_seconds), left_seconds))):
            return
    # The job runs already and may have read the version before this file was in it: the file gets a job of its own.
    _enqueue(session, pipeline_id, at, f"{dedupe}:{event_id}", settle_seconds)


def _enqueue(session: Session, pipeline_id: int, at: Coordinates, dedupe: str, settle_seconds: int) -> bool:
    payload = {"pipeline_id": pipeline_id, **asdict(at)}
    job_id = enqueue(
        session,
        JOB_KIND,
        payload,
        queue=_QUEUE,
        dedupe=dedupe,
        run_after_seconds=settle_seconds,
        subject=f"pipeline:{pipeline_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    return job_id is not None
