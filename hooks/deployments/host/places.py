"""Changing files where others may write: every step is taken from an open directory, no path is believed twice.

On the way to a place a link is followed only if root or this process's user made it, in a directory that nobody else can
write to; below a place's root only if it stays below that, too. A directory that everybody may write to (without the
sticky bit) is refused above a root: whoever can rename what lies in it decides where the files go.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hooks.deployments.host.plan import UnsafePlace
from hooks.deployments.host.steps import Kind, Place

MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1024 * 1024
_TEMPORARY = re.compile(r"\.entrepot-[0-9a-f]{16}\.new\Z")


def kind_of(mode: int) -> Kind:
    """What a file's mode says it is."""
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


class _Walk:
    """The open directories from ``/`` down to where the walk is."""

    def __init__(self) -> None:
        self._open = [os.open("/", _DIRECTORY)]
        self._path: list[str] = []
        self._floor = 1
        self._root = ""
        self._links = 0
        self.users = 0
        self.is_done = True
        """Whether it is closed as soon as nobody uses it."""

    @property
    def here(self) -> int:
        return self._open[-1]

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def settle(self, root: str) -> None:
        """From here on, nothing above this directory is entered."""
        self._floor = len(self._open)
        self._root = root.rstrip("/")

    @property
    def _is_settled(self) -> bool:
        return bool(self._root) or self._floor > 1

    def go(self, parts: list[str]) -> None:
        """Enter these directories. Raises UnsafePlace, FileNotFoundError, NotADirectoryError."""
        waiting = list(reversed(parts))
        while waiting:
            name = waiting.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                self._up()
                continue
            self._check(name)
            try:
                entered = os.open(name, _DIRECTORY, dir_fd=self.here)
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
                waiting += reversed(self._target(name))
                continue
            self._open.append(entered)
            self._path.append(name)

    def _up(self) -> None:
        if len(self._open) <= self._floor:
            if self._is_settled:
                raise UnsafePlace(f"a link in {self._where()} leads out of the destination")
            return
        os.close(self._open.pop())
        self._path.pop()

    def _where(self, name: str = "") -> str:
        return "/" + "/".join([*self._path, *([name] if name else [])])

    def _check(self, name: str) -> None:
        mode = os.fstat(self.here).st_mode
        if not self._is_settled and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UnsafePlace(f"everybody may write to {self._where()}, and so exchange {name} in it")

    def _target(self, name: str) -> list[str]:
        """Where a link leads, in parts from here on, if it is one that may be followed."""
        link = os.open(name, _NAME_ONLY, dir_fd=self.here)
        try:
            facts = os.fstat(link)
            if not stat.S_ISLNK(facts.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, f"{self._where(name)} is not a directory")
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        directory = os.fstat(self.here)
        trusted = {0, os.geteuid()}
        shared = directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX
        if facts.st_uid not in trusted or directory.st_uid not in trusted or shared:
            raise UnsafePlace(f"{self._where(name)} is a link to {target}, which others than this user could have made")
        self._links += 1
        if self._links > MAX_LINKS:
            raise UnsafePlace(f"more than {MAX_LINKS} links lead to {self._where(name)}")
        if not target.startswith("/"):
            return target.split("/")
        if not self._is_settled or self._root == "":
            self._back_to(1)
            return target.split("/")
        if not f"{target}/".startswith(f"{self._root}/"):
            raise UnsafePlace(f"{self._where(name)} is a link to {target}, out of the destination {self._root}")
        self._back_to(self._floor)
        return target[len(self._root) :].split("/")

    def _back_to(self, count: int) -> None:
        while len(self._open) > count:
            os.close(self._open.pop())
            self._path.pop()


def _walked(place: Place) -> _Walk:
    walk = _Walk()
    try:
        walk.go(place.root.split("/"))
        if place.root != "/":
            walk.settle(place.root)
        walk.go(list(place.parts[:-1]))
    except BaseException:
        walk.close()
        raise
    return walk


@contextmanager
def opened(place: Place) -> Iterator[tuple[int, str]]:
    """The directory a place is in, as a descriptor while the context lasts, and the place's name there.

    Raises UnsafePlace, FileNotFoundError, NotADirectoryError.
    """
    kept = _KEPT.get()
    walk = _walked(place) if kept is None else kept.walk(place)
    walk.users += 1
    try:
        yield walk.here, place.parts[-1]
    finally:
        walk.users -= 1
        if walk.is_done and not walk.users:
            walk.close()


class _Kept:
    """The directories that many steps in a row were taken in, so that not each of them walks down from ``/``."""

    def __init__(self) -> None:
        self._walks: dict[tuple[str, tuple[str, ...]], _Walk] = {}

    def walk(self, place: Place) -> _Walk:
        key = (place.root, place.parts[:-1])
        found = self._walks.get(key)
        if found is None:
            while len(self._walks) >= _MOST_KEPT:
                self._drop(next(iter(self._walks)))
            found = _walked(place)
            found.is_done = False
        else:
            del self._walks[key]
        self._walks[key] = found  # the newest is last
        return found

    def forget(self) -> None:
        for key in list(self._walks):
            self._drop(key)

    def _drop(self, key: tuple[str, tuple[str, ...]]) -> None:
        walk = self._walks.pop(key)
        walk.is_done = True
        if not walk.users:
            walk.close()


