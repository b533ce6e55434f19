"""Encryption at rest as a wrapper: a blob store that gives its inner store only cipher text.

Body, format EB1 (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizar 2015)::

    header     magic "EB1" (3) | version (1) | chunk_log2 (1) | nonce prefix (7)
    chunk i    AES-256-GCM(data key, nonce = prefix (7) | i (4, big-endian) | last (1), aad = header | locator)
               2^chunk_log2 plain bytes, fewer in the last chunk (none in an empty blob), and a tag of 16 bytes

Envelope, kept in the blob's row: ``header | data key wrapped by the keyring``, where the wrapping authenticates header,
locator, plain digest and plain size. So the last flag shows truncation and extension, the counter reordering, the
locator a body that was moved, and the envelope a row that was changed. The header stands in both, so that a range read
costs one read of the inner store. A data key encrypts one blob, once: a nonce cannot come twice.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.blobs import BlobHandle, BlobStore, ByteRange, Digest, Locator, Pending, Pieces, Reread, StoredInfo
from storage.errors import Damaged
from storage.keyring import Keyring
from storage.pieces import PrimedPieces, part_of
from storage.sealing import TAG_BYTES, new_key

_MAGIC = b"EB1\x01"
_PREFIX_BYTES = 7
_HEADER_BYTES = len(_MAGIC) + 1 + _PREFIX_BYTES
_SMALLEST_CHUNK_LOG2 = 12
ENVELOPE_BOX_AT = _HEADER_BYTES
"""Offset in an envelope of the sealed box that names the domain key."""
_LARGEST_CHUNK_LOG2 = 20  # a decrypted chunk is one piece, and a piece is at most 1 MiB

# 128 KiB, measured (one core, file system store; MB/s written, MB/s read, microseconds for a range of 8 KiB):
# 64 KiB 960, 1810, 145; 128 KiB 1080, 2100, 153; 256 KiB 1220, 1920, 264; 1 MiB 1180, 1860, 2029. Sequential reading is
# best here, and a client that reads the directory of an archive by ranges pays hardly more than with 64 KiB.
CHUNK_LOG2 = 17


class EncryptedStore:
    """Keeps blobs in ``inner``, encrypted under data keys that ``keyring`` wraps.

    ``2 ** chunk_log2`` plain bytes make a chunk of new blobs; old ones say theirs.
    """

    def __init__(self, inner: BlobStore, keyring: Keyring, *, chunk_log2: int = CHUNK_LOG2) -> None:
        if not _SMALLEST_CHUNK_LOG2 <= chunk_log2 <= _LARGEST_CHUNK_LOG2:
            raise ValueError(f"chunk_log2 is {_SMALLEST_CHUNK_LOG2} to {_LARGEST_CHUNK_LOG2}, not {chunk_log2}")
        self._inner = inner
        self._keyring = keyring
        self._chunk_log2 = chunk_log2

    def begin(self) -> _PendingEncrypted:
        """Start a new blob. Raises KeyUnavailable, before any byte is received, when the domain's key is."""
        self._keyring.require_current()
        header = _Header.new(self._chunk_log2)
        pending = self._inner.begin()
        try:
            pending.write(header.encoded)
        except BaseException:
            pending.abort()
            raise
        return _PendingEncrypted(pending, self._keyring, header)

    def open(self, handle: BlobHandle, part: ByteRange | None = None) -> Pieces:
        """Decrypt the blob or ``part`` of it, reading only the chunks that cover it."""
        return PrimedPieces(self._decrypt(handle, part_of(handle, part)))

    def stat(self, locator: Locator) -> StoredInfo:
        """Size of the cipher text, and age."""
        return self._inner.stat(locator)

    def delete(self, locator: Locator) -> None:
        """Remove a body."""
        self._inner.delete(locator)

    def iterate(self) -> Iterator[StoredInfo]:
        """All bodies of the inner store."""
        return self._inner.iterate()

    def discard_unfinished(self, older_than: datetime, *, dry_run: bool = False) -> int:
        """Remove what dead writers left in the inner store."""
        return self._inner.discard_unfinished(older_than, dry_run=dry_run)

    def rewrap(self, handle: BlobHandle) -> BlobHandle:
        """The handle with its data key under the domain's current key; the same handle when it is already.

        The body is not touched. Raises KeyUnavailable or Damaged.
        """
        header, wrapped = _open_envelope(handle)
        if self._keyring.key_id_of(wrapped) == self._keyring.current_id():
            return handle
        context = _context(header, handle.locator, handle.digest, handle.size_bytes)
        data_key = self._keyring.unwrap_data_key(wrapped, context)
        return replace(handle, envelope=header.encoded + self._keyring.wrap_data_key(data_key, context))

    def check_envelope(self, handle: BlobHandle) -> None:
        """Open the blob's data key, without looking at its body. Raises KeyUnavailable, ProviderAway or Damaged."""
        header, wrapped = _open_envelope(handle)
        self._keyring.unwrap_data_key(wrapped, _context(header, handle.locator, handle.digest, handle.size_bytes))

    def _decrypt(self, handle: BlobHandle, wanted: ByteRange) -> Generator[bytes, None, None]:
        header, wrapped = _open_envelope(handle)
        context = _context(header, handle.locator, handle.digest, handle.size_bytes)
        cipher = AESGCM(self._keyring.unwrap_data_key(wrapped, context))
        associated = header.encoded + handle.locator.encode("ascii")
        chunks = _Chunks(handle.size_bytes, 1 << header.chunk_log2)
        first, last = chunks.covering(wanted)
        body = BlobHandle(handle.locator, Digest(""), chunks.stored_bytes)
        source = self._inner.open(body, chunks.stored_range(first, last))
        try:
            cutter = _Cutter(source, handle.locator)
            if first == 0 and cutter.take(_HEADER_BYTES) != header.encoded:
                raise Damaged(f"blob {handle.locator} has another header than its row")
            for index in range(first, last + 1):
                sealed = cutter.take(chunks.plain_bytes(index) + TAG_BYTES)
                try:
                    plain = cipher.decrypt(header.nonce(index, is_last=index == chunks.last), sealed, associated)
                except InvalidTag:
                    raise Damaged(f"chunk {index} of blob {handle.locator} does not authenticate") from None
                if piece := chunks.within(wanted, index, plain):
                    yield piece
        finally:
            source.close()


