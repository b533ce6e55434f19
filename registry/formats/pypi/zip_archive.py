"""Zip archives that every reader reads alike.

A zip file says everything twice: in front of each member (local header) and at the end (central directory). Readers
differ in which one they believe, and that is how one file becomes two different packages. Accepted here is only what
leaves no choice: local headers and central directory agree, the records cover the file without gap or overlap, there
is one end record, and each member unpacks to exactly its declared size and checksum (APPNOTE 4.3 to 4.5).
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from registry.archives.rules import PIECE_BYTES, Limits, check_path, check_tree
from registry.errors import Invalid, TooLarge

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END64_MAGIC, _LOCATOR64_MAGIC, _DESCRIPTOR_MAGIC = b"PK\6\6", b"PK\6\7", b"PK\7\x08"

_STORED, _DEFLATED = 0, 8
_U16_MAX, _U32_MAX = 0xFFFF, 0xFFFFFFFF
_FLAG_DESCRIPTOR, _FLAG_UTF8 = 0x0008, 0x0800
_FLAGS_ALLOWED = _FLAG_DESCRIPTOR | _FLAG_UTF8 | 0x0006  # 1 and 2: how hard the compressor tried
_EXTRA_ZIP64, _EXTRA_UNICODE_NAME = 0x0001, 0x7075


class Entry(NamedTuple):
    """A member. ``path`` has no closing slash; ``crc32`` and the sizes are the central directory's."""

    path: str
    is_folder: bool
    flags: int
    method: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    header_offset: int


class _Directory(NamedTuple):
    entries: int
    offset: int
    size_bytes: int


