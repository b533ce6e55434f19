"""Looking after what is kept: removing what nothing refers to, and checking that everything that is promised is there."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from registry.db import Base, Database, table_of
from registry.models import Asset, AuditEntry, Blob, Domain, DomainKey, Package, PackageVersion
from registry.repos import audit_log, checkpoints, promises, states
from registry.repos.sealed_fields import key_id_in
from registry.stores import DomainStores, current_key, handle_of, keys_of
from storage.blobs import Locator
from storage.encrypted import ENVELOPE_BOX_AT
from storage.errors import Missing, StorageError
from storage.sweep import SweepReport
from storage.sweep import sweep as sweep_bodies

log = logging.getLogger("entrepot.care")
BATCH = 500
SHREDDED = "shredded"
"""What stands in an invariant's place for a domain whose keys were destroyed on purpose: told, and no fault."""


def sweep(db: Database, stores: DomainStores, *, older_than: datetime, dry_run: bool) -> SweepReport:
    """Remove blobs that no row refers to and bodies that no blob refers to, both only when older than ``older_than``.

    The row goes first, in a transaction that looks again; the body follows in the same sweep or a later one. So
    nothing that a row refers to is ever deleted, whatever happens between the two.
    """
    if not dry_run:
        with db.write() as session:
            promises.forget_old(session, older_than)
        while _forget_unused(db, older_than):
            pass

    def is_referenced(locators: Sequence[Locator]) -> set[Locator]:
        with db.read() as session:
            return {Locator(text) for text in session.scalars(select(Blob.locator).where(Blob.locator.in_(locators)))}

    report = sweep_bodies(stores.bodies, is_referenced, older_than=older_than, dry_run=dry_run)
    if report.deleted or report.failed:
        log.info("sweep: %d bodies removed, %d could not be", report.deleted, len(report.failed))
    return report


def _forget_unused(db: Database, before: datetime) -> int:
    used = or_(*(exists().where(column == Blob.id) for column in _references()))
    with db.write() as session:
        ids = session.scalars(select(Blob.id).where(~used, Blob.touched_at < before).limit(BATCH)).all()
        if ids:
            session.execute(delete(Blob).where(Blob.id.in_(ids), ~used))
    return len(ids)


def _references() -> list[Column[Any]]:
    """All columns that refer to bodies, of this package's tables and of those above it."""
    tables = Base.metadata.tables.values()
    return [key.parent for table in tables for key in table.foreign_keys if key.column.table is table_of(Blob)]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not be, or SHREDDED. ``invariant`` is its number in docs/operations.md."""

    invariant: str
    what: str


def check(db: Database, stores: DomainStores, *, deep: bool) -> Iterator[Fault]:
    """Check the registry's invariants; ``deep`` decrypts and hashes every body as well."""
    with db.read() as session:
        yield from _rows(session)
        vouched = [point.vouched for point in checkpoints.kept(session)]
        shredded = _shredded(session)
        for told in shredded.values():
            yield Fault(SHREDDED, told)
        yield from _unknown_keys(session)
        last = 0
    chain = audit_log.check(db, vouched)
    if chain.fault is not None:
        yield Fault("I7", chain.fault)
    while True:
        with db.read() as session:
            wanted = select(Blob).where(Blob.id > last, Blob.domain_id.not_in(shredded))
            blobs = session.scalars(wanted.order_by(Blob.id).limit(BATCH)).all()
        if not blobs:
            return
        for blob in blobs:
            yield from _body(stores, blob, deep=deep)
        last = blobs[-1].id


def _rows(session: Session) -> Iterator[Fault]:
    differing = (
        select(Asset.filename)
        .join(Blob, Blob.id == Asset.blob_id)
        .where((Asset.sha256 != Blob.sha256) | (Asset.size_bytes != Blob.size_bytes))
    )
    for filename in session.scalars(differing):
        yield Fault("I1", f"asset {filename} and its blob disagree on digest or size")
    astray = (
        select(Asset.filename)
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .where(PackageVersion.package_id != Asset.package_id)
    )
    for filename in session.scalars(astray):
        yield Fault("I3", f"asset {filename} belongs to a version of another package")
    empty = (
        select(Package.name, PackageVersion.version)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(~exists().where(Asset.version_id == PackageVersion.id), PackageVersion.status.not_in(states.WITHHELD))
    )
    for name, version in session.execute(empty):
        yield Fault("I3", f"version {name} {version} has no asset")
    disposed = (
        select(Asset.filename)
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .where(PackageVersion.status == states.DISPOSED)
    )
    for filename in session.scalars(disposed):
        yield Fault("I3", f"asset {filename} belongs to a version that was disposed of")
    yield from _unaudited(session)


def _shredded(session: Session) -> dict[int, str]:
    """The domains whose keys were destroyed, each with what to say of it."""
    found = {}
    for domain in session.scalars(select(Domain).order_by(Domain.name)):
        keys = keys_of(session, domain.id)
        if keys and current_key(keys) is None:
            at = max(key.destroyed_at for key in keys if key.destroyed_at is not None)
            blobs = session.scalar(select(func.count()).select_from(Blob).where(Blob.domain_id == domain.id))
            found[domain.id] = (
                f"domain {domain.name}: its keys were destroyed at {at:%Y-%m-%d %H:%M} UTC, and its {blobs} blobs are "
                "unreadable for good"
            )
    return found


def _unknown_keys(session: Session) -> Iterator[Fault]:
    """I9: each body's data key is wrapped by a key of its own domain that there is."""
    key_id = key_id_in(table_of(Blob).c.envelope, ENVELOPE_BOX_AT)
    used = session.execute(select(Blob.domain_id, key_id, func.count()).group_by(Blob.domain_id, key_id)).all()
    known = {(row.domain_id, row.id.encode()) for row in session.scalars(select(DomainKey))}
    for domain_id, key, count in used:
        if key and (domain_id, bytes(key)) not in known:
            name = bytes(key).decode("ascii", "replace")
            yield Fault("I9", f"{count} blobs of domain {domain_id} are wrapped by key {name!r}, which is not there")


def _unaudited(session: Session) -> Iterator[Fault]:
    """I7: every published or promoted version has the audit entry of the transaction that made it."""
    acts = session.scalars(select(AuditEntry.object).where(AuditEntry.action.in_(("asset.publish", "version.promote"))))
    # domain/repository/format/[namespace/]name/version[/file name]; the file name may be a path itself
    audited = set()
    for act in acts:
        parts = act.split("/")[2:]
        audited |= {tuple(parts[:3]), tuple(parts[:4])}
    rows = session.execute(
        select(Package.format, Package.namespace, Package.name, PackageVersion.version)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(PackageVersion.origin == "published")
        .distinct()
    )
    for format_name, namespace, name, version in rows:
        if tuple(part for part in (format_name, namespace, name, version) if part) not in audited:
            yield Fault("I7", f"{format_name} {name} {version} was published without an audit entry")


def _body(stores: DomainStores, blob: Blob, *, deep: bool) -> Iterator[Fault]:
    store = stores.of(blob.domain_id)
    try:
        store.stat(Locator(blob.locator))
        if not deep:
            return
        digest = hashlib.sha256()
        for piece in store.open(handle_of(blob)):
            digest.update(piece)
    except Missing:
        yield Fault("I1", f"blob {blob.sha256} has no body")
    except StorageError as error:
        yield Fault("I1", f"blob {blob.sha256} cannot be read: {error}")
    else:
        if digest.hexdigest() != blob.sha256:
            yield Fault("I1", f"blob {blob.sha256} has other content")
