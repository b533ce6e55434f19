"""Whole directories where others may write: looked through and removed from an open directory, as ``places`` does."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat

from hooks.deployments.host import places
from hooks.deployments.host.steps import Place

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def names(place: Place) -> list[str] | None:
    """What is in a directory; None where none lies, but nothing, a file or a link. Raises UnsafePlace, OSError."""
    try:
        with places.opened(place) as (above, name):
            directory = os.open(name, _DIRECTORY, dir_fd=above)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise
    try:
        return os.listdir(directory)  # noqa: PTH208 - a descriptor
    finally:
        os.close(directory)


def directories(place: Place) -> list[str]:
    """The names of the directories in a directory, the one first that has not changed for longest. Raises OSError."""
    found: list[tuple[int, str]] = []
    with places.opened(Place(place.root, (*place.parts, "."))) as (directory, _):
        for name in os.listdir(directory):  # noqa: PTH208
            facts = os.lstat(name, dir_fd=directory)
            if stat.S_ISDIR(facts.st_mode):
                found.append((facts.st_mtime_ns, name))
    return [name for _, name in sorted(found)]


def remove(place: Place) -> None:
    """Remove a directory with all that is in it; never what a link leads to. Raises UnsafePlace, OSError."""
    with places.opened(place) as (above, name):
        # Directories that a document has made read-only are in a plain user's way.
        if os.geteuid():
            for _, _, _, directory in os.fwalk(name, dir_fd=above):
                with contextlib.suppress(PermissionError):
                    os.fchmod(directory, 0o700)
        shutil.rmtree(name, dir_fd=above)