@dataclass(frozen=True, slots=True)
class _Header:
    encoded: bytes

    @classmethod
    def new(cls, chunk_log2: int) -> _Header:
        return cls(_MAGIC + bytes((chunk_log2,)) + os.urandom(_PREFIX_BYTES))

    @property
    def chunk_log2(self) -> int:
        return self.encoded[len(_MAGIC)]

    def nonce(self, index: int, *, is_last: bool) -> bytes:
        return self.encoded[-_PREFIX_BYTES:] + index.to_bytes(4, "big") + (b"\x01" if is_last else b"\x00")


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Where the chunks of a body lie: offsets are in bytes, an empty blob has one empty chunk."""

    size_bytes: int
    chunk_bytes: int

    @property
    def last(self) -> int:
        return max(self.size_bytes - 1, 0) // self.chunk_bytes

    @property
    def stored_bytes(self) -> int:
        return _HEADER_BYTES + self.size_bytes + (self.last + 1) * TAG_BYTES

    def covering(self, wanted: ByteRange) -> tuple[int, int]:
        """First and last chunk to read; an empty range reads one, so that it too finds a damaged blob."""
        first = min(wanted.start // self.chunk_bytes, self.last)
        return first, max(first, (wanted.stop - 1) // self.chunk_bytes)

    def stored_range(self, first: int, last: int) -> ByteRange:
        """The bytes of the chunks from ``first`` to ``last``; the header, too, before chunk 0."""
        step = self.chunk_bytes + TAG_BYTES
        start = 0 if first == 0 else _HEADER_BYTES + first * step
        return ByteRange(start, min(_HEADER_BYTES + (last + 1) * step, self.stored_bytes))

    def plain_bytes(self, index: int) -> int:
        return self.chunk_bytes if index < self.last else self.size_bytes - index * self.chunk_bytes

    def within(self, wanted: ByteRange, index: int, plain: bytes) -> bytes:
        """The part of a decrypted chunk that was wanted; a whole chunk is not copied."""
        offset = index * self.chunk_bytes
        return plain[max(wanted.start - offset, 0) : wanted.stop - offset]


class _Cutter:
    """Cuts pieces of any length into the lengths that are asked for, copying only where a cut spans two pieces."""

    def __init__(self, pieces: Iterator[bytes], locator: Locator) -> None:
        self._pieces = pieces
        self._locator = locator
        self._rest = memoryview(b"")

    def take(self, size_bytes: int) -> bytes | memoryview:
        if len(self._rest) >= size_bytes:
            cut, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
            return cut
        parts = [self._rest]
        missing = size_bytes - len(self._rest)
        while missing:
            piece = memoryview(next(self._pieces, b""))
            if not piece:
                raise Damaged(f"blob {self._locator} ends before its last chunk")
            parts.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


class _PendingEncrypted:
    """Encrypts in whole chunks and keeps the newest back: only the end of the blob tells whether it is the last."""

    def __init__(self, inner: Pending, keyring: Keyring, header: _Header) -> None:
        self._inner = inner
        self._keyring = keyring
        self._header = header
        self._data_key = new_key()
        self._cipher = AESGCM(self._data_key)
        self._associated = header.encoded + inner.locator.encode("ascii")
        # A view, because assigning to a slice of a bytearray copies what is assigned once more.
        self._kept = memoryview(bytearray(1 << header.chunk_log2))
        self._kept_bytes = 0
        self._index = 0
        self._sealed_chunks = 0  # in the inner store, none of them the last: that one is sealed by the commit
        self._size_bytes = 0

    @property
    def locator(self) -> Locator:
        return self._inner.locator

    @property
    def readable_bytes(self) -> int:
        return self._sealed_chunks * len(self._kept)

    def reread(self) -> _RereadEncrypted:
        return _RereadEncrypted(self._inner.reread(), self._cipher, self._header, self._associated, self.locator)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._size_bytes += len(view)
        chunk_bytes = len(self._kept)
        while len(view) > chunk_bytes - self._kept_bytes:
            if not self._kept_bytes:
                self._write_chunk(view[:chunk_bytes], is_last=False)
                view = view[chunk_bytes:]
                continue
            missing = chunk_bytes - self._kept_bytes
            self._kept[self._kept_bytes :] = view[:missing]
            self._write_chunk(self._kept, is_last=False)
            self._kept_bytes = 0
            view = view[missing:]
        end = self._kept_bytes + len(view)
        self._kept[self._kept_bytes : end] = view
        self._kept_bytes = end

    def commit(self, digest: Digest) -> BlobHandle:
        # Wrapped first: a key that is gone must not leave a durable body behind that no row can open.
        context = _context(self._header, self.locator, digest, self._size_bytes)
        envelope = self._header.encoded + self._keyring.wrap_data_key(self._data_key, context)
        self._write_chunk(self._kept[: self._kept_bytes], is_last=True)
        # Not the plain digest: an inner store may show it to those who must not see which blobs are equal.
        self._inner.commit(Digest(""))
        return BlobHandle(self.locator, digest, self._size_bytes, envelope)

    def abort(self) -> None:
        self._inner.abort()

    def _write_chunk(self, plain: memoryview, *, is_last: bool) -> None:
        nonce = self._header.nonce(self._index, is_last=is_last)
        self._index += 1
        self._inner.write(self._cipher.encrypt(nonce, plain, self._associated))
        if not is_last:
            self._sealed_chunks += 1


class _RereadEncrypted:
    """Reads chunks back while more are written; the one that was read last is kept, for callers of small parts."""

    def __init__(self, inner: Reread, cipher: AESGCM, header: _Header, associated: bytes, locator: Locator) -> None:
        self._inner = inner
        self._cipher = cipher
        self._header = header
        self._associated = associated
        self._locator = locator
        self._chunk: tuple[int, bytes] = (-1, b"")

    def read(self, part: ByteRange) -> bytes:
        chunk_bytes = 1 << self._header.chunk_log2
        index = part.start // chunk_bytes
        if index != self._chunk[0]:
            self._chunk = index, self._opened(index, chunk_bytes)
        offset = index * chunk_bytes
        return self._chunk[1][part.start - offset : part.stop - offset]

    def close(self) -> None:
        self._inner.close()

    def _opened(self, index: int, chunk_bytes: int) -> bytes:
        start = _HEADER_BYTES + index * (chunk_bytes + TAG_BYTES)
        stop, sealed = start + chunk_bytes + TAG_BYTES, b""
        while start + len(sealed) < stop:
            sealed += self._inner.read(ByteRange(start + len(sealed), stop))
        try:
            return self._cipher.decrypt(self._header.nonce(index, is_last=False), sealed, self._associated)
        except InvalidTag:
            raise Damaged(f"chunk {index} of blob {self._locator} does not authenticate") from None


def wrapped_by(handle: BlobHandle) -> str | None:
    """The id of the domain key that wraps a blob's data key; None for a plain store's blob. Raises Damaged."""
    return Keyring.key_id_of(_open_envelope(handle)[1]) if handle.envelope else None


def _open_envelope(handle: BlobHandle) -> tuple[_Header, bytes]:
    header = _Header(handle.envelope[:_HEADER_BYTES])
    if len(header.encoded) < _HEADER_BYTES or not header.encoded.startswith(_MAGIC):
        raise Damaged(f"the envelope of blob {handle.locator} is not of a known format")
    if not _SMALLEST_CHUNK_LOG2 <= header.chunk_log2 <= _LARGEST_CHUNK_LOG2:
        raise Damaged(f"the envelope of blob {handle.locator} names an impossible chunk size")
    return header, handle.envelope[_HEADER_BYTES:]


def _context(header: _Header, locator: Locator, digest: Digest, size_bytes: int) -> str:
    return f"{header.encoded.hex()}:{locator}:{digest}:{size_bytes}"