class ZipArchive:
    """A checked archive: constructing it raises Invalid or TooLarge for one that breaks a rule.

    With ``is_glance`` only its end and its directory are read, and a member's own header when the member is: enough to
    read a few members of an archive that lies far away, and no proof that the others are in order. ``entries`` holds
    its files and folders in the order in which they lie in the file. The file must stay as it is and open while the
    object is used.
    """

    def __init__(self, body: BinaryIO, limits: Limits, *, is_glance: bool = False) -> None:
        self._body = body
        self._limits = limits
        self._archive_bytes = body.seek(0, os.SEEK_END)
        directory = _find_directory(body, self._archive_bytes)
        if directory.entries > limits.members:
            raise TooLarge("the number of members", limits.members)
        if directory.size_bytes > limits.directory_bytes:
            raise TooLarge("the zip directory", limits.directory_bytes)
        self.entries = sorted(self._central(directory), key=lambda entry: entry.header_offset)
        limits.check_content(sum(entry.size_bytes for entry in self.entries), self._archive_bytes)
        ends = [*(entry.header_offset for entry in self.entries[1:]), directory.offset]
        self._ends = dict(zip(self.entries, ends, strict=False))  # an empty archive has no end
        self._is_glance = is_glance
        if not is_glance:
            self._check_layout(directory.offset)
        # Two names that differ in case only are one file on Windows and macOS: which one wins is the client's choice.
        check_tree((entry.path.casefold(), entry.is_folder) for entry in self.entries)
        self._by_path = {entry.path: entry for entry in self.entries if not entry.is_folder}

    def __contains__(self, path: str) -> bool:
        return path in self._by_path

    def find(self, path: str) -> Entry | None:
        """The file of that path, if there is one."""
        return self._by_path.get(path)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The whole content of a file. Raises KeyError when there is none, TooLarge, or Invalid like ``stream``."""
        entry = self._by_path[path]
        if entry.size_bytes > limit_bytes:
            raise TooLarge(f"{path} in the archive", limit_bytes)
        if self._is_glance:
            self._check_local(entry, self._ends[entry])
        return b"".join(self.stream(entry))

    def stream(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file in pieces. Raises Invalid at its end unless size and checksum are the declared ones."""
        self._body.seek(entry.header_offset)
        header = _LOCAL.unpack(_exactly(self._body, _LOCAL.size))
        self._body.seek(header[9] + header[10], os.SEEK_CUR)
        produced_bytes, crc = 0, 0
        for piece in _stored(self._body, entry) if entry.method == _STORED else _inflated(self._body, entry):
            produced_bytes += len(piece)
            # Stops at the first byte too many: a member that lies about its size costs no more than it declared.
            if produced_bytes > entry.size_bytes:
                raise _wrong(entry.path, "unpacks to more than its declared size")
            crc = zlib.crc32(piece, crc)
            yield piece
        if produced_bytes != entry.size_bytes:
            raise _wrong(entry.path, "unpacks to less than its declared size")
        if crc != entry.crc32:
            raise _wrong(entry.path, "does not have its declared checksum")

    def _central(self, directory: _Directory) -> Iterator[Entry]:
        self._body.seek(directory.offset)
        records = memoryview(_exactly(self._body, directory.size_bytes))
        position = 0
        for _ in range(directory.entries):
            if position + _CENTRAL.size > len(records):
                raise Invalid("zip: the directory is shorter than its number of entries")
            fields = _CENTRAL.unpack_from(records, position)
            position += _CENTRAL.size
            name, extra, comment = fields[10], fields[11], fields[12]
            end = position + name + extra + comment
            if fields[0] != _CENTRAL_MAGIC or end > len(records):
                raise Invalid("zip: a record of the directory is damaged")
            yield self._entry(fields, bytes(records[position : position + name]), bytes(records[position + name : end]))
            position = end
        if position != len(records):
            raise Invalid("zip: the directory is longer than its number of entries")

    def _entry(self, fields: tuple[int, ...], raw_name: bytes, tail: bytes) -> Entry:
        _, _, _, flags, method, _, _, crc, packed, size, _, extra_bytes, _, disk, _, attributes, offset = fields
        name = _name(raw_name, flags)
        path = check_path(name, self._limits)
        if flags & ~_FLAGS_ALLOWED or method not in (_STORED, _DEFLATED):
            raise _wrong(path, "is encrypted or packed in another way than 'stored' or 'deflated'")
        if disk:
            raise _wrong(path, "lies on another disk")
        size, packed, offset = _widened(tail[:extra_bytes], (size, packed, offset), path)
        is_folder = name.endswith("/")
        kind = stat.S_IFMT(attributes >> 16)
        if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
            raise _wrong(path, "is a link or a device, or its type contradicts its name")
        if is_folder and (size or packed):
            raise _wrong(path, "is a folder with content")
        if method == _STORED and size != packed:
            raise _wrong(path, "is stored, but with two different sizes")
        return Entry(path, is_folder, flags, method, crc, packed, size, offset)

    def _check_layout(self, directory_offset: int) -> None:
        """The members' records must cover the file up to the directory: a gap or an overlap hides something."""
        position = 0
        ends = [*(entry.header_offset for entry in self.entries[1:]), directory_offset]
        for entry, end in zip(self.entries, ends, strict=False):  # an empty archive has no end to check
            if entry.header_offset != position:
                raise _wrong(entry.path, "does not start where the record before it ends")
            position = end
            self._check_local(entry, end)
        if position != directory_offset:
            raise Invalid("zip: there is data outside of all members")

    def _check_local(self, entry: Entry, end: int) -> None:
        body = self._body
        body.seek(entry.header_offset)
        magic, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(
            _exactly(body, _LOCAL.size)
        )
        tail = _exactly(body, name_bytes + extra_bytes)
        if magic != _LOCAL_MAGIC:
            raise _wrong(entry.path, "has no local header")
        if (flags, method) != (entry.flags, entry.method):
            raise _wrong(entry.path, "has another method or other flags in its local header")
        if _name(tail[:name_bytes], flags).removesuffix("/") != entry.path:
            raise _wrong(entry.path, "has another name in its local header")
        is_zip64 = _U32_MAX in (packed, size)
        size, packed = _widened(tail[name_bytes:], (size, packed), entry.path)
        declared, central = (crc, packed, size), (entry.crc32, entry.packed_bytes, entry.size_bytes)
        # With a descriptor the header may leave the three open; a reader without the directory then needs the
        # descriptor, and can find it only behind data that mark their own end.
        is_open = bool(flags & _FLAG_DESCRIPTOR) and declared == (0, 0, 0)
        if declared != central and not is_open:
            raise _wrong(entry.path, "has another size or checksum in its local header")
        rest = end - body.tell() - entry.packed_bytes
        if flags & _FLAG_DESCRIPTOR and rest >= 0:
            if entry.method == _STORED and entry.packed_bytes:
                raise _wrong(entry.path, "is stored with its size behind it")
            body.seek(entry.packed_bytes, os.SEEK_CUR)
            rest -= self._check_descriptor(entry, rest, is_zip64=is_zip64)
        if rest:
            raise _wrong(entry.path, "does not end where the next record starts")

    def _check_descriptor(self, entry: Entry, rest: int, *, is_zip64: bool) -> int:
        form = struct.Struct("<4sI2Q" if is_zip64 else "<4s3I")
        if rest != form.size or form.unpack(_exactly(self._body, form.size)) != (
            _DESCRIPTOR_MAGIC,
            entry.crc32,
            entry.packed_bytes,
            entry.size_bytes,
        ):
            raise _wrong(entry.path, "has another size or checksum in its data descriptor")
        return form.size


