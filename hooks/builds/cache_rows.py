"""The rows of caches: which one a build may restore, and which go when a project's caches grow too large."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hooks.builds.cache_scope import Level, Scope
from hooks.builds.executor import Refused
from hooks.builds.keeping import CacheKey
from hooks.models import BuildCache
from registry import audit
from registry.models import Blob

ACTOR = "builds"


@dataclass(frozen=True, slots=True)
class Written:
    """A cache that a build wrote, and all that is known of it but its blob."""

    build_id: str
    domain_id: int
    namespace: str
    scope: Scope
    key: CacheKey
    files: int
    size_bytes: int


def find(
    session: Session, domain_id: int, namespace: str, scopes: Sequence[str], wanted: CacheKey
) -> BuildCache | None:
    """The cache of the exact key, else the newest whose key begins with the first fallback that any begins with.

    ``scopes`` are all that may be read; where several have the key, the first does it.
    """
    own = select(BuildCache).where(
        BuildCache.domain_id == domain_id,
        BuildCache.namespace == namespace,
        BuildCache.version == wanted.version,
        BuildCache.scope.in_(scopes),
    )
    exact = session.scalars(own.where(BuildCache.key == wanted.key)).all()
    if exact:
        return min(exact, key=lambda row: scopes.index(row.scope))
    for start in wanted.fallbacks:
        # Not LIKE: SQLite's takes no notice of case.
        begins = (func.substr(BuildCache.key, 1, len(start)) == start) & (BuildCache.key != "")
        newest = own.where(begins).order_by(BuildCache.created_at.desc(), BuildCache.id.desc()).limit(1)
        row = session.scalar(newest)
        if row is not None:
            return row
    return None


def put(session: Session, written: Written, blob: Blob, limit_bytes: int, now: datetime) -> None:
    """Write a cache's row; the least recently used of the namespace go for it. A keyed one that is there stays.

    Room is made at the cost of caches of the same trust or less, the least trusted first: a flood of pull requests must
    not push out what releases are built with. Raises Refused when that is not enough.
    """
    if written.key.key and _of(session, written) is not None:
        return  # somebody was faster, and keyed caches never change
    known = _of(session, written)
    _make_room(session, written, known, limit_bytes, now)
    if known is not None and known.blob_id != blob.id:
        touch_blobs(session, [known.blob_id], now)
    row = known or BuildCache(
        domain_id=written.domain_id,
        namespace=written.namespace,
        scope=written.scope.name,
        level=written.scope.level.value,
        version=written.key.version,
        key=written.key.key,
    )
    row.files, row.size_bytes, row.sha256 = written.files, blob.size_bytes, blob.sha256
    row.blob_id, row.build_id, row.created_at, row.used_at = blob.id, written.build_id, now, now
    session.add(row)
    session.flush()
    details = {"scope": written.scope.name, "key": written.key.key, "sha256": blob.sha256}
    audit.record(
        session, now, ACTOR, "build-cache.save", written.namespace, build=written.build_id, size_bytes=blob.size_bytes,
        **details,
    )  # fmt: skip


def remove(session: Session, ids: Collection[int], now: datetime, why: str) -> int:
    """Forget caches; the sweep removes their bodies after its grace. Returns how many there were."""
    rows = session.scalars(select(BuildCache).where(BuildCache.id.in_(ids))).all()
    if rows:
        touch_blobs(session, [row.blob_id for row in rows], now)
        session.execute(delete(BuildCache).where(BuildCache.id.in_([row.id for row in rows])))
        size_bytes = sum(row.size_bytes for row in rows)
        where = min(row.namespace for row in rows)
        audit.record(session, now, ACTOR, "build-cache.evict", where, caches=len(rows), size_bytes=size_bytes, why=why)
    return len(rows)


def _of(session: Session, written: Written) -> BuildCache | None:
    return session.scalar(
        select(BuildCache)
        .where(
            BuildCache.domain_id == written.domain_id,
            BuildCache.namespace == written.namespace,
            BuildCache.scope == written.scope.name,
            BuildCache.version == written.key.version,
            BuildCache.key == written.key.key,
        )
        .with_for_update()
    )


def _make_room(
    session: Session, written: Written, replaced: BuildCache | None, limit_bytes: int, now: datetime
) -> None:
    others = [
        row
        for row in session.execute(
            select(BuildCache.id, BuildCache.size_bytes, BuildCache.level, BuildCache.used_at).where(
                BuildCache.domain_id == written.domain_id, BuildCache.namespace == written.namespace
            )
        )
        if replaced is None or row.id != replaced.id
    ]
    excess_bytes = written.size_bytes + sum(row.size_bytes for row in others) - limit_bytes
    going = []
    for row in sorted(others, key=lambda row: (-Level(row.level).rank, row.used_at)):
        if excess_bytes <= 0:
            break
        if Level(row.level).rank >= written.scope.level.rank:
            going.append(row.id)
            excess_bytes -= row.size_bytes
    if excess_bytes > 0:
        raise Refused(f"the project's caches would take more than {limit_bytes} bytes, and the others are more trusted")
    if going:
        remove(session, going, now, "the project's limit")


def touch_blobs(session: Session, blob_ids: Collection[int], now: datetime) -> None:
    """Let the sweep's grace begin now, for bodies that a row has let go of: somebody may be reading them."""
    session.execute(
        update(Blob).where(Blob.id.in_(blob_ids)).values(touched_at=now),
        execution_options={"synchronize_session": False},
    )
