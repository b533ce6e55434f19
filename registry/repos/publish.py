"""Publishing: the bytes are in the store already; here one short transaction makes them a file of a version.

Files, audit entry and event are written together: what is acknowledged is durable, and what is announced happened.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.access import Action
from registry.clock import Clock
from registry.db import Database
from registry.errors import Denied, FileExists, Invalid, NotFound, Unavailable
from registry.format import Format, Release
from registry.models import Blob, Package, PackageVersion
from registry.repos import shelf
from registry.repos.admission import Admission, Admissions, Credential
from registry.stores import DomainStores
from storage.blobs import BlobHandle, BlobStore
from storage.errors import StorageError
from storage.intake import receive

log = logging.getLogger("entrepot.publish")


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did: ``is_new`` is False when the identical file was here already."""

    filename: str
    is_new: bool


class Publisher:
    """Publishes files. Safe for many threads and processes."""

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        admissions: Admissions,
        formats: Mapping[str, Format],
        clock: Clock,
    ) -> None:
        self._db = db
        self._formats = formats
        self._stores = stores
        self._admissions = admissions
        self._clock = clock

    def publish(
        self,
        admission: Admission,
        credential: Credential | None,
        format_name: str,
        release: Release,
        handle: BlobHandle,
        hashes: Mapping[str, str],
    ) -> Published:
        """Make the received body a file of ``release``. Consumes ``handle``: on any failure its body is removed.

        Raises FileExists for another body of that name, Denied for a name that came from an upstream, and what
        admission raises when the right was withdrawn while the upload ran.
        """
        store = self._stores.of(admission.domain_id)
        bodies = [handle]
        try:
            document = None
            if release.metadata_document is not None:
                body = io.BytesIO(release.metadata_document)
                document = receive(body, store, limit_bytes=len(release.metadata_document)).handle
                bodies.append(document)
            self._admissions.admit(
                credential, Action.PUBLISH, admission.domain, admission.repository, now=self._clock()
            )

            def unit(session: Session) -> tuple[Published, list[BlobHandle]]:
                return self._insert(session, admission, format_name, release, handle, hashes, document)

            done, unneeded = shelf.settle(self._db, unit)
        except Unavailable:
            # The commit's outcome may be unknown: a body that a row might refer to is the sweep's to judge, not ours.
            raise
        except BaseException:
            _discard(store, bodies)
            raise
        _discard(store, unneeded)
        return done

    def _insert(
        self,
        session: Session,
        admission: Admission,
        format_name: str,
        release: Release,
        handle: BlobHandle,
        hashes: Mapping[str, str],
        document: BlobHandle | None,
    ) -> tuple[Published, list[BlobHandle]]:
        now = self._clock()
        everything = [handle, *([document] if document else [])]
        package = shelf.ensure_package(
            session,
            admission.repository_id,
            format_name,
            "",
            release.name,
            display_name=release.display_name,
            origin=shelf.PUBLISHED,
            now=now,
        )
        if package.origin == shelf.UPSTREAM:
            raise Denied(
                f"{release.name} came to {admission.path} from an upstream, so publishing under that name is blocked"
            )
        if _is_here(session, package, release.filename, handle.digest):
            return Published(release.filename, is_new=False), everything
        sort_key = self._formats[format_name].sort_key
        version = _ensure_version(session, package, release, sort_key, actor=admission.actor, now=now)
        blob, took = shelf.ensure_blob(session, admission.domain_id, handle, now)
        unused = [] if took else [handle]
        metadata_blob: Blob | None = None
        if document is not None:
            metadata_blob, took = shelf.ensure_blob(session, admission.domain_id, document, now)
            unused += [] if took else [document]
        shelf.add_asset(
            session,
            version,
            release.filename,
            blob,
            hashes=hashes,
            extra=release.extra,
            metadata_blob=metadata_blob,
            published_at=now,
            published_by=admission.actor,
        )
        announce(session, admission, format_name, release, version.version, handle.digest, now=now)
        return Published(release.filename, is_new=True), unused


def _discard(store: BlobStore, bodies: Sequence[BlobHandle]) -> None:
    """Remove bodies that no row refers to. One that cannot be removed now is left to the sweep."""
    for body in bodies:
        try:
            store.delete(body.locator)
        except StorageError as error:
            log.warning("an unused body stays until the sweep: %s", error)


def announce(
    session: Session,
    admission: Admission,
    format_name: str,
    release: Release,
    version: str,
    sha256: str,
    *,
    now: datetime,
) -> None:
    """Revision, event and audit entry of a new file, in the transaction that adds it."""
    shelf.bump(session, admission.domain_id, format_name, "", release.name)
    events.record(
        session,
        events.AssetPublished(
            domain=admission.domain,
            repository=admission.repository,
            format=format_name,
            namespace="",
            name=release.name,
            version=version,
            filename=release.filename,
            sha256=sha256,
            published_by=admission.actor,
        ),
        now,
    )
    audit.record(
        session,
        now,
        admission.actor,
        "asset.publish",
        f"{admission.path}/{format_name}/{release.name}/{version}/{release.filename}",
        sha256=sha256,
    )


def _is_here(session: Session, package: Package, filename: str, digest: str) -> bool:
    existing = shelf.find_asset(session, package.id, filename)
    if existing is not None:
        if existing.sha256 != digest:
            raise FileExists(filename)
        return True
    retired = shelf.retired_digest(session, package.id, filename)
    if retired is not None and retired != digest:
        raise Invalid("This filename has already been used, use a different version")
    return False


def _ensure_version(
    session: Session,
    package: Package,
    release: Release,
    sort_key: Callable[[str], Any],
    *,
    actor: str,
    now: datetime,
) -> PackageVersion:
    """The release's row: also one whose version is spelled otherwise and means the same (``1.0`` and ``1.0.0``)."""
    key = sort_key(release.version)
    spellings = session.scalars(select(PackageVersion.version).where(PackageVersion.package_id == package.id))
    spelled = next((version for version in spellings if sort_key(version) == key), release.version)
    return shelf.ensure_version(
        session,
        package,
        spelled,
        display_version=release.display_version,
        summary=release.summary,
        metadata_=dict(release.metadata),
        origin=shelf.PUBLISHED,
        promoted_from=None,
        yanked_reason=None,
        published_at=now,
        published_by=actor,
    )


def yank(
    session: Session,
    admission: Admission,
    format_name: str,
    namespace: str,
    name: str,
    version: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Yank a version with a reason (may be empty), or put it back with None (PEP 592). Raises NotFound."""
    row = session.scalar(
        select(PackageVersion)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(
            Package.repository_id == admission.repository_id,
            Package.format == format_name,
            Package.namespace == namespace,
            Package.name == name,
            PackageVersion.version == version,
        )
    )
    if row is None:
        raise NotFound("version", f"{name} {version}")
    if row.yanked_reason == reason:
        return
    row.yanked_reason = reason
    shelf.bump(session, admission.domain_id, format_name, namespace, name)
    events.record(
        session,
        events.VersionYanked(
            domain=admission.domain,
            repository=admission.repository,
            format=format_name,
            namespace=namespace,
            name=name,
            version=version,
            reason=reason,
            by=admission.actor,
        ),
        now,
    )
    audit.record(
        session,
        now,
        admission.actor,
        "version.yank" if reason is not None else "version.unyank",
        f"{admission.path}/{format_name}/{name}/{version}",
        reason=reason,
    )
