"""The report files of a build, out of the zip that the sandbox sent: bounded, and one at a time on this side's disk."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from hooks.builds.reports.model import Malformed

MIB = 1024 * 1024
MOST_ZIP_BYTES = 256 * MIB
MOST_FILES = 10_000
MOST_FILE_BYTES = 64 * MIB
MOST_BYTES = 512 * MIB
_MOST_DIRECTORY_BYTES = 2 * MIB
_SPOOL_BYTES = 4 * MIB
_CHUNK_BYTES = 256 * 1024
_END = struct.Struct("<4s4H2LH")


class CappedSink:
    """Takes a zip as far as its limit and lets go of the rest, so that the sandbox may finish its sentence."""

    def __init__(self, body: IO[bytes], limit_bytes: int) -> None:
        self._body = body
        self._left_bytes = limit_bytes
        self.is_over = False

    def write(self, data: bytes) -> None:
        """Take one piece."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self.is_over = True
        else:
            self._body.write(data)


def report_files(
    body: IO[bytes], note: Callable[[str, str], None], pause: Callable[[], None]
) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, contents at their beginning) of the files in a zip, by name.

    ``note`` (name, fault) is told of those that cannot be had, ``pause`` is called now and then. Raises Malformed when
    the zip as a whole cannot be read.
    """
    _check_directory(body)
    left_bytes = MOST_BYTES
    try:
        with ZipFile(body) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
            for entry in entries[:MOST_FILES]:
                with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
                    try:
                        _copy(archive, entry, file, min(left_bytes, MOST_FILE_BYTES), pause)
                    except Malformed as error:
                        note(entry.filename, str(error))
                        continue
                    left_bytes -= file.tell()
                    file.seek(0)
                    yield entry.filename, file
            if len(entries) > MOST_FILES:
                note(f"{len(entries) - MOST_FILES} more files", f"are not read: there are more than {MOST_FILES}")
    except (BadZipFile, ValueError, struct.error) as error:
        raise Malformed("what the sandbox sent is not a zip") from error


def _check_directory(body: IO[bytes]) -> None:
    """Refuse a table of contents that alone would fill the memory, and every zip that our packer does not write."""
    size = body.seek(0, 2)
    if size < _END.size:
        raise Malformed("what the sandbox sent is not a zip")
    body.seek(size - _END.size)
    mark, *_, directory_bytes, _offset, comment_bytes = _END.unpack(body.read(_END.size))
    if mark != b"PK\5\6" or comment_bytes:
        raise Malformed("what the sandbox sent is not a zip")
    if directory_bytes > _MOST_DIRECTORY_BYTES:
        raise Malformed(f"more than {MOST_FILES} files match")
    body.seek(0)


def _copy(archive: ZipFile, entry: ZipInfo, file: IO[bytes], limit_bytes: int, pause: Callable[[], None]) -> None:
    if entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED} or entry.flag_bits & 1:
        raise Malformed("is packed in a way that is not read")
    try:
        with archive.open(entry) as packed:
            while data := packed.read(_CHUNK_BYTES):
                limit_bytes -= len(data)
                if limit_bytes < 0:
                    raise Malformed(f"is larger than {MOST_FILE_BYTES // MIB} MiB, or all together are too large")
                file.write(data)
                pause()
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as error:
        raise Malformed("did not arrive as a whole") from error
