"""Artifacts for who looks at them: which there are, their bytes, and what is in one without unpacking it to a disk."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models import ActionArtifact, BuildArtifact
from registry.errors import NotFound
from registry.models import Blob
from registry.stores import DomainStores, handle_of
from storage.blobs import BlobHandle
from storage.encrypted import EncryptedStore
from storage.reader import open_file

MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 24 * 1024**2
NOT_READABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    zlib.error,
)
"""What the zip module raises over what the sandbox, or who took it over, may have written."""


Artifact = BuildArtifact | ActionArtifact


class Unreadable(Exception):
    """It is no zip that this server reads, or its directory is larger than any that was made here."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an artifact; ``is_link`` for a link that was kept as one."""

    name: str
    size: int
    is_link: bool


def of_build(session: Session, build_id: str) -> Sequence[BuildArtifact]:
    """The artifacts of a build, the primary one first."""
    rows = session.scalars(select(BuildArtifact).where(BuildArtifact.build_id == build_id)).all()
    return sorted(rows, key=lambda row: (row.identifier != "primary", row.identifier))


def find(session: Session, build_id: str, identifier: str) -> tuple[Artifact, Blob]:
    """An artifact of a build, or of a job that a worker has carried out, and its blob. Raises NotFound."""
    row = session.execute(
        select(BuildArtifact, Blob)
        .join(Blob, Blob.id == BuildArtifact.blob_id)
        .where(BuildArtifact.build_id == build_id, BuildArtifact.identifier == identifier)
    ).first()
    if row is not None:
        return row[0], row[1]
    made = session.execute(
        select(ActionArtifact, Blob)
        .join(Blob, Blob.id == ActionArtifact.blob_id)
        .where(ActionArtifact.job_id == build_id, ActionArtifact.identifier == identifier)
    ).first()
    if made is None:
        raise NotFound("artifact", f"{identifier} of build {build_id}")
    return made[0], made[1]


def body_of(stores: DomainStores, blob: Blob) -> tuple[EncryptedStore, BlobHandle]:
    """What reads an artifact's bytes, whole or a range of them."""
    return stores.of(blob.domain_id), handle_of(blob)


def members_of(stores: DomainStores, blob: Blob) -> list[Member]:
    """The files of an artifact, in their order in it. Raises Unreadable, StorageError."""
    with open_file(*body_of(stores, blob)) as body, open_zip(body) as archive:
        return [
            Member(entry.filename, entry.file_size, (entry.external_attr >> 16) & 0o170000 == 0o120000)
            for entry in archive.infolist()
            if not entry.is_dir()
        ]


def open_zip(body: BinaryIO) -> zipfile.ZipFile:
    """A zip whose directory is not too large to be held. Raises Unreadable."""
    try:
        # The very reading that ZipFile does next: what it is about to hold in memory is as large as this says.
        end = zipfile._EndRecData(body)  # type: ignore[attr-defined] # noqa: SLF001
        if end is None:
            raise Unreadable("it has no directory")
        if end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined] # noqa: SLF001
            raise Unreadable(f"its directory is larger than {MAX_DIRECTORY_BYTES} bytes")
        archive = zipfile.ZipFile(body)
    except NOT_READABLE as error:
        raise Unreadable(str(error)) from error
    if len(archive.infolist()) > MAX_MEMBERS:
        raise Unreadable(f"it holds more than {MAX_MEMBERS} files")
    return archive


def filename_of(artifact: Artifact) -> str:
    """What a download is called."""
    last = artifact.name.rpartition("/")[2]
    return last if last.lower().endswith(".zip") else f"{last}.zip"
