"""Artifacts and caches that have had their time: forgotten here, their bodies removed by the sweep after its grace."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, String, cast, delete, exists, func, literal, or_, select
from sqlalchemy.orm import Session, aliased

from hooks.builds import cache_rows
from hooks.builds.phases import BuildStatus
from hooks.models import ActionArtifact, ActionJob, Build, BuildArtifact, BuildCache, Execution
from registry import audit
from registry.db import Database

LOG = logging.getLogger("entrepot.care")
ACTOR = "server"
_BATCH = 200
_RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long outputs stay. 0: no limit. ``artifact_count`` is how many builds of a project keep their artifacts."""

    artifact_days: int = 90
    artifact_count: int = 0
    cache_days: int = 30


def expire(db: Database, retention: Retention, now: datetime, *, dry_run: bool = False) -> tuple[int, int]:
    """Forget what is over its time: (artifacts, caches). What a running pipeline may still hand on stays."""
    artifacts = caches = 0
    while True:
        with db.read() as session:
            old, unused = _old_artifacts(session, retention, now), _unused_caches(session, retention, now)
        if dry_run:
            return len(old), len(unused)
        if not old and not unused:
            break
        db.retry(partial(_forget, artifacts=old[:_BATCH], caches=unused[:_BATCH], now=now))
        artifacts, caches = artifacts + len(old[:_BATCH]), caches + len(unused[:_BATCH])
    if retention.artifact_days and not dry_run:
        artifacts += db.retry(partial(_forget_of_jobs, before=now - timedelta(days=retention.artifact_days), now=now))
    if artifacts or caches:
        LOG.info("builds: %d artifacts and %d caches are over their time and forgotten", artifacts, caches)
    return artifacts, caches


def is_in_use() -> ColumnElement[bool]:
    """Of an execution: whether it runs, or is what a running rollback goes back to, and so may hand on what it has made."""
    rollback = aliased(Execution)
    targets = select(rollback.rollback_target_id).where(
        rollback.status.in_(_RUNNING), rollback.rollback_target_id.is_not(None)
    )
    return or_(Execution.status.in_(_RUNNING), Execution.id.in_(targets))


def _old_artifacts(session: Session, retention: Retention, now: datetime) -> Sequence[int]:
    reasons: list[ColumnElement[bool]] = []
    if retention.artifact_days:
        reasons.append(BuildArtifact.created_at < now - timedelta(days=retention.artifact_days))
    if retention.artifact_count:
        newest = func.dense_rank().over(partition_by=Build.project_id, order_by=Build.number.desc())
        ranked = select(BuildArtifact.id, newest.label("place")).join(Build, Build.id == BuildArtifact.build_id)
        numbered = ranked.subquery()
        reasons.append(BuildArtifact.id.in_(select(numbered.c.id).where(numbered.c.place > retention.artifact_count)))
    if not reasons:
        return []
    subject = literal("execution:") + cast(Execution.id, String)
    is_needed = exists().where(Build.subject == subject, is_in_use())
    query = (
        select(BuildArtifact.id)
        .join(Build, Build.id == BuildArtifact.build_id)
        .where(or_(*reasons), Build.status != BuildStatus.IN_PROGRESS.value, ~is_needed)
    )
    return session.scalars(query.order_by(BuildArtifact.id)).all()


def _forget_of_jobs(session: Session, *, before: datetime, now: datetime) -> int:
    """Forget what jobs of actions have left, by their age alone."""
    is_needed = exists().where(ActionJob.execution_id == Execution.id, is_in_use())
    query = (
        select(ActionArtifact)
        .join(ActionJob, ActionJob.id == ActionArtifact.job_id)
        .where(ActionArtifact.created_at < before, ~is_needed)
    )
    rows = session.scalars(query).all()
    if rows:
        cache_rows.touch_blobs(session, [row.blob_id for row in rows], now)
        session.execute(delete(ActionArtifact).where(ActionArtifact.id.in_([row.id for row in rows])))
        size_bytes = sum(row.size_bytes for row in rows)
        audit.record(session, now, ACTOR, "artifact.expire", "server", artifacts=len(rows), size_bytes=size_bytes)
    return len(rows)


def _unused_caches(session: Session, retention: Retention, now: datetime) -> Sequence[int]:
    if not retention.cache_days:
        return []
    before = now - timedelta(days=retention.cache_days)
    return session.scalars(select(BuildCache.id).where(BuildCache.used_at < before).order_by(BuildCache.id)).all()


def _forget(session: Session, artifacts: Sequence[int], caches: Sequence[int], now: datetime) -> None:
    rows = session.scalars(select(BuildArtifact).where(BuildArtifact.id.in_(artifacts))).all()
    if rows:
        cache_rows.touch_blobs(session, [row.blob_id for row in rows], now)
        session.execute(delete(BuildArtifact).where(BuildArtifact.id.in_([row.id for row in rows])))
        size_bytes = sum(row.size_bytes for row in rows)
        audit.record(session, now, ACTOR, "artifact.expire", "server", artifacts=len(rows), size_bytes=size_bytes)
    cache_rows.remove(session, caches, now, "not used")
