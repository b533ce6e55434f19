"""What a pipeline's source has fetched, as a source of builds and a bundle of deployments: pinned by digest."""

from __future__ import annotations

from typing import BinaryIO, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.project import SourceSettings, SourceType
from hooks.models.pipeline_source import SourceRevision
from registry.db import Database
from registry.errors import NotFound
from registry.models import Blob
from registry.stores import DomainStores, handle_of
from storage.errors import Damaged, Missing, StorageError
from storage.reader import open_file


def identifier_of_revision(execution_id: int, action: str) -> str:
    """How what a source action has fetched is named: ``17/Source``."""
    return f"{execution_id}/{action}"


def find_revision(session: Session, identifier: str) -> tuple[SourceRevision, Blob]:
    """What a source action has fetched, with its body. Raises NotFound."""
    execution_id, _, action = identifier.partition("/")
    row = None
    if execution_id.isascii() and execution_id.isdigit() and len(execution_id) <= 9:
        row = session.execute(
            select(SourceRevision, Blob)
            .join(Blob, Blob.id == SourceRevision.blob_id)
            .where(SourceRevision.execution_id == int(execution_id), SourceRevision.action == action)
        ).first()
    if row is None:
        raise NotFound("source revision", identifier)
    return row[0], row[1]


def revision_source(session: Session, identifier: str, called: str) -> tuple[SourceSettings, SourceRevision]:
    """It as a source ``called`` so ("" for the primary one), and its row. Raises NotFound."""
    row, _ = find_revision(session, identifier)
    location = f"{identifier}/{row.filename}"
    return SourceSettings(SourceType.REVISION, location, row.sha256, identifier=called), row


def open_revision_archive(db: Database, stores: DomainStores, source: SourceSettings) -> BinaryIO:
    """The bytes of such a source. Raises Refused when they are gone or others, ExecutorError when they cannot be had now."""
    identifier = source.location.rpartition("/")[0]
    try:
        with db.read() as session:
            row, blob = find_revision(session, identifier)
        if row.sha256 != source.version:
            raise Refused(f"source {identifier} is not the one that was fetched")
        return cast("BinaryIO", open_file(stores.of(blob.domain_id), handle_of(blob)))
    except (NotFound, Missing, Damaged) as error:
        raise Refused(str(error)) from error
    except StorageError as error:
        raise ExecutorError(f"source {identifier} cannot be read now: {error}") from error
