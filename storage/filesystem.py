"""Bodies as files under one directory, written so that what was acknowledged survives power loss.

The order of a commit: the body is written to a temporary file of the same file system, the file is synced and closed,
renamed to its final name, and then the directory that got the name is synced. A body is thus under its final name
whole or not at all, and ``commit`` returns only when both the bytes and the name are on the medium.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from storage.blobs import BlobHandle, ByteRange, Digest, Locator, Pieces, StoredInfo
from storage.disk import Disk, as_storage_error, make_directories, make_directory, write_all
from storage.errors import Damaged, Missing, Permanent, StorageError, Transient
from storage.locators import Clock, created_at, new_locator, system_clock
from storage.paths import Layout
from storage.pieces import PIECE_BYTES, PrimedPieces, part_of
from storage.volume import VolumeHealth

_PROBE_BYTES = 4096


class FileSystemStore:
    """Keeps bodies as files below ``root``, which is made when it is absent; several processes may share it.

    After construction ``root`` itself is never made again: a directory that has gone is a volume that was not
    mounted, not an empty store, and every call then raises Transient.
    ``monotonic`` gives seconds.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock = system_clock,
        disk: Disk | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = Layout(root)
        self._health = VolumeHealth(self.probe, monotonic=monotonic)
        self._clock = clock
        self._disk = disk or Disk()
        self._durable_shards: set[Path] = set()
        with as_storage_error(f"make the blob directory {root}"):
            if not self._disk.is_directory(self._layout.temporary_directory):
                make_directories(self._layout.temporary_directory, self._disk)

    def probe(self) -> None:
        """Prove that this volume can keep a blob: write, sync, rename, read back, delete.

        Raises NoSpace, Transient or Permanent when it cannot.
        """
        sample = secrets.token_bytes(_PROBE_BYTES)
        pending = self._begin()
        try:
            pending.write(sample)
            handle = pending.commit(Digest(""))
        finally:
            pending.abort()
        try:
            with closing(self.open(handle)) as pieces:
                returned = b"".join(pieces)
        finally:
            self.delete(handle.locator)
        if returned != sample:
            raise Permanent(f"the volume of {self._layout.root} gives back other bytes than were written")

    def check(self) -> None:
        """Raise Transient, with the reason, while the volume is suspect or a probe fails; one stands for 5 seconds.

        What is known is this process's own: another finds out by its own writes and probes.
        """
        self._health.check()

    def begin(self) -> _PendingFile:
        """Start a new blob in a temporary file. Raises Transient on a suspect volume (``storage.volume``)."""
        self._health.require()
        return self._begin()

    def _begin(self) -> _PendingFile:
        locator = new_locator(self._clock())
        with self._noted(), as_storage_error("begin a blob"):
            descriptor = self._disk.create(self._layout.temporary(locator))
        return _PendingFile(self, locator, descriptor)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Take account of what goes wrong in writing."""
        try:
            yield
        except StorageError as error:
            self._health.note(error)
            raise

    def open(self, handle: BlobHandle, part: ByteRange | None = None) -> Pieces:
        """Yield the bytes of the blob or of ``part``."""
        return PrimedPieces(self._read(handle, part_of(handle, part)))

    def stat(self, locator: Locator) -> StoredInfo:
        """Size and age of a body."""
        path = self._layout.body(locator)
        with as_storage_error(f"look at blob {locator}"):
            try:
                stored_bytes = self._disk.size(path)
            except FileNotFoundError:
                self._raise_missing(locator)
        return StoredInfo(locator, stored_bytes, created_at(locator))

    def delete(self, locator: Locator) -> None:
        """Remove a body. Not synced: a body that comes back after power loss has no row, and the sweep takes it."""
        path = self._layout.body(locator)
        with as_storage_error(f"delete blob {locator}"):
            try:
                self._disk.unlink(path)
            except FileNotFoundError:
                self._require_volume()

    def iterate(self) -> Iterator[StoredInfo]:
        """All bodies under a final name; files of other origin are passed over."""
        with as_storage_error("list blobs"):
            self._require_volume()
            for shard in self._shards():
                for name in self._disk.names(shard):
                    with suppress(FileNotFoundError, ValueError):  # deleted meanwhile; not a body of ours
                        made = created_at(Locator(name))
                        yield StoredInfo(Locator(name), self._disk.size(shard / name), made)

    def discard_unfinished(self, older_than: datetime, *, dry_run: bool = False) -> int:
        """Remove temporary files begun before ``older_than``."""
        discarded = 0
        with as_storage_error("list unfinished blobs"):
            for name in self._disk.names(self._layout.temporary_directory):
                with suppress(FileNotFoundError, ValueError):  # finished meanwhile; not a file of ours
                    if created_at(Locator(name)) < older_than:
                        if not dry_run:
                            self._disk.unlink(self._layout.temporary(Locator(name)))
                        discarded += 1
        return discarded

    def _shards(self) -> Iterator[Path]:
        root = self._layout.root
        for first in filter(Layout.is_shard_name, self._disk.names(root)):
            for second in filter(Layout.is_shard_name, self._disk.names(root / first)):
                yield root / first / second

    def _read(self, handle: BlobHandle, wanted: ByteRange) -> Generator[bytes, None, None]:
        with self._opened(handle.locator) as descriptor:
            if self._disk.size_of_open(descriptor) != handle.size_bytes:
                raise Damaged(f"blob {handle.locator} is not {handle.size_bytes} bytes long")
            offset = wanted.start
            while offset < wanted.stop:
                piece = self._disk.read(descriptor, min(PIECE_BYTES, wanted.stop - offset), offset)
                if not piece:
                    raise Damaged(f"blob {handle.locator} ends at byte {offset} of {handle.size_bytes}")
                yield piece
                offset += len(piece)

    @contextmanager
    def _opened(self, locator: Locator) -> Iterator[int]:
        path = self._layout.body(locator)
        with as_storage_error(f"read blob {locator}"):
            try:
                descriptor = self._disk.open(path)
            except FileNotFoundError:
                self._raise_missing(locator)
            try:
                yield descriptor
            finally:
                self._disk.close(descriptor)

    def _raise_missing(self, locator: Locator) -> NoReturn:
        """Say Missing, but only of a volume that is there: an unmounted one has no files either."""
        self._require_volume()
        raise Missing(locator)

    def _require_volume(self) -> None:
        if not self._disk.is_directory(self._layout.temporary_directory):
            raise Transient(f"the blob directory {self._layout.root} is not there")

    def _install(self, locator: Locator) -> None:
        """Give a synced temporary file its final name, durably."""
        shard = self._layout.shard(locator)
        if shard not in self._durable_shards:
            make_directory(shard.parent, self._disk)
            make_directory(shard, self._disk)
            self._durable_shards.add(shard)
        try:
            self._disk.rename(self._layout.temporary(locator), shard / locator)
        except FileNotFoundError:
            self._durable_shards.discard(shard)  # somebody removed an empty shard: the next commit makes it again
            raise
        self._disk.sync_directory(shard)


class _PendingFile:
    def __init__(self, store: FileSystemStore, locator: Locator, descriptor: int) -> None:
        self._store = store
        self._disk = store._disk  # noqa: SLF001 - the two classes are one store
        self._layout = store._layout  # noqa: SLF001 - the two classes are one store
        self._locator = locator
        self._descriptor: int | None = descriptor
        self._finished = False
        self._size_bytes = 0

    @property
    def locator(self) -> Locator:
        return self._locator

    @property
    def readable_bytes(self) -> int:
        return self._size_bytes

    def reread(self) -> _RereadFile:
        with as_storage_error("read a blob that is being written"):
            try:
                # A descriptor of its own: that of the writer is closed by the commit, and its number given to others.
                return _RereadFile(self._disk, self._locator, self._disk.open(self._layout.temporary(self._locator)))
            except FileNotFoundError:
                raise Missing(self._locator) from None

    def write(self, data: bytes | memoryview) -> None:
        with self._final_on_error("write a blob"):
            write_all(self._disk, self._writable(), data)
            self._size_bytes += len(data)

    def commit(self, digest: Digest) -> BlobHandle:
        with self._final_on_error("commit a blob"):
            descriptor = self._writable()
            self._disk.sync(descriptor)
            self._descriptor = None
            self._disk.close(descriptor)
            self._store._install(self._locator)  # noqa: SLF001 - the two classes are one store
        self._finished = True
        return BlobHandle(self._locator, digest, self._size_bytes)

    def abort(self) -> None:
        if self._finished:
            return
        self._finished = True
        # A file that cannot be closed or removed is left to the sweep; raising here would hide why it was aborted.
        if self._descriptor is not None:
            with suppress(OSError):
                self._disk.close(self._descriptor)
            self._descriptor = None
        # The final name is there when the sync of its directory failed: not acknowledged, so not kept.
        for path in (self._layout.temporary(self._locator), self._layout.body(self._locator)):
            with suppress(OSError):
                self._disk.unlink(path)

    def _writable(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"blob {self._locator} is finished already")
        return self._descriptor

    @contextmanager
    def _final_on_error(self, doing: str) -> Iterator[None]:
        """Discard the blob on any error: after a failed fsync the kernel may report success for lost pages."""
        try:
            with self._store._noted(), as_storage_error(doing):  # noqa: SLF001 - the two classes are one store
                yield
        except StorageError:
            self.abort()
            raise


class _RereadFile:
    def __init__(self, disk: Disk, locator: Locator, descriptor: int) -> None:
        self._disk = disk
        self._locator = locator
        self._descriptor: int | None = descriptor

    def read(self, part: ByteRange) -> bytes:
        if self._descriptor is None:
            raise ValueError(f"the reading of blob {self._locator} is closed")
        with as_storage_error(f"read blob {self._locator} while it is written"):
            piece = self._disk.read(self._descriptor, min(PIECE_BYTES, part.length), part.start)
        if not piece:
            raise Damaged(f"blob {self._locator} lost what was written from byte {part.start} on")
        return piece

    def close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                self._disk.close(self._descriptor)
            self._descriptor = None
