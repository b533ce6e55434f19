"""Reading a blob in pieces: what every store's ``open`` has in common."""

from __future__ import annotations

from collections.abc import Generator
from typing import Self

from storage.blobs import MIB, BlobHandle, ByteRange

PIECE_BYTES = MIB
"""The largest piece a store yields."""


class PrimedPieces:
    """Pieces whose first one is read already, so that an error shows before the first byte of an answer is sent."""

    def __init__(self, source: Generator[bytes, None, None]) -> None:
        self._source = source
        self._first = next(source, None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._first is None:
            return next(self._source)
        first, self._first = self._first, None
        return first

    def close(self) -> None:
        """Free what the source holds."""
        self._first = None
        self._source.close()


def part_of(handle: BlobHandle, part: ByteRange | None) -> ByteRange:
    """The range to read: ``part``, or the whole blob. Raises ValueError for a part that is not within the blob."""
    if part is None:
        return ByteRange(0, handle.size_bytes)
    if not 0 <= part.start <= part.stop <= handle.size_bytes:
        raise ValueError(f"bytes {part.start} to {part.stop} are not within a blob of {handle.size_bytes} bytes")
    return part
