"""A blob store in memory: for tests and trials, and the plainest reading of the contract."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from threading import Lock

from storage.blobs import BlobHandle, ByteRange, Digest, Locator, Pieces, StoredInfo
from storage.errors import Damaged, Missing, Transient
from storage.locators import Clock, check_locator, created_at, new_locator, system_clock
from storage.pieces import PIECE_BYTES, PrimedPieces, part_of


class MemoryStore:
    """Keeps bodies in a dictionary of this process."""

    def __init__(self, *, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._bodies: dict[Locator, bytes] = {}
        self._unfinished: dict[Locator, _PendingBytes] = {}

    def begin(self) -> _PendingBytes:
        """Start a new blob."""
        pending = _PendingBytes(self, new_locator(self._clock()))
        with self._lock:
            self._unfinished[pending.locator] = pending
        return pending

    def open(self, handle: BlobHandle, part: ByteRange | None = None) -> Pieces:
        """Yield the bytes of the blob or of ``part``."""
        wanted = part_of(handle, part)
        body = self._body(handle.locator)
        if len(body) != handle.size_bytes:
            raise Damaged(f"blob {handle.locator} has {len(body)} bytes, not {handle.size_bytes}")
        return PrimedPieces(_slices(body, wanted))

    def stat(self, locator: Locator) -> StoredInfo:
        """Size and age of a body."""
        return StoredInfo(locator, len(self._body(locator)), created_at(locator))

    def delete(self, locator: Locator) -> None:
        """Remove a body."""
        with self._lock:
            self._bodies.pop(check_locator(locator), None)

    def iterate(self) -> Iterator[StoredInfo]:
        """All committed bodies, as of the call."""
        with self._lock:
            sizes = [(locator, len(body)) for locator, body in self._bodies.items()]
        for locator, stored_bytes in sizes:
            yield StoredInfo(locator, stored_bytes, created_at(locator))

    def discard_unfinished(self, older_than: datetime, *, dry_run: bool = False) -> int:
        """Forget bodies begun before ``older_than`` and never committed."""
        with self._lock:
            old = [locator for locator in self._unfinished if created_at(locator) < older_than]
            if not dry_run:
                for locator in old:
                    del self._unfinished[locator]
        return len(old)

    def _body(self, locator: Locator) -> bytes:
        with self._lock:
            body = self._bodies.get(check_locator(locator))
        if body is None:
            raise Missing(locator)
        return body

    def _keep(self, locator: Locator, body: bytes) -> None:
        with self._lock:
            if self._unfinished.pop(locator, None) is None:
                raise Transient(f"blob {locator} was discarded as unfinished before its commit")
            self._bodies[locator] = body

    def _forget(self, locator: Locator) -> None:
        with self._lock:
            self._unfinished.pop(locator, None)


class _PendingBytes:
    def __init__(self, store: MemoryStore, locator: Locator) -> None:
        self._store = store
        self._locator = locator
        self._written = bytearray()
        self._finished = False

    @property
    def locator(self) -> Locator:
        return self._locator

    @property
    def readable_bytes(self) -> int:
        return len(self._written)

    def reread(self) -> _RereadBytes:
        if self._finished:
            raise Missing(self._locator)
        return _RereadBytes(self._written)

    def write(self, data: bytes | memoryview) -> None:
        self._require_unfinished()
        self._written += data

    def commit(self, digest: Digest) -> BlobHandle:
        self._require_unfinished()
        self._store._keep(self._locator, bytes(self._written))  # noqa: SLF001 - the two classes are one store
        self._finished = True
        return BlobHandle(self._locator, digest, len(self._written))

    def abort(self) -> None:
        self._finished = True
        self._store._forget(self._locator)  # noqa: SLF001 - the two classes are one store

    def _require_unfinished(self) -> None:
        if self._finished:
            raise ValueError(f"blob {self._locator} is finished already")


class _RereadBytes:
    def __init__(self, written: bytearray) -> None:
        self._written = written

    def read(self, part: ByteRange) -> bytes:
        return bytes(self._written[part.start : min(part.start + PIECE_BYTES, part.stop)])

    def close(self) -> None:
        """Nothing is held."""


def _slices(body: bytes, wanted: ByteRange) -> Generator[bytes, None, None]:
    for start in range(wanted.start, wanted.stop, PIECE_BYTES):
        yield body[start : min(start + PIECE_BYTES, wanted.stop)]
