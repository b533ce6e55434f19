"""Gzipped tar archives, read as a stream with our own walker.

The standard library's reader takes a header's word for sizes (a 4 GiB extended header is read into memory) and has had
endless loops on negative ones; others believe an extended header's size where this one believes the plain header's. Read
here is only what all of them read alike: POSIX ustar with ``path``, ``linkpath`` and descriptive extended records (pax),
and GNU long names.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from registry.archives.rules import MIB, PIECE_BYTES, Limits
from registry.errors import Invalid, TooLarge

BLOCK_BYTES = 512
_GZIP_MAGIC = b"\x1f\x8b\x08"
_EXTENSION_BYTES = MIB  # extended headers and long names; real ones have some hundred bytes
_EXTENSIONS = b"xgLK"  # pax, pax for all that follows, GNU long name, GNU long link target
# name, size, checksum, type, link target, magic and version, prefix (POSIX ustar)
_HEADER = struct.Struct("100s24x12s12x8sc100s8s80x155s12x")
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_GZIP = zlib.MAX_WBITS | 16


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


_KINDS = {b"0": Kind.FILE, b"\0": Kind.FILE, b"5": Kind.FOLDER, b"2": Kind.SYMLINK, b"1": Kind.HARDLINK}


class Member(NamedTuple):
    """A member as its headers say; nothing of it is checked but its form. ``target`` is a link's."""

    name: str
    kind: Kind
    size_bytes: int
    target: str


class TarGzArchive:
    """Iterate over it once: it yields each member, whose content ``read`` gives until the next one is asked for.

    Raises Invalid for what breaks the format and TooLarge as soon as a limit is passed, never after it.
    """

    def __init__(self, body: BinaryIO, limits: Limits) -> None:
        body.seek(0)
        self._source = _Gunzip(body, limits)
        self._limits = limits
        self._left_bytes = 0
        self._padding_bytes = 0

    def __iter__(self) -> Iterator[Member]:
        extended: dict[str, str] = {}
        for _ in range(self._limits.members + 1):
            self._skip()
            block = self._source.read(BLOCK_BYTES)
            if block == _ZERO_BLOCK:
                if extended:
                    raise Invalid("tar: an extended header belongs to no member")
                self._check_end()
                return
            flag, member = _header(block)
            self._left_bytes = member.size_bytes
            self._padding_bytes = -member.size_bytes % BLOCK_BYTES
            if flag in _EXTENSIONS:
                if "size" in extended:  # it could be meant for this header as well
                    raise Invalid("tar: an extended header with a size is not followed by its member")
                _merge(extended, self._extension(flag, member.size_bytes), is_global=flag == b"g")
                continue
            yield _apply(member, extended)
            extended = {}
        raise TooLarge("the number of members", self._limits.members)

    def read(self, limit_bytes: int) -> bytes:
        """What is left of the current member. Raises TooLarge."""
        if self._left_bytes > limit_bytes:
            raise TooLarge("a document in the archive", limit_bytes)
        data = self._source.read(self._left_bytes)
        self._left_bytes = 0
        return data

    def _skip(self) -> None:
        self._source.skip(self._left_bytes + self._padding_bytes)
        self._left_bytes = self._padding_bytes = 0

    def _extension(self, flag: bytes, size_bytes: int) -> dict[str, str]:
        if size_bytes > _EXTENSION_BYTES:
            raise TooLarge("an extended header", _EXTENSION_BYTES)
        data = self.read(_EXTENSION_BYTES)
        if flag in b"xg":
            return _pax_records(data)
        return {"path" if flag == b"L" else "linkpath": _utf8(data.removesuffix(b"\0"))}

    def _check_end(self) -> None:
        # Some readers stop at the first block of zeros, others read on: nothing may follow for them to find.
        while piece := self._source.some():
            if piece.count(0) != len(piece):
                raise Invalid("tar: there is data after the end of the archive")


class _Gunzip:
    """A bounded reader of one gzip member that must fill the whole file."""

    def __init__(self, body: BinaryIO, limits: Limits) -> None:
        self._body = body
        self._limits = limits
        self._inflate = zlib.decompressobj(_GZIP)
        self._buffer = b""
        self._at = 0  # how much of the buffer is used up: cutting it at each header would copy it 256 times
        self._taken_bytes = self._produced_bytes = 0
        if body.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            raise Invalid("the archive is not a gzip file")
        body.seek(0)

    def read(self, count_bytes: int) -> bytes:
        """Exactly ``count_bytes``, which the caller has bounded. Raises Invalid when there are fewer."""
        pieces = []
        while count_bytes > 0:
            piece = self._take(count_bytes)
            count_bytes -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip(self, count_bytes: int) -> None:
        """Pass over ``count_bytes``. Raises Invalid when there are fewer."""
        while count_bytes > 0:
            count_bytes -= len(self._take(count_bytes))

    def some(self) -> bytes:
        """Any next piece; empty at the end."""
        piece, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return piece or self._more()

    def _take(self, count_bytes: int) -> bytes:
        if self._at == len(self._buffer):
            self._buffer, self._at = self._more(), 0
        if not self._buffer:
            raise Invalid("tar: the archive breaks off")
        piece = self._buffer[self._at : self._at + count_bytes]
        self._at += len(piece)
        return piece

    def _more(self) -> bytes:
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._body.read(PIECE_BYTES)
                self._taken_bytes += len(packed)
            try:
                piece = self._inflate.decompress(packed, PIECE_BYTES)
            except zlib.error as error:
                raise Invalid("gzip: the data are damaged") from error
            self._produced_bytes += len(piece)
            # Against what was read so far, not the file's size: a bomb is refused where it starts to be one.
            self._limits.check_content(self._produced_bytes, self._taken_bytes)
            if piece:
                return piece
            if not packed and not self._inflate.eof:
                raise Invalid("gzip: the data break off")
        # A second gzip member is content for some readers and rubbish for others.
        if self._inflate.unused_data or self._body.read(1):
            raise Invalid("gzip: there is data after the end")
        return b""


