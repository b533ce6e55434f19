"""Build logs: append-only chunks, sealed, read by offset. Offsets count plain bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.builds.log_size import MAX_LOG_BYTES
from hooks.models.build import Build, BuildLogChunk
from registry.db import Database, table_of
from registry.errors import Conflict, NotFound
from registry.repos.sealed_fields import SealedField

MARKER = b"\n[Container] The log is longer than 50 MiB; the rest is not kept\n"
_MAX_CHUNK_BYTES = 1024 * 1024
_CHUNKS_PER_READ = 64
_PIECE_BYTES = 1024 * 1024


class Sealer(Protocol):
    """Encrypts small things at rest. ``context`` is bound to the result: it opens under the same one only."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


class LogStore:
    """The logs of all builds. A log is at most 50 MiB long; then comes a marker, and nothing more is kept."""

    def __init__(self, sealer: Sealer) -> None:
        """Chunks are sealed by ``sealer``."""
        self._sealer = sealer

    def append(self, session: Session, build_id: str, offset: int, data: bytes) -> int:
        """Add ``data`` at ``offset``, the end of the log as the writer knows it; return the new end.

        What was added before under the same offset is not added again (a commit whose answer got lost). Raises
        NotFound, and Conflict for an offset beyond the end.
        """
        end = session.scalar(select(Build.log_bytes).where(Build.id == build_id).with_for_update())
        if end is None:
            raise NotFound("build", build_id)
        if offset > end:
            raise Conflict(f"the log of build {build_id} ends at {end}, not at {offset}")
        fresh = data[end - offset :]
        if not fresh or end >= MAX_LOG_BYTES:
            return end
        if end + len(fresh) >= MAX_LOG_BYTES:
            fresh = fresh[: MAX_LOG_BYTES - end] + MARKER
        for start in range(0, len(fresh), _MAX_CHUNK_BYTES):
            part = fresh[start : start + _MAX_CHUNK_BYTES]
            sealed = self._sealer.seal(part, chunk_context(build_id, end))
            session.add(BuildLogChunk(build_id=build_id, offset=end, size_bytes=len(part), data=sealed))
            end += len(part)
        session.execute(
            update(Build).where(Build.id == build_id).values(log_bytes=end),
            execution_options={"synchronize_session": False},
        )
        return end

    def append_now(self, session: Session, build_id: str, data: bytes) -> int:
        """Add ``data`` at the end, wherever that is. Raises NotFound."""
        end = session.scalar(select(Build.log_bytes).where(Build.id == build_id).with_for_update())
        if end is None:
            raise NotFound("build", build_id)
        return self.append(session, build_id, end, data)

    def read(self, session: Session, build_id: str, from_offset: int, limit_bytes: int) -> tuple[bytes, int, bool]:
        """Up to ``limit_bytes`` from an offset, the offset to go on from, and whether that is the end for good.

        Raises NotFound.
        """
        row = session.execute(select(Build.log_bytes, Build.ended_at).where(Build.id == build_id)).one_or_none()
        if row is None:
            raise NotFound("build", build_id)
        start = max(0, min(from_offset, row.log_bytes))
        chunks = session.execute(
            select(BuildLogChunk.offset, BuildLogChunk.data)
            .where(
                BuildLogChunk.build_id == build_id,
                BuildLogChunk.offset > start - _MAX_CHUNK_BYTES,  # for the index
                BuildLogChunk.offset + BuildLogChunk.size_bytes > start,
            )
            .order_by(BuildLogChunk.offset)
            .limit(_CHUNKS_PER_READ)
            .execution_options(yield_per=4)
        )
        parts: list[bytes] = []
        position = start
        for offset, sealed in chunks:
            plain = self._sealer.unseal(sealed, chunk_context(build_id, offset))
            part = plain[position - offset : position - offset + limit_bytes - (position - start)]
            parts.append(part)
            position += len(part)
            if position - start >= limit_bytes:
                break
        return b"".join(parts), position, row.ended_at is not None and position >= row.log_bytes

    def pieces(self, db: Database, build_id: str, end: int) -> Iterator[bytes]:
        """The log up to byte ``end``, a session for each piece: a slow reader must not hold a transaction open."""
        position = 0
        while position < end:
            with db.read() as session:
                piece, position, _ = self.read(session, build_id, position, min(_PIECE_BYTES, end - position))
            yield piece


def chunk_context(build_id: str, offset: int) -> str:
    """What the box of a log's chunk is bound to."""
    return f"build-log:{build_id}:{offset}"


def sealed_chunks() -> SealedField:
    """Where the logs lie, for whoever rotates the server's keys."""
    table = table_of(BuildLogChunk)
    rows = select(table.c.build_id, table.c.offset, table.c.data)
    return SealedField("pieces of build logs", table, "data", rows, lambda row: chunk_context(row.build_id, row.offset))
