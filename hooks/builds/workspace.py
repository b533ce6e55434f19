"""A build's directory on the worker's machine, and the user it runs as: held by locks, so that the dead leave nothing.

A lock belongs to an open file; worker and shim hold the same one, so it is free exactly when both are gone. Whoever
comes next may then remove the directory and use the user again, without asking whether some process number still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hooks.builds.executor import ExecutorError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UserRange:
    """User (and group) ids that nobody else has; every build that runs at a time gets one of its own.

    The default lies in what systemd leaves unassigned (65520 to 65533).
    """

    first: int = 65520
    count: int = 14

    def __post_init__(self) -> None:
        """Refuse a range that holds root."""
        if self.first < 1 or self.count < 1:
            raise ValueError("builds never run as root: the first user id has to be at least 1")


@dataclass(slots=True)
class Workspace:
    """One build's directory. ``user`` is the uid and gid to change to, None when the worker is not root's.

    ``locks`` are the descriptors to hand to the shim.
    """

    path: Path
    user: int | None
    locks: tuple[int, ...]

    def remove(self) -> None:
        """Remove the directory and let go of user and lock. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        for descriptor in self.locks:
            os.close(descriptor)
        self.locks = ()


class WorkRoot:
    """The directory that holds all workspaces of a machine; several workers may share it."""

    def __init__(self, path: Path, users: UserRange) -> None:
        """Use ``path``, created on demand. It has to be reachable by the build users (each parent with ``x``)."""
        self.path = path
        self._users = users
        self._is_root = os.geteuid() == 0

    def check(self) -> None:
        """Raise ExecutorError unless workspaces can be made here and reached by the build users."""
        self._create()
        if not self._is_root:
            return
        for parent in (self.path, *self.path.resolve().parents):
            if not parent.stat().st_mode & 0o001:
                raise ExecutorError(
                    f"the builds' users cannot reach {self.path}: {parent} is closed to others; "
                    "set the builds' work directory to a place outside, or chmod o+x it"
                )

    def take(self) -> Workspace:
        """A fresh workspace with a user of its own. Raises ExecutorError when all users are taken."""
        self._create()
        with self._exclusive():
            locks: list[int] = []
            try:
                user = self._take_user(locks) if self._is_root else None
                path = self.path / f"build-{uuid.uuid4().hex[:16]}"
                path.mkdir()
                path.chmod(0o750)  # whatever the worker's umask is
                path.chmod(0o750)  # the worker's umask may have taken the group's right, which the build's user needs
                if user is not None:
                    os.chown(path, 0, user)  # nobody else's build may look in
                locks.append(_lock(path / "lock"))
            except OSError as error:
                for descriptor in locks:
                    os.close(descriptor)
                raise ExecutorError(f"no workspace can be made in {self.path}: {error}") from error
            return Workspace(path, user, tuple(locks))

    def sweep(self, also: Callable[[str], None]) -> int:
        """Remove the workspaces of dead workers, calling ``also`` with the name of each; how many there were."""
        removed = 0
        self._create()
        with self._exclusive():
            for path in self.path.glob("build-*"):
                lock = _try_lock(path / "lock")
                if lock is not None:
                    LOG.info("removing the workspace %s of a dead worker", path)
                    also(path.name)
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)
                    removed += 1
        return removed

    def _create(self) -> None:
        try:
            (self.path / "users").mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o711 if self._is_root else 0o700)
        except OSError as error:
            raise ExecutorError(f"the builds' work directory {self.path} cannot be used: {error}") from error

    def _take_user(self, locks: list[int]) -> int:
        for user in range(self._users.first, self._users.first + self._users.count):
            lock = _try_lock(self.path / "users" / str(user))
            if lock is not None:
                locks.append(lock)
                return user
        raise ExecutorError(f"all {self._users.count} build users of this machine are taken")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        # Between the making of a directory and its locking nobody may sweep.
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    try:
        return _lock(path)
    except BlockingIOError:
        return None


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
