"""Keeping what only a cache holds within a size: the least recently used upstream files go first.

Kept by reference means kept: by default nothing goes. With a limit, files go that came from outside and that nothing
published or promoted anywhere in the domain shares. Their packages' rows stay, since they say that a name is the
outside's, and so do their digests: a file that is fetched again has to be the same one.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.errors import Problem
from registry.models import Asset, Blob, Package, PackageVersion, Repository, RetiredFilename, UpstreamPage
from registry.names import PackageKey, PackageName
from registry.repos import shelf, states
from storage.blobs import Locator

log = logging.getLogger("entrepot.care")

BATCH = 200
ACTOR = "server"
IN_USE = timedelta(hours=1)
MARK_EVERY = timedelta(hours=1)
FLUSH_SECONDS = 60.0
MOST_MARKS = 50_000
DEAD_PAGES = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class EvictionReport:
    """What went, or with a dry run would go. ``cached_bytes`` is what only the cache held before."""

    files: int
    freed_bytes: int
    cached_bytes: int


class UseMarks:
    """Notes which bodies are read, coarsely: at most a write a minute, and one mark an hour for each body.

    Safe for many threads. A mark that is lost makes a file look older than it is, no more.
    """

    def __init__(self, db: Database, clock: Clock, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._db = db
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._marked: OrderedDict[Locator, datetime] = OrderedDict()
        self._pending: set[Locator] = set()

    def used(self, locator: Locator) -> None:
        """Somebody reads this body now."""
        now = self._clock()
        with self._lock:
            last = self._marked.get(locator)
            if last is not None and now - last < MARK_EVERY:
                return
            self._marked[locator] = now
            self._marked.move_to_end(locator)
            while len(self._marked) > MOST_MARKS:
                self._marked.popitem(last=False)
            self._pending.add(locator)
            if len(self._pending) > 1:
                return  # the first one has set the clock
        later = threading.Timer(self._flush_seconds, self.flush)
        later.daemon = True
        later.start()

    def flush(self) -> None:
        """Write what is noted."""
        with self._lock:
            pending, self._pending = list(self._pending), set()
        try:
            for at in range(0, len(pending), BATCH):
                with self._db.write() as session:
                    marked = Blob.locator.in_(pending[at : at + BATCH])
                    session.execute(update(Blob).where(marked).values(touched_at=self._clock()))
        except (Problem, SQLAlchemyError) as error:
            log.info("uses of %d bodies are not noted: %s", len(pending), error)


def evict(db: Database, limit_bytes: int, now: datetime, *, dry_run: bool) -> EvictionReport:
    """Bring what only the cache holds to ``limit_bytes``, least recently used first; what was used lately stays.

    Rows go here; the bodies go with the next sweep, after its grace, so that a download that runs ends well.
    """
    with db.read() as session:
        cached_bytes = int(
            session.scalar(select(func.coalesce(func.sum(Blob.size_bytes), 0)).where(_only_cached())) or 0
        )
        going = _going(session, cached_bytes - limit_bytes, now - IN_USE)
    files, freed_bytes = len(going), sum(size for _, size in going)
    if dry_run:
        return EvictionReport(files, freed_bytes, cached_bytes)
    files = freed_bytes = 0
    for at in range(0, len(going), BATCH):
        batch = [blob_id for blob_id, _ in going[at : at + BATCH]]
        gone = shelf.settle(db, partial(_remove, blob_ids=batch, now=now))
        files, freed_bytes = files + len(gone), freed_bytes + sum(gone)
    if files:
        log.info("the cache is over its limit: %d files (%d bytes) are forgotten", files, freed_bytes)
    return EvictionReport(files, freed_bytes, cached_bytes)


def forget_dead_pages(db: Database, now: datetime) -> int:
    """Drop pages that nobody asked for in a week: they are too old to stand in for anything."""
    with db.write() as session:
        dead = select(UpstreamPage.connection_id, UpstreamPage.path).where(UpstreamPage.fresh_until < now - DEAD_PAGES)
        rows = session.execute(dead.limit(BATCH * 10)).all()
        for connection_id, path in rows:
            session.execute(
                delete(UpstreamPage).where(UpstreamPage.connection_id == connection_id, UpstreamPage.path == path)
            )
    return len(rows)


def _only_cached() -> ColumnElement[bool]:
    """Blobs of upstream files that nothing published or promoted needs, as file or as metadata, in any repository."""
    of_blob = (Asset.blob_id == Blob.id) | (Asset.metadata_blob_id == Blob.id)
    is_owned = (PackageVersion.origin != shelf.UPSTREAM) | PackageVersion.promoted_from.is_not(None)
    owned = exists().where(of_blob, PackageVersion.id == Asset.version_id, is_owned)
    named = exists().where(of_blob, Package.id == Asset.package_id, Package.origin != shelf.UPSTREAM)
    return exists().where(Asset.blob_id == Blob.id) & ~owned & ~named


def _going(session: Session, excess_bytes: int, unused_since: datetime) -> list[tuple[int, int]]:
    going: list[tuple[int, int]] = []
    if excess_bytes <= 0:
        return going
    oldest = (
        select(Blob.id, Blob.size_bytes)
        .where(_only_cached(), Blob.touched_at < unused_since)
        .order_by(Blob.touched_at, Blob.id)
    )
    for blob_id, size_bytes in session.execute(oldest.execution_options(yield_per=BATCH)):
        if excess_bytes <= 0:
            break
        going.append((blob_id, size_bytes))
        excess_bytes -= size_bytes
    return going


def _remove(session: Session, blob_ids: Sequence[int], now: datetime) -> list[int]:
    """Remove the rows of these bodies' files, looking again: somebody may have used or promoted one meanwhile."""
    blobs = session.execute(
        select(Blob.id, Blob.size_bytes).where(Blob.id.in_(blob_ids), _only_cached(), Blob.touched_at < now - IN_USE)
    ).all()
    assets = session.execute(
        select(Asset, Package, Repository.domain_id)
        .join(Package, Package.id == Asset.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .where(Asset.blob_id.in_([blob_id for blob_id, _ in blobs]))
    ).all()
    names = {(domain_id, package.format, package.namespace, package.name) for _, package, domain_id in assets}
    versions = {asset.version_id for asset, _, _ in assets}
    for asset, package, _ in assets:
        session.merge(
            RetiredFilename(package_id=package.id, filename=asset.filename, sha256=asset.sha256, retired_at=now)
        )
        session.delete(asset)
    session.flush()
    # A version that somebody has withheld stays withheld, though its files can be fetched again.
    empty = ~exists().where(Asset.version_id == PackageVersion.id) & PackageVersion.status.not_in(states.WITHHELD)
    session.execute(delete(PackageVersion).where(PackageVersion.id.in_(versions), empty))
    for domain_id, format_name, namespace, name in sorted(names):
        shelf.bump(session, domain_id, *PackageKey(format_name, namespace, PackageName(name)))
    sizes = [size_bytes for _, size_bytes in blobs]
    if sizes:
        audit.record(session, now, ACTOR, "cache.evict", "server", files=len(sizes), size_bytes=sum(sizes))
    return sizes
