"""Receiving a body in one pass: count, limit, hash and write together, then compare with what was promised.

Completeness is never "no exception was raised": a server that cuts a body short may look as if it had ended it. So the
declared length and the promised digests are compared here, before the blob is committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self

from storage.blobs import KIB, BlobHandle, BlobStore, Digest, Reread
from storage.errors import BodyRejected, BodyTooLarge, BodyTooShort, DigestMismatch


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


# Not used for security where sha1 and md5 are: older clients and formats still print and compare them.
_HASHES: Final[Mapping[str, Callable[[], _Hash]]] = {
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "blake2b_256": partial(hashlib.blake2b, digest_size=32),
}
ALGORITHMS: Final = frozenset(_HASHES)
"""The digests that can be asked for; all are lower-case hex. ``sha256`` is always computed."""

_READ_BYTES = 256 * KIB


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""


@dataclass(frozen=True, slots=True)
class Received:
    """A body that is kept: where, and its digests in lower-case hex by algorithm."""

    handle: BlobHandle
    digests: Mapping[str, str]


class Intake:
    """A body on its way into ``store``: write to it, then ``finish`` or ``abort``; leaving a ``with`` block aborts.

    ``limit_bytes`` is the largest body that is let in; ``algorithms`` are computed besides sha256. After any error
    nothing is kept. Raises ValueError for an unknown algorithm, and what ``store.begin`` raises.
    """

    def __init__(self, store: BlobStore, limit_bytes: int, *, algorithms: Collection[str] = ()) -> None:
        if unknown := set(algorithms) - ALGORITHMS:
            raise ValueError(f"unknown digest algorithms: {', '.join(sorted(unknown))}")
        self._hashes = {name: _HASHES[name]() for name in sorted({"sha256", *algorithms})}
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._pending = store.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def size_bytes(self) -> int:
        """How many bytes have arrived."""
        return self._size_bytes

    @property
    def readable_bytes(self) -> int:
        """How many bytes from the start ``reread`` gives by now; lags a little behind ``size_bytes``."""
        return self._pending.readable_bytes

    def reread(self) -> Reread:
        """Read again what has arrived, also by another thread. Raises Missing after ``finish`` or ``abort``."""
        return self._pending.reread()

    def write(self, data: bytes) -> int:
        """Take in the next bytes; returns their number, as files do. Raises BodyTooLarge, NoSpace or Transient."""
        if self._size_bytes + len(data) > self._limit_bytes:
            self.abort()
            raise BodyTooLarge(self._limit_bytes)
        for running in self._hashes.values():
            running.update(data)
        self._pending.write(data)
        self._size_bytes += len(data)
        return len(data)

    def digests(self) -> dict[str, str]:
        """The digests of what has arrived: whether the bytes are kept already can be asked before ``finish``."""
        return {name: running.hexdigest() for name, running in self._hashes.items()}

    def check(self, expected: Mapping[str, str] | None = None, declared_bytes: int | None = None) -> dict[str, str]:
        """Compare length and digests with what was promised, and return the digests; aborts when they differ.

        ``expected`` maps algorithms to hex digests. Raises BodyTooShort, BodyRejected (longer than declared),
        DigestMismatch, and ValueError for an algorithm that was not asked for at the start.
        """
        digests = self.digests()
        try:
            _compare(digests, expected or {}, self._size_bytes, declared_bytes)
        except (BodyRejected, ValueError):
            self.abort()
            raise
        return digests

    def finish(self, expected: Mapping[str, str] | None = None, declared_bytes: int | None = None) -> Received:
        """Compare as ``check`` does, then keep the body durably. Raises what ``check`` and ``commit`` raise."""
        digests = self.check(expected, declared_bytes)
        try:
            handle = self._pending.commit(Digest(digests["sha256"]))
        finally:
            self._pending.abort()
        return Received(handle, digests)

    def abort(self) -> None:
        """Keep nothing; does nothing after ``finish``."""
        self._pending.abort()


def receive(
    stream: Readable,
    store: BlobStore,
    *,
    limit_bytes: int,
    declared_bytes: int | None = None,
    expected: Mapping[str, str] | None = None,
    algorithms: Collection[str] = (),
) -> Received:
    """Read ``stream`` to its end into ``store``, in constant memory.

    ``declared_bytes`` is the length that was announced, None when there was none; the algorithms of ``expected`` are
    computed unasked. Raises BodyTooLarge (at once when the announced length is), BodyTooShort, DigestMismatch,
    BodyRejected, what the store raises, and what the stream raises; nothing is kept then.
    """
    if declared_bytes is not None and declared_bytes > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    with Intake(store, limit_bytes, algorithms={*algorithms, *(expected or ())}) as intake:
        while data := stream.read(_READ_BYTES):
            intake.write(data)
        return intake.finish(expected, declared_bytes)


def _compare(
    digests: Mapping[str, str], expected: Mapping[str, str], size_bytes: int, declared_bytes: int | None
) -> None:
    if declared_bytes is not None and size_bytes < declared_bytes:
        raise BodyTooShort(declared_bytes, size_bytes)
    if declared_bytes is not None and size_bytes > declared_bytes:
        raise BodyRejected(f"body of {size_bytes} bytes is longer than the {declared_bytes} that were declared")
    for algorithm, promised in expected.items():
        if algorithm not in digests:
            raise ValueError(f"{algorithm} was not computed")
        if promised.strip().lower() != digests[algorithm]:
            raise DigestMismatch(algorithm, promised, digests[algorithm])
