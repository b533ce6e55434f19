"""Artifacts and caches in the domain's encrypted store: streamed in, found again, let go of.

Bytes first, one row last: what was written becomes a blob of the domain, so that rotation of keys, ``fsck`` and the sweep
treat it as any other, and the row refers to it. Rows are written under the fence of the build's job.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.builds import cache_rows
from hooks.builds.artifact_scan import scan
from hooks.builds.cache_scope import PROTECTED, Scope
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import ArtifactName, CacheKey, FoundCache, Incoming, Kept
from hooks.errors import LeaseLost
from hooks.jobs.context import OUTAGES
from hooks.models import BuildArtifact, BuildCache
from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.errors import Problem
from registry.models import Blob, Domain
from registry.repos import shelf
from registry.stores import DomainStores, first_domain, handle_of
from storage.encrypted import EncryptedStore
from storage.errors import BodyRejected, Damaged, KeyDestroyed, Missing, StorageError
from storage.intake import Intake, Received
from storage.reader import open_file

LOG = logging.getLogger(__name__)
ACTOR = "builds"

T = TypeVar("T")
Step = Callable[[Callable[[Session], Any]], Any]
"""Runs a unit in a write transaction while the build's job is held, as ``JobContext.step``."""


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """In bytes: of one artifact, of one cache, and of all caches of a project (or of those that share them)."""

    artifact_bytes: int = 1024**3
    cache_bytes: int = 1024**3
    project_cache_bytes: int = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class BuildPlace:
    """A build, as far as its outputs are concerned. ``namespace`` is whose caches it has, ``scope`` at which trust.

    ``secrets`` must not be in an artifact.
    """

    build_id: str
    domain: str
    namespace: str
    scope: Scope = PROTECTED
    secrets: Callable[[], Collection[str]] = field(default=lambda: ())


class StoredOutputs:
    """Keeps what builds leave. Safe for many threads.

    ``end_tokens`` (tokens, where) revokes those of this server's that are live, and returns them.
    """

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        clock: Clock,
        limits: OutputLimits,
        end_tokens: Callable[[Collection[str], str], Collection[str]],
    ) -> None:
        self.db = db
        self.stores = stores
        self.clock = clock
        self.limits = limits
        self.end_tokens = end_tokens

    def keeper(self, place: BuildPlace, step: Step) -> BuildKeeper:
        """What one attempt at a build keeps its outputs with."""
        return BuildKeeper(self, place, step)


class BuildKeeper:
    """Implements ``hooks.builds.keeping.Keeper`` for one build."""

    def __init__(self, outputs: StoredOutputs, place: BuildPlace, step: Step) -> None:
        self._outputs = outputs
        self._place = place
        self._step = step

    def begin_artifact(self, name: ArtifactName) -> Incoming:
        """An artifact of this build; one of the same identifier from an earlier attempt is replaced by it."""
        try:
            domain_id = self._domain()
        except OUTAGES as error:
            raise ExecutorError(f"nothing can be stored now: {error}") from error

        def check(received: Received) -> None:
            with open_file(self._outputs.stores.of(domain_id), received.handle) as body:
                tokens = scan(body, self._place.secrets())
            where = f"artifact {name.identifier} of build {self._place.build_id}"
            if tokens and self._outputs.end_tokens(tokens, where):
                raise Refused("the artifact holds an access token of this server, which is revoked now")

        def row(session: Session, received: Received, files: int, blob: Blob, now: datetime) -> None:
            _put_artifact(session, self._place.build_id, name, received, files, blob, now)

        return self._incoming(domain_id, self._outputs.limits.artifact_bytes, row, check)

    def find_cache(self, wanted: CacheKey) -> FoundCache | None:
        """As ``Keeper``. One whose bytes are gone or are not those that were saved is forgotten, and the next is looked for."""
        try:
            return self._find(wanted)
        except OUTAGES as error:
            LOG.warning("no cache is looked for: %s", error)
            return None

    def _find(self, wanted: CacheKey) -> FoundCache | None:
        domain_id, readable = self._domain(), self._place.scope.readable
        while True:
            with self._outputs.db.read() as session:
                row = cache_rows.find(session, domain_id, self._place.namespace, readable, wanted)
                if row is None:
                    return None
                handle = handle_of(session.get_one(Blob, row.blob_id))
            store = self._outputs.stores.of(domain_id)
            try:
                digest = hashlib.sha256()
                for piece in store.open(handle):
                    digest.update(piece)
            except (Damaged, Missing, KeyDestroyed) as error:
                LOG.error("cache %d cannot be read and is forgotten: %s", row.id, error)  # noqa: TRY400
            except StorageError as error:
                LOG.warning("cache %d cannot be read now: %s", row.id, error)
                return None
            else:
                if digest.hexdigest() == row.sha256:
                    self._mark_used(row.id)
                    return FoundCache(
                        row.key, row.scope, row.size_bytes, row.key == wanted.key, partial(_read, store, handle)
                    )
                LOG.error("cache %d is not what was saved, and is forgotten", row.id)
            self._forget(row)

    def begin_cache(self, wanted: CacheKey) -> Incoming | None:
        """A cache in this build's own scope; None where one of that key can be restored already, and while nobody can say."""
        try:
            return self._begin_cache(wanted)
        except OUTAGES as error:
            LOG.warning("no cache is saved: %s", error)
            return None

    def _begin_cache(self, wanted: CacheKey) -> Incoming | None:
        domain_id, place = self._domain(), self._place
        if wanted.key:
            with self._outputs.db.read() as session:
                exact = CacheKey(wanted.version, wanted.key)
                if cache_rows.find(session, domain_id, place.namespace, place.scope.readable, exact) is not None:
                    return None
        limits = self._outputs.limits

        def row(session: Session, received: Received, files: int, blob: Blob, now: datetime) -> None:
            written = cache_rows.Written(
                place.build_id, domain_id, place.namespace, place.scope, wanted, files, received.handle.size_bytes
            )
            cache_rows.put(session, written, blob, limits.project_cache_bytes, now)

        return self._incoming(domain_id, min(limits.cache_bytes, limits.project_cache_bytes), row, _nothing)

    def _incoming(self, domain_id: int, limit_bytes: int, row: _Row, check: Callable[[Received], None]) -> Incoming:
        outputs = self._outputs
        try:
            store = outputs.stores.of(domain_id)
            return _StoredIncoming(
                store, limit_bytes, lambda body, files: self._put(domain_id, body, files, row), check
            )
        except StorageError as error:
            raise ExecutorError(f"nothing can be stored now: {error}") from error

    def _put(self, domain_id: int, received: Received, files: int, row: _Row) -> bool:
        """Make blob and row in one transaction; whether the body that came is the one that is used."""

        def unit(session: Session) -> bool:
            now = self._outputs.clock()
            blob, is_new = shelf.ensure_blob(session, domain_id, received.handle, now)
            row(session, received, files, blob, now)
            return is_new

        for _ in range(5):
            try:
                return bool(self._step(unit))
            except IntegrityError as error:  # another writer made the same row first: look again
                last = error
            except LeaseLost:
                raise
            except Problem as error:
                raise ExecutorError(f"it cannot be kept now: {error}") from error
        raise ExecutorError("it cannot be kept now: too many writers of the same rows") from last

    def _domain(self) -> int:
        """Whose store it goes to: the build's domain, else the server's first."""
        with self._outputs.db.read() as session:
            found = session.scalar(select(Domain.id).where(Domain.name == self._place.domain)) or first_domain(session)
        if found is None:
            raise ExecutorError("there is no domain whose store could keep it")
        return found

    def _mark_used(self, cache_id: int) -> None:
        now = self._outputs.clock()
        self._step(
            lambda session: session.execute(
                update(BuildCache).where(BuildCache.id == cache_id).values(used_at=now),
                execution_options={"synchronize_session": False},
            )
        )

    def _forget(self, row: BuildCache) -> None:
        self._step(lambda session: cache_rows.remove(session, [row.id], self._outputs.clock(), "cannot be read"))