def looks_like_zip(body: BinaryIO) -> bool:
    """Whether some reader of zip files would open this file: they look for the end record from behind, anywhere near."""
    size = body.seek(0, os.SEEK_END)
    start = max(0, size - _END.size - _U16_MAX)
    body.seek(start)
    tail = body.read(size - start)
    position = tail.rfind(_END_MAGIC)
    while position >= 0:
        if position + _END.size <= len(tail):
            _, disk, _, here, entries, directory_bytes, _, _ = _END.unpack_from(tail, position)
            first = start + position - directory_bytes
            # The magic alone stands in one of 65,000 large files by chance; a directory in front of it does not.
            if disk == 0 and here == entries and first >= 0:
                body.seek(first)
                if not entries or body.read(4) == _CENTRAL_MAGIC:
                    return True
        position = tail.rfind(_END_MAGIC, 0, position)
    return False


def _find_directory(body: BinaryIO, archive_bytes: int) -> _Directory:
    start = max(0, archive_bytes - _END.size - _U16_MAX)
    body.seek(start)
    tail = _exactly(body, archive_bytes - start)
    position = tail.rfind(_END_MAGIC)
    if position < 0 or position + _END.size > len(tail):
        raise Invalid("zip: there is no end record")
    _, disk, directory_disk, here, entries, size, offset, comment = _END.unpack_from(tail, position)
    if position + _END.size + comment != len(tail):
        raise Invalid("zip: there is data after the end record")
    if _is_ambiguous(tail, position):
        raise Invalid("zip: there are several end records")
    if disk or directory_disk or here != entries:
        raise Invalid("zip: the archive is split")
    end = start + position
    directory = _Directory(entries, offset, size)
    locator = body.seek(max(0, end - _LOCATOR64.size)), body.read(_LOCATOR64.size)
    if locator[1].startswith(_LOCATOR64_MAGIC) and end >= _LOCATOR64.size:
        directory, end = _find_directory64(body, locator[0], locator[1], directory)
    if directory.offset + directory.size_bytes != end:
        raise Invalid("zip: the directory does not lie right before the end record, or something precedes the archive")
    return directory


def _is_ambiguous(tail: bytes, chosen: int) -> bool:
    """Another end record whose comment reaches the end of the file as well: some readers would take that one."""
    position = tail.rfind(_END_MAGIC, 0, chosen)
    while position >= 0:
        comment = int.from_bytes(tail[position + _END.size - 2 : position + _END.size], "little")
        if position + _END.size + comment == len(tail):
            return True
        position = tail.rfind(_END_MAGIC, 0, position)
    return False