_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)
_MOST_KEPT = 8  # the source's and the destination's, and those above them


@contextmanager
def directories_kept_open() -> Iterator[None]:
    """While the context lasts, directories stay open from one step to the next in them. Not for several threads."""
    kept = _Kept()
    before = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(before)
        kept.forget()


def _forget_kept() -> None:
    """A directory has come or gone: what is open may not be what lies there now."""
    kept = _KEPT.get()
    if kept is not None:
        kept.forget()


def find(place: Place) -> Kind | None:
    """What lies there; None for nothing, also where a directory on the way is missing. Raises UnsafePlace."""
    try:
        with opened(place) as (directory, name):
            found = kind_of(os.lstat(name, dir_fd=directory).st_mode)
            if found is Kind.LINK:
                found = _behind(place, directory, name)
            return found
    except (FileNotFoundError, NotADirectoryError):
        return None


def _behind(place: Place, directory: int, name: str) -> Kind:
    """A link to a directory that may be followed is one; every other link is a link."""
    if not stat.S_ISDIR(_mode_behind(directory, name)):
        return Kind.LINK
    with opened(Place(place.root, (*place.parts, "."))):
        return Kind.DIRECTORY


def _mode_behind(directory: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory).st_mode
    except OSError:
        return 0


def make_directory(place: Place) -> None:
    """Make a directory, 0755 whatever the umask. One that is there is left as it is. Raises OSError."""
    with opened(place) as (directory, name):
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if find(place) is not Kind.DIRECTORY:
                raise
            return
        made = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            os.fchmod(made, 0o755)
        finally:
            os.close(made)


def _temporary(name: str) -> str:
    return f".entrepot-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.new"


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what an interrupted copy has left."""
    return _TEMPORARY.match(name) is not None


def write_file(place: Place, source: int, *, replaces: bool, mode: int | None = None) -> None:
    """Copy an open file there, with its mode (or another) and time; what is seen is the old file or the whole new one.

    Raises FileExistsError if something is there and ``replaces`` is not set, OSError.
    """
    facts = os.fstat(source)
    with opened(place) as (directory, name):
        temporary = _temporary(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            while data := os.read(source, _COPY_BYTES):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
            os.fchmod(target, (facts.st_mode if mode is None else mode) & 0o777)
            os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            os.close(target)
        _put(directory, temporary, name, replaces=replaces)


def make_link(place: Place, target: str, *, replaces: bool) -> None:
    """Make a symbolic link there, of any target. Raises FileExistsError, OSError."""
    with opened(place) as (directory, name):
        temporary = _temporary(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        os.symlink(target, temporary, dir_fd=directory)
        _put(directory, temporary, name, replaces=replaces)


def _put(directory: int, temporary: str, name: str, *, replaces: bool) -> None:
    try:
        if replaces:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        # A rename would take the place of what has come there since it was looked at; a hard link does not.
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.unlink(temporary, dir_fd=directory)


def remove(place: Place) -> bool:
    """Remove a file or link, or a directory that is empty; whether nothing is left there. Raises UnsafePlace, OSError."""
    is_directory = False
    try:
        with opened(place) as (directory, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_temporary(name), dir_fd=directory)
            try:
                os.unlink(name, dir_fd=directory)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=directory)
                is_directory = True
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    finally:
        if is_directory:
            _forget_kept()
    return True


@contextmanager
def held(place: Place) -> Iterator[str]:
    """A path that means what lies at the place now, and never anything else, while the context lasts.

    For chmod, chown and attributes; not for links, nor for a file that has other names, perhaps elsewhere.
    Raises UnsafePlace, OSError.
    """
    with opened(place) as (directory, name):
        descriptor = os.open(name, _NAME_ONLY, dir_fd=directory)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISLNK(facts.st_mode) or (not stat.S_ISDIR(facts.st_mode) and facts.st_nlink > 1):
                raise UnsafePlace(f"{place.path} has become a link")
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)


def change_owner(place: Place, user: int, group: int, special: int = 0) -> None:
    """Chown of a file, a directory or a link itself; -1 leaves as it is. Raises UnsafePlace, OSError.

    ``special`` are the set-user-id and set-group-id bits that are to stay. The kernel takes them away with the owner, for
    a reason: they stay on what this user has made alone, and not on what somebody has put into its place.
    """
    with opened(place) as (directory, name):
        if stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode):
            os.chown(name, user, group, dir_fd=directory, follow_symlinks=False)
            return
    with held(place) as path:
        facts = os.stat(path)  # noqa: PTH116 - a path that stands for an open file
        if special and facts.st_uid != os.geteuid():
            raise UnsafePlace(f"{place.path} is somebody else's now, and is to have a set-user-id or set-group-id bit")
        os.chown(path, user, group)
        if special:
            os.chmod(path, stat.S_IMODE(facts.st_mode) & (0o1777 | special))  # noqa: PTH101