_Row = Callable[[Session, Received, int, Blob, datetime], None]


class _StoredIncoming:
    """A body on its way into a store: encrypted as it comes, so that no plain byte of it touches a disk."""

    def __init__(
        self,
        store: EncryptedStore,
        limit_bytes: int,
        put: Callable[[Received, int], bool],
        check: Callable[[Received], None],
    ) -> None:
        self._store = store
        self._put = put
        self._check = check
        self._intake = Intake(store, limit_bytes, algorithms=("md5",))

    def write(self, data: bytes) -> None:
        try:
            self._intake.write(data)
        except BodyRejected as error:
            raise Refused(str(error)) from error
        except StorageError as error:
            raise ExecutorError(f"it cannot be stored now: {error}") from error

    def keep(self, files: int) -> Kept:
        try:
            received = self._intake.finish()
        except StorageError as error:
            raise ExecutorError(f"it cannot be stored now: {error}") from error
        is_used = False
        try:
            self._check(received)
            is_used = self._put(received, files)
        except StorageError as error:
            raise ExecutorError(f"it cannot be read again: {error}") from error
        finally:
            if not is_used:
                # Nothing refers to it. Where this fails the sweep comes by.
                with contextlib.suppress(StorageError):
                    self._store.delete(received.handle.locator)
        return Kept(received.handle.size_bytes, received.digests["sha256"])

    def abort(self) -> None:
        self._intake.abort()


def _read(store: EncryptedStore, handle: Any) -> Iterator[bytes]:
    try:
        yield from store.open(handle)
    except StorageError as error:
        raise ExecutorError(f"the cache breaks off: {error}") from error


def _nothing(_received: Received) -> None:
    """A cache goes to builds of the same trust alone, and holds no credential of its build's."""


def _put_artifact(
    session: Session, build_id: str, name: ArtifactName, received: Received, files: int, blob: Blob, now: datetime
) -> None:
    known = session.scalar(
        select(BuildArtifact)
        .where(BuildArtifact.build_id == build_id, BuildArtifact.identifier == name.identifier)
        .with_for_update()
    )
    if known is not None and known.blob_id != blob.id:
        cache_rows.touch_blobs(session, [known.blob_id], now)
    row = known or BuildArtifact(build_id=build_id, identifier=name.identifier)
    values: Mapping[str, Any] = {
        "name": name.name,
        "packaging": name.packaging,
        "files": files,
        "size_bytes": blob.size_bytes,
        "sha256": blob.sha256,
        "md5": received.digests["md5"],
        "blob_id": blob.id,
        "created_at": now,
    }
    for key, value in values.items():
        setattr(row, key, value)
    session.add(row)
    session.flush()
    details = {"name": name.name, "sha256": blob.sha256, "size_bytes": blob.size_bytes}
    audit.record(session, now, ACTOR, "artifact.keep", f"build/{build_id}/{name.identifier}", **details)
