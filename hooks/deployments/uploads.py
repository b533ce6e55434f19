"""Bundles that people send to be deployed: the domain's blobs, kept for a week, and as long as something may need them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentUpload,
)
from registry.repos.kept_rows import ensure_blob
from storage.blobs import BlobHandle

LIFE = timedelta(days=7)
"""So long can what was uploaded be deployed; what is deployed somewhere stays, so that it can come back."""
MAX_BYTES = 2 * 1024**3


def keep_upload(
    session: Session,
    application: DeploymentApplication,
    domain_id: int,
    handle: BlobHandle,
    bundle_type: str,
    who: str,
    now: datetime,
) -> tuple[DeploymentUpload, bool]:
    """Make the row of a received bundle, and forget those whose time is over; whether the body was new to the domain."""
    forget_uploads(session, now)
    kept = ensure_blob(session, domain_id, handle, now)
    row = DeploymentUpload(
        id=str(uuid.uuid4()),
        application_id=application.id,
        blob_id=kept.id,
        sha256=handle.digest,
        size_bytes=handle.size_bytes,
        bundle_type=bundle_type,
        uploaded_by=who,
        created_at=now,
        expires_at=now + LIFE,
    )
    session.add(row)
    session.flush()
    return row, kept.handle.locator == handle.locator


def forget_uploads(session: Session, now: datetime) -> int:
    """Delete the rows whose time is over; how many. The sweep takes the bytes.

    Left alone is what a running deployment brings, what is on a machine, and what a group would go back to.
    """
    old = session.scalars(select(DeploymentUpload.id).where(DeploymentUpload.expires_at < now)).all()
    if not old:
        return 0
    doomed = sorted(set(old) - _needed(session))
    if doomed:
        session.execute(delete(DeploymentUpload).where(DeploymentUpload.id.in_(doomed)))
    return len(doomed)


def _needed(session: Session) -> set[str]:
    last = select(DeploymentGroup.last_successful_id).where(DeploymentGroup.deleted_at.is_(None))
    running = select(Deployment.revision, Deployment.previous_revision).where(
        or_(Deployment.completed_at.is_(None), Deployment.id.in_(last))
    )
    needed = {upload for row in session.execute(running) for upload in _uploads(row)}
    return needed | set(_uploads(session.scalars(select(DeploymentInstallation.revision))))


def _uploads(revisions: Iterable[dict[str, object] | None]) -> Iterable[str]:
    for revision in revisions:
        if revision is not None and isinstance(upload := revision.get("upload"), dict):
            yield str(upload["id"])
