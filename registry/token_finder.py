"""Finding our own tokens in bytes that pass by. Pure: it says what has a token's shape and checksum, nothing of rows.

The checksum makes a chance hit all but impossible (one in 2^32 of what has the shape), so that what is found is a token.
Found as they are and in base64 (credentials of clients, ``user:token``, are written so). Bytes are looked at once, in
constant memory; searching for four fixed characters costs next to nothing beside hashing the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final
from zipfile import BadZipFile, LargeZipFile, ZipFile, is_zipfile

from registry.token_shape import TOKEN_PREFIX, looks_like_token

TOKEN_CHARACTERS: Final = 53
_PREFIX = TOKEN_PREFIX.encode()
_SHAPE = re.compile(rb"ent_[0-9A-Za-z]{49}")
_BEGINNING = re.compile(rb"(?:ent_[0-9A-Za-z]{0,48}|ent|en|e)\Z")
_LONGEST = 80  # bytes that one token can take: 53, in base64 at most 76
_READ_BYTES = 256 * 1024

ARCHIVE_BYTES: Final = 512 * 1024 * 1024
"""How much of an archive's contents is unpacked to look at: smallest members first, where there is a choice."""
ARCHIVE_MEMBERS: Final = 100_000


def _in_base64() -> tuple[tuple[bytes, int], ...]:
    """The characters that the prefix alone decides, and how far before them the group of four begins, by position."""
    found = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + _PREFIX + b"\0\0")
        first, last = -(-8 * before // 6), 8 * (before + len(_PREFIX)) // 6
        found.append((encoded[first:last], first))
    return tuple(found)


_BASE64 = _in_base64()
_SKIPS = (0, 1, 2)


class Finder:
    """Looks through a stream that is fed to it in pieces. Not thread-safe."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> set[str]:
        """The tokens that are complete with ``data``; one over the border of pieces is found with the later one."""
        text = self._tail + data
        self._tail = text[-(_LONGEST - 1) :]
        return set(find(text))


class Mask:
    """Makes our tokens in a stream unreadable, also across the borders of pieces, and remembers them in ``found``.

    What is in base64 is found, and shown as it is. Not thread-safe.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._finder = Finder()
        self._held = b""

    @property
    def held(self) -> bytes:
        """What is held back: another one that is fed with it first goes on where this one left off."""
        return self._held

    def feed(self, data: bytes) -> bytes:
        """What may be shown so far; only an ending that could be the start of a token is held back."""
        self.found |= self._finder.feed(data)
        text = self._held + data
        beginning = _BEGINNING.search(text, max(0, len(text) - TOKEN_CHARACTERS + 1))
        end = len(text) if beginning is None else beginning.start()
        self._held = text[end:]
        return _SHAPE.sub(_masked, text[:end])

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        text, self._held = self._held, b""
        return _SHAPE.sub(_masked, text)


def mask(text: str) -> str:
    """A whole text without our tokens."""
    return _SHAPE.sub(_masked, text.encode(errors="replace")).decode(errors="replace")


def _masked(match: re.Match[bytes]) -> bytes:
    return b"***" if looks_like_token(match[0].decode("ascii")) else match[0]


def find(text: bytes) -> Iterator[str]:
    """All tokens in ``text``."""
    position = text.find(_PREFIX)
    while position >= 0:
        match = _SHAPE.match(text, position)
        if match is not None and looks_like_token(token := match[0].decode("ascii")):
            yield token
        position = text.find(_PREFIX, position + 1)
    for (fragment, before), skip in zip(_BASE64, _SKIPS, strict=True):
        position = text.find(fragment)
        while position >= 0:
            if position >= before and (found := _decoded(text, position - before, skip)) is not None:
                yield found
            position = text.find(fragment, position + 1)


def _decoded(text: bytes, start: int, skip: int) -> str | None:
    groups = -(-(skip + TOKEN_CHARACTERS) // 3)
    piece = _PIECE.match(text[start : start + 4 * groups].translate(_FROM_URL_SAFE))[0]  # type: ignore[index]
    try:
        plain = base64.b64decode(piece + b"=" * (-len(piece) % 4), validate=True)
    except binascii.Error:
        return None  # it is something else that looks like the beginning of one
    token = plain[skip : skip + TOKEN_CHARACTERS].decode("latin-1")
    return token if looks_like_token(token) else None


_PIECE = re.compile(rb"[0-9A-Za-z+/]*")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def in_archive(body: BinaryIO) -> Iterator[str]:
    """The tokens in what a gzip (also a tar in one) or zip file holds, unpacked within bounds; nothing of other files.

    ``body`` is seekable. Archives in archives are not opened. What is damaged is looked at as far as it can be read:
    whether such a file is taken is its format's to say.
    """
    magic = body.read(4)
    body.seek(0)
    if magic[:2] == b"\x1f\x8b":
        yield from _in_gzip(body)
    elif magic[:2] == b"PK" and is_zipfile(body):
        body.seek(0)
        yield from _in_zip(body)


def _in_gzip(body: BinaryIO) -> Iterator[str]:
    finder, left = Finder(), ARCHIVE_BYTES
    unpacker = zlib.decompressobj(wbits=31)
    while left > 0 and (data := body.read(_READ_BYTES)):
        while data and left > 0:
            try:
                plain = unpacker.decompress(data, _READ_BYTES)
            except zlib.error:
                return  # damaged, or something behind the end: see above
            left -= len(plain)
            yield from finder.feed(plain)
            data = unpacker.unconsumed_tail
            if unpacker.eof:
                data = unpacker.unused_data.lstrip(b"\0")  # one file of several parts (RFC 1952 §2.2)
                unpacker = zlib.decompressobj(wbits=31)
    if left > 0:  # else all the rest would be unpacked at once
        yield from finder.feed(unpacker.flush())


def _in_zip(body: BinaryIO) -> Iterator[str]:
    left = ARCHIVE_BYTES
    try:
        with ZipFile(body) as archive:
            members = sorted(archive.infolist()[:ARCHIVE_MEMBERS], key=lambda member: member.file_size)
            for member in members:
                if left <= 0:
                    return
                finder = Finder()
                with archive.open(member) as stream:
                    while left > 0 and (plain := stream.read(_READ_BYTES)):
                        left -= len(plain)
                        yield from finder.feed(plain)
    except (BadZipFile, LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error):
        return  # damaged, encrypted, or packed in a way nobody here unpacks: see ``in_archive``