def looks_like_tar(body: BinaryIO) -> bool:
    """Whether the file starts with a tar header: such a file must not pass as another kind of archive."""
    body.seek(0)
    block = body.read(BLOCK_BYTES)
    return len(block) == BLOCK_BYTES and block != _ZERO_BLOCK and _checksum(block) == _octal(_HEADER.unpack(block)[2])


def _header(block: bytes) -> tuple[bytes, Member]:
    raw_name, raw_size, stated, flag, raw_target, magic, raw_prefix = _HEADER.unpack(block)
    if _checksum(block) != _octal(stated):
        raise Invalid("tar: a header has a wrong checksum")
    size_bytes = _octal(raw_size)
    if size_bytes < 0:  # also the base-256 form, which is for sizes beyond all limits, and negative ones
        raise Invalid("tar: a header's number is damaged, negative or beyond all limits")
    name = _text(raw_name)
    if prefix := _text(raw_prefix):
        # GNU headers may have times in that place, which some readers take for a prefix none the less.
        if magic[:6] != b"ustar\0":
            raise Invalid(f"tar: member {name[:200]!a} has a prefix in a header that is not POSIX")
        name = f"{prefix}/{name}"
    if flag in _EXTENSIONS:
        return flag, Member(name, Kind.FILE, size_bytes, "")
    kind = _KINDS.get(flag)
    if kind is None:
        raise Invalid(f"tar: member {name[:200]!a} is a device, a sparse file or of an unknown type ({flag!r})")
    if flag == b"\0" and name.endswith("/") and not size_bytes:
        kind = Kind.FOLDER  # how tar wrote folders before POSIX
    if kind is not Kind.FILE and size_bytes:
        raise Invalid(f"tar: member {name[:200]!a} is a {kind} with content")
    return flag, Member(name, kind, size_bytes, _text(raw_target))


def _merge(extended: dict[str, str], records: dict[str, str], *, is_global: bool) -> None:
    for key, value in records.items():
        if key.startswith("GNU.sparse") or key == "hdrcharset":
            raise Invalid(f"tar: the extended record {key[:100]!a} is not accepted")
        if key not in ("path", "linkpath", "size"):
            continue  # times, owners, comments
        if is_global or key in extended:
            raise Invalid(f"tar: a member's {key} is given for all members or twice")
        extended[key] = value


def _apply(member: Member, extended: dict[str, str]) -> Member:
    if not extended and not (member.kind is Kind.FILE and member.name.endswith("/")):
        return member
    # Readers disagree about which of two sizes counts, and so about where the next header is.
    if "size" in extended and extended["size"] != str(member.size_bytes):
        raise Invalid(f"tar: member {member.name[:200]!a} has two sizes")
    name, target = extended.get("path", member.name), extended.get("linkpath", member.target)
    if member.kind is Kind.FILE and name.endswith("/"):
        raise Invalid(f"tar: member {name[:200]!a} is a file with a folder's name")
    return Member(name, member.kind, member.size_bytes, target)


def _pax_records(data: bytes) -> dict[str, str]:
    """Records of the form "length key=value" (POSIX pax, Extended Header); the length counts all of the record."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 8)
        digits = data[position : max(blank, position)]
        length = int(digits) if digits.isdigit() else 0
        record = data[position : position + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if length <= len(digits) + 1 or len(record) != length or not record.endswith(b"\n") or not equals:
            raise Invalid("tar: an extended header is damaged")
        name = _utf8(key)
        if name in records:
            raise Invalid("tar: an extended header says a thing twice")
        # Values that only describe (extended attributes) may be any bytes; they are not looked at.
        records[name] = _utf8(value) if name in ("path", "linkpath", "size") else ""
        position += length
    return records


def _octal(field: bytes) -> int:
    """An octal number between blanks and NULs; -1 for anything else."""
    digits = _OCTAL.fullmatch(field)
    return int(digits[1] or b"0", 8) if digits else -1


def _checksum(block: bytes) -> int:
    return sum(block) - sum(block[148:156]) + 8 * 0x20


def _text(field: bytes) -> str:
    return _utf8(field.partition(b"\0")[0])


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"tar: the name {raw[:200]!a} is not UTF-8") from error
