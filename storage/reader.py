"""A stored blob as a seekable file, so that archives are read where they are and no plain copy touches the disk."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from storage.blobs import KIB, BlobHandle, BlobStore, ByteRange, Pieces

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Archive readers jump to a directory of some kilobytes, then read entries in sequence: a jump should not cost much more
# than the chunk that it lands in.
_BUFFER_BYTES = 64 * KIB


class BlobFile(io.RawIOBase):
    """A read-only file over range reads of a store; for one thread.

    The first read after a jump asks the store for just what was asked of it; a second one in sequence goes on as one
    read to the end of the blob. Reads raise what ``store.open`` raises.
    """

    def __init__(self, store: BlobStore, handle: BlobHandle) -> None:
        super().__init__()
        self._store = store
        self._handle = handle
        self._position = 0
        self._pieces: Pieces | None = None
        self._piece = memoryview(b"")
        self._next_offset: int | None = None  # where reading on is reading in sequence

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; past the end is allowed and reads as the end. Raises ValueError for a position before the start."""
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._handle.size_bytes}
        if whence not in bases:
            raise ValueError(f"unknown whence {whence}")
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` from the current position, perhaps partly; 0 is the end."""
        target = memoryview(buffer).cast("B")
        remaining = self._handle.size_bytes - self._position
        if remaining <= 0 or not target:
            return 0
        if not self._piece or self._position != self._next_offset:
            self._piece = memoryview(self._read_on(min(len(target), remaining)))
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        self._position += count
        self._next_offset = self._position
        return count

    def close(self) -> None:
        """Free what the reading holds."""
        self._let_go()
        super().close()

    def _read_on(self, wanted_bytes: int) -> bytes:
        """The next piece from the current position."""
        in_sequence = self._position == self._next_offset
        if in_sequence and self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
        self._let_go()
        stop = self._handle.size_bytes if in_sequence else self._position + wanted_bytes
        self._pieces = self._store.open(self._handle, ByteRange(self._position, stop))
        return next(self._pieces)

    def _let_go(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        self._piece = memoryview(b"")


def open_file(store: BlobStore, handle: BlobHandle) -> io.BufferedReader:
    """The blob as a buffered file, for zipfile, tarfile and the like. Raises nothing before it is read."""
    return io.BufferedReader(BlobFile(store, handle), _BUFFER_BYTES)
