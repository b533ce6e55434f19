"""Files that a router reads and we write: whole or not at all, with the owner and mode they had."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hooks.deployments.traffic.router import RoutingError


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a reader sees the old or the new one. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        # Made anew, so that nobody's link is written through.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_ownership(path, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep_ownership(path: Path, descriptor: int) -> None:
    try:
        was = path.stat()
    except FileNotFoundError:
        return
    os.fchmod(descriptor, was.st_mode & 0o777)
    if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
        # Whoever may not give files away keeps it as its own: the mode says who reads it.
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, was.st_uid, was.st_gid)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock beside ``path``: threads and processes of this machine change it one after the other.

    Raises RoutingError for what the disk refuses within.
    """
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        # A full disk may be emptied; a right that is missing, or a directory, is for the operator.
        lasts = isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError)
        raise RoutingError(f"{path} cannot be written: {error.strerror or error}", may_pass=not lasts) from error
