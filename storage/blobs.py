"""The blob store contract: where bytes are kept, and the value types that name them.

Life of a blob: ``begin`` → ``write``… → ``commit(digest)`` → ``BlobHandle``, which the caller keeps in a row; that row
is the commit mark. Until the row exists the blob is rubbish that the sweep collects. The handle is all that ``open``
needs: the store itself has no index and asks no database.

A store never derives a file name from user text or from the digest: the locator is random, chosen by the store
(equality of content must not be visible to whoever reads the disk, and no name can escape the blob root).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NewType, Protocol, Self

Digest = NewType("Digest", str)  # lower-case hex SHA-256 of the plain bytes
Locator = NewType("Locator", str)  # [a-z0-9]{26}, made by the store: the time, then random

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A half-open range of plain bytes: ``start <= offset < stop``; both within the blob."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of bytes in the range."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class BlobHandle:
    """Everything needed to read a blob back: kept in a database row by the caller.

    ``envelope`` is empty for plain stores; for the encrypted store it holds the wrapped data key (bytes, opaque,
    at most 512). ``size_bytes`` counts plain bytes.
    """

    locator: Locator
    digest: Digest
    size_bytes: int
    envelope: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredInfo:
    """What a store knows of a body without its row: its size on the medium and when the store wrote it (UTC)."""

    locator: Locator
    stored_bytes: int
    created_at: datetime


class Reread(Protocol):
    """What was written of a pending blob so far. Used by one thread at a time, which may be another than the writer's.

    It goes on after the blob was committed or aborted, with what could be read by then.
    """

    def read(self, part: ByteRange) -> bytes:
        """The bytes from ``part.start`` on: at least one, at most 1 MiB and ``part``, which is within ``readable_bytes``.

        Raises Damaged or Transient when they cannot be read.
        """

    def close(self) -> None:
        """Free what the reading holds; idempotent."""


class Pending(Protocol):
    """A blob being written. Used by one thread at a time, but for ``readable_bytes`` and ``reread``.

    Nothing is visible under its locator before ``commit`` returns. ``abort`` is idempotent and safe after ``commit``
    (then it does nothing), so that it may stand in a ``finally``.
    """

    @property
    def locator(self) -> Locator:
        """Where the blob will be; known from the start, so that what is written can be bound to it."""

    @property
    def readable_bytes(self) -> int:
        """How many bytes from the start can be read again by now; grows with what is written, and may lag behind it."""

    def reread(self) -> Reread:
        """Read what was written, while more is written. Raises Missing once the blob is committed or aborted."""

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``. Raises NoSpace, Transient or Permanent; after any error only ``abort`` may follow."""

    def commit(self, digest: Digest) -> BlobHandle:
        """Make the blob readable and durable: on return it survives power loss. ``digest`` is taken as given."""

    def abort(self) -> None:
        """Discard what was written, if it was not committed."""


class Pieces(Protocol):
    """The plain bytes of a blob, in order; an iterator that can be let go of early."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> bytes:
        """The next piece, never empty. Raises Damaged or Transient when it cannot be read."""

    def close(self) -> None:
        """Free what the reading holds (a file, a connection); idempotent. Nothing can be read afterwards."""


class BlobStore(Protocol):
    """Keeps bodies. All methods may be called from many threads and processes at once."""

    def begin(self) -> Pending:
        """Start a new blob. Raises NoSpace or Transient when the medium refuses."""

    def open(self, handle: BlobHandle, part: ByteRange | None = None) -> Pieces:
        """Yield the plain bytes of the blob or of ``part``, in order, in pieces of at most 1 MiB.

        The first piece is read before ``open`` returns, so that Missing, Damaged, KeyUnavailable and Transient show
        before an answer has begun; a later damaged piece raises from the iterator. Never yields a byte that did not
        authenticate. Closing the pieces frees their resources. A body that is not as long as ``handle`` says is
        Damaged. Raises ValueError for a part that is not within the blob.
        """

    def stat(self, locator: Locator) -> StoredInfo:
        """Size and age of a stored body. Raises Missing."""

    def delete(self, locator: Locator) -> None:
        """Remove a body; one that is absent already is success."""

    def iterate(self) -> Iterator[StoredInfo]:
        """All committed bodies, in no order; may miss what is being written and include what is being deleted."""

    def discard_unfinished(self, older_than: datetime, *, dry_run: bool = False) -> int:
        """Remove what writers left behind that began before ``older_than`` and never committed; return how many.

        A writer that is still at work on one of them fails at its commit, so ``older_than`` lies further back than
        the longest upload takes. With ``dry_run`` they are only counted.
        """
