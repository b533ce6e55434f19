"""Archives of sources that have had their time: let go of here, their bodies removed by the sweep after its grace."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hooks.builds.cache_rows import touch_blobs
from hooks.builds.output_care import is_in_use
from hooks.models.deployment import Deployment, DeploymentGroup, DeploymentInstallation
from hooks.models.pipeline import Execution
from hooks.models.pipeline_source import SourceRevision
from registry import audit
from registry.db import Database

ACTOR = "server"
_BATCH = 200


def expire_archives(db: Database, days: int, now: datetime) -> int:
    """Let go of archives that are older than ``days`` (0: never); how many.

    Left alone are those of executions that run, or that a running rollback goes back to, of what is on a machine, of running
    deployments, and of what a group would go back to. The execution still tells commit and digest; a retry of its source
    stage fetches the commit again.
    """
    if not days:
        return 0
    count = 0
    last: tuple[int, str] | None = (0, "")
    while last is not None:
        done, last = db.retry(partial(_expire_batch, before=now - timedelta(days=days), now=now, last=last))
        count += done
    return count


def _expire_batch(
    session: Session, *, before: datetime, now: datetime, last: tuple[int, str]
) -> tuple[int, tuple[int, str] | None]:
    rows = session.scalars(
        select(SourceRevision)
        .join(Execution, Execution.id == SourceRevision.execution_id)
        .where(
            SourceRevision.blob_id.is_not(None),
            SourceRevision.created_at < before,
            ~is_in_use(),
            or_(
                SourceRevision.execution_id > last[0],
                (SourceRevision.execution_id == last[0]) & (SourceRevision.action > last[1]),
            ),
        )
        .order_by(SourceRevision.execution_id, SourceRevision.action)
        .limit(_BATCH)
    ).all()
    needed = _needed(session) if rows else set()
    doomed = [row for row in rows if f"{row.execution_id}/{row.action}" not in needed]
    if doomed:
        touch_blobs(session, [row.blob_id for row in doomed if row.blob_id is not None], now)
        size_bytes = sum(row.size_bytes for row in doomed)
        for row in doomed:
            row.blob_id = None
        audit.record(session, now, ACTOR, "source.expire", "server", archives=len(doomed), size_bytes=size_bytes)
    following = (rows[-1].execution_id, rows[-1].action) if len(rows) == _BATCH else None
    return len(doomed), following


def _needed(session: Session) -> set[str]:
    good = select(DeploymentGroup.last_successful_id).where(DeploymentGroup.deleted_at.is_(None))
    running = select(Deployment.revision, Deployment.previous_revision).where(
        or_(Deployment.completed_at.is_(None), Deployment.id.in_(good))
    )
    revisions = [revision for row in session.execute(running) for revision in row]
    revisions += session.scalars(select(DeploymentInstallation.revision)).all()
    sources = [revision.get("source") for revision in revisions if revision is not None]
    return {str(source["id"]) for source in sources if isinstance(source, dict)}