def _find_directory64(body: BinaryIO, at: int, raw: bytes, short: _Directory) -> tuple[_Directory, int]:
    """The 64-bit end record must lie right before its locator and say what the short record says where that can."""
    _, disk, offset, disks = _LOCATOR64.unpack(raw)
    if disk or disks != 1 or offset + _END64.size != at:
        raise Invalid("zip: the zip64 end record is not where its locator says, or is not of the plain form")
    body.seek(offset)
    magic, size, _, _, disk, directory_disk, here, entries, directory_bytes, directory_offset = _END64.unpack(
        _exactly(body, _END64.size)
    )
    if magic != _END64_MAGIC or size != _END64.size - 12 or disk or directory_disk or here != entries:
        raise Invalid("zip: the zip64 end record is damaged")
    wide = _Directory(entries, directory_offset, directory_bytes)
    for small, large, sentinel in zip(short, wide, (_U16_MAX, _U32_MAX, _U32_MAX), strict=True):
        if small not in (large, sentinel):
            raise Invalid("zip: the zip64 end record contradicts the end record")
    return wide, offset


def _widened(extra: bytes, values: tuple[int, ...], path: str) -> tuple[int, ...]:
    """Take 64-bit values from the zip64 field: exactly those the record left open (APPNOTE 4.5.3)."""
    position, found = 0, None
    while position < len(extra):
        kind, length = struct.unpack_from("<2H", extra, position) if position + 4 <= len(extra) else (0, _U16_MAX)
        position += 4 + length
        if position > len(extra) or kind == _EXTRA_UNICODE_NAME or (kind == _EXTRA_ZIP64 and found is not None):
            raise _wrong(path, "has a damaged extra field, or one that names it again")
        if kind == _EXTRA_ZIP64:
            found = extra[position - length : position]
    is_open = [value == _U32_MAX for value in values]
    if found is None and not any(is_open):
        return values
    if found is None or not any(is_open) or len(found) != 8 * sum(is_open):
        raise _wrong(path, "has a zip64 field that does not fit its record")
    wide = iter(struct.unpack(f"<{sum(is_open)}Q", found))
    return tuple(next(wide) if is_wide else value for value, is_wide in zip(values, is_open, strict=True))


def _name(raw: bytes, flags: int) -> str:
    # Without the UTF-8 flag the code page is anybody's guess, so that only ASCII is the same name for everybody.
    try:
        return raw.decode("utf-8" if flags & _FLAG_UTF8 else "ascii")
    except UnicodeDecodeError as error:
        raise Invalid(f"zip: member name {raw[:200]!a} is neither ASCII nor marked UTF-8") from error


def _stored(body: BinaryIO, entry: Entry) -> Iterator[bytes]:
    left = entry.packed_bytes
    while left:
        piece = _exactly(body, min(left, PIECE_BYTES))
        left -= len(piece)
        yield piece


def _inflated(body: BinaryIO, entry: Entry) -> Iterator[bytes]:
    inflate, left, packed = zlib.decompressobj(-zlib.MAX_WBITS), entry.packed_bytes, b""
    while not inflate.eof:
        if not packed and left:
            packed = _exactly(body, min(left, PIECE_BYTES))
            left -= len(packed)
        try:
            piece = inflate.decompress(packed, PIECE_BYTES)
        except zlib.error as error:
            raise _wrong(entry.path, "is not deflate data") from error
        packed = inflate.unconsumed_tail
        if piece:
            yield piece
        elif not packed and not left and not inflate.eof:
            raise _wrong(entry.path, "breaks off")
    if inflate.unused_data or left:
        raise _wrong(entry.path, "has data behind its end")


def _exactly(body: BinaryIO, count_bytes: int) -> bytes:
    data = body.read(count_bytes)
    if len(data) != count_bytes:
        raise Invalid("zip: the archive breaks off")
    return data


def _wrong(path: str, what: str) -> Invalid:
    return Invalid(f"zip: member {path[:200]!a} {what}")
