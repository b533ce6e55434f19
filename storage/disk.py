"""The few system calls that bytes on a disk are kept with.

They stand in one class so that a test can take the place of the disk: it records what was written and what was synced,
builds every state a power loss may leave, and looks whether an acknowledged body survived.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import NoSpace, Permanent, StorageError, Transient

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PERMANENT = frozenset(
    {
        errno.EACCES,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EROFS,
        errno.EXDEV,
    }
)


class Disk:
    """System calls on files and directories; every method raises OSError as the system gave it."""

    def create(self, path: Path) -> int:
        """A new file, open for writing, readable by its owner alone. Raises FileExistsError."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; returns how many bytes were taken, which may be fewer."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes and length are on the medium."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move within the file system, in one step."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """A new directory, for its owner alone. Raises FileExistsError."""
        path.mkdir(mode=0o700)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in the directory are on the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def open(self, path: Path) -> int:
        """An existing file, open for reading."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def read(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Up to ``size_bytes`` from ``offset``; empty at the end of the file."""
        return os.pread(descriptor, size_bytes, offset)

    def size_of_open(self, descriptor: int) -> int:
        """The length of an open file, in bytes."""
        return os.fstat(descriptor).st_size

    def size(self, path: Path) -> int:
        """The length of a file, in bytes."""
        return path.stat(follow_symlinks=False).st_size

    def names(self, path: Path) -> list[str]:
        """The names in a directory."""
        return [entry.name for entry in path.iterdir()]

    def is_directory(self, path: Path) -> bool:
        """Whether there is a directory at ``path``; unsure is an OSError."""
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def make_directories(path: Path, disk: Disk | None = None) -> None:
    """Make ``path`` and what is missing above it, each durable before the next is made in it. Raises OSError.

    Only the last that is found there can have been made by somebody who died before syncing it: its name is synced
    again, where the directory above may be read.
    """
    disk = disk or Disk()
    missing = []
    while path != path.parent and not disk.is_directory(path):
        missing.append(path)
        path = path.parent
    with suppress(PermissionError):
        disk.sync_directory(path.parent)
    for each in reversed(missing):
        make_directory(each, disk)


def make_directory(path: Path, disk: Disk) -> None:
    """Make ``path``, durably; one that is there already is success. Raises OSError."""
    with suppress(FileExistsError):
        disk.mkdir(path)
    # Also when it existed: another process may have made it a moment ago and not synced it yet.
    disk.sync_directory(path.parent)


@contextmanager
def as_storage_error(doing: str) -> Iterator[None]:
    """Raise NoSpace, Transient or Permanent in place of an OSError, saying what was being done."""
    try:
        yield
    except OSError as error:
        raise _storage_error(error, doing) from error


def _storage_error(error: OSError, doing: str) -> StorageError:
    message = f"cannot {doing}: {error.strerror or error}"
    if error.errno in _FULL:
        return NoSpace(message)
    if error.errno in _PERMANENT:
        return Permanent(message)
    # EIO, ESTALE, EMFILE, ENOENT of a directory that should be there: unsure, and unsure is Transient.
    return Transient(message)


def write_all(disk: Disk, descriptor: int, data: bytes | memoryview) -> None:
    """Write until everything is taken: near a full disk and above 2 GiB the system takes less than it is given."""
    view = memoryview(data)
    while view:
        view = view[disk.write(descriptor, view) :]
