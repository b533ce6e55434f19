"""Zips that people send to be built: the domain's blobs, kept for a week."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import BinaryIO, cast

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, Refused
from hooks.models.build import BuildProject
from hooks.models.build_source import BuildUpload
from registry.db import Database
from registry.errors import NotFound
from registry.models import Blob
from registry.repos.kept_rows import ensure_blob
from registry.stores import DomainStores, handle_of
from storage.blobs import BlobHandle
from storage.errors import Damaged, Missing, StorageError
from storage.reader import open_file

LIFE = timedelta(days=7)
"""So long can what was uploaded be built, and built again."""
MAX_BYTES = 2 * 1024**3


def keep_upload(
    session: Session, project: BuildProject, domain_id: int, handle: BlobHandle, who: str, now: datetime
) -> tuple[BuildUpload, bool]:
    """Make the row of a received zip, and forget those whose time is over; whether the body was new to the domain."""
    session.execute(delete(BuildUpload).where(BuildUpload.expires_at < now))
    kept = ensure_blob(session, domain_id, handle, now)
    expires_at = now + LIFE
    # The sweep leaves alone what was used lately: for an upload that is as long as it lives.
    session.execute(
        update(Blob).where(Blob.id == kept.id, Blob.touched_at < expires_at).values(touched_at=expires_at),
        execution_options={"synchronize_session": False},
    )
    row = BuildUpload(
        id=str(uuid.uuid4()),
        project_id=project.id,
        domain_id=domain_id,
        sha256=handle.digest,
        size_bytes=handle.size_bytes,
        uploaded_by=who,
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, kept.handle.locator == handle.locator


def find_upload(session: Session, project: BuildProject, upload_id: str, now: datetime) -> BuildUpload:
    """An upload of this project that still lives. Raises NotFound."""
    row = session.get(BuildUpload, upload_id)
    if row is None or row.project_id != project.id or row.expires_at < now:
        raise NotFound("uploaded source", upload_id)
    return row


def open_upload(db: Database, stores: DomainStores, project_id: int, upload_id: str, sha256: str) -> BinaryIO:
    """The zip. Raises Refused when it is gone (or is another one), ExecutorError when it cannot be had now."""
    with db.read() as session:
        blob = session.scalar(
            select(Blob)
            .join(BuildUpload, (BuildUpload.sha256 == Blob.sha256) & (BuildUpload.domain_id == Blob.domain_id))
            .where(BuildUpload.id == upload_id, BuildUpload.project_id == project_id, BuildUpload.sha256 == sha256)
        )
    if blob is None:
        raise Refused("the uploaded source has expired; upload it again")
    try:
        return cast("BinaryIO", open_file(stores.of(blob.domain_id), handle_of(blob)))
    except (Missing, Damaged) as error:
        raise Refused(f"the uploaded source cannot be read: {error}") from error
    except StorageError as error:
        raise ExecutorError(f"the uploaded source cannot be read now: {error}") from error
