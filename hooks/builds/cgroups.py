"""Memory and process limits by control groups (version 1 or 2), where this process may make groups.

Needed where the worker is root's: resource limits count per user and process, a group counts a whole build. Elsewhere
the resource limits have to do, and ``Cgroups.describe`` says so.

All builds together are one group for the processors, with a small weight: where they and the server want the same
processor, the server has it first. Niceness alone does not do that: the kernel weighs sessions, and a build can begin
as many of them as it likes.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger(__name__)

MOUNT = Path("/sys/fs/cgroup")
PREFIX = "entrepot-"
WEIGHT = 100
"""Of all builds together for the processors: what the kernel gives one group, one service or one session by itself."""
_REMOVE_SECONDS = 3.0
_SHARES_OF_100 = 1024  # what version 1 calls a weight of 100


@dataclass(frozen=True, slots=True)
class Group:
    """One build's groups: a directory per controller (version 1), or one (version 2)."""

    directories: tuple[Path, ...]

    @property
    def procs_files(self) -> tuple[str, ...]:
        """The files into which a process writes its number to enter."""
        return tuple(str(directory / "cgroup.procs") for directory in self.directories)

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        total = 0
        for directory in self.directories:
            for name in ("memory.oom_control", "memory.events"):
                with contextlib.suppress(OSError):
                    for line in (directory / name).read_text().splitlines():
                        word, _, count = line.partition(" ")
                        total += int(count) if word == "oom_kill" else 0
        return total

    def remove(self) -> None:
        """Remove the groups; waits up to three seconds for processes that are about to end."""
        deadline = time.monotonic() + _REMOVE_SECONDS
        for directory in self.directories:
            while directory.exists():
                try:
                    directory.rmdir()
                except OSError as error:
                    if time.monotonic() > deadline:
                        LOG.warning("control group %s stays: %s", directory, error)
                        break
                    time.sleep(0.02)


class Cgroups:
    """Makes groups below ``mount``; ``version`` is 2, 1, or 0 where none can be made."""

    def __init__(self, mount: Path = MOUNT) -> None:
        """Find out by trying which version works here."""
        self.version = 0
        self._bases: tuple[Path, ...] = ()
        self.has_weight = False
        for version, bases in ((2, (mount / "entrepot",)), (1, (mount / "memory", mount / "pids"))):
            if self._works(version, bases):
                self.version, self._bases = version, bases
                self._weigh(mount)
                return

    def describe(self) -> str:
        """One line for the operator."""
        if self.version:
            last = "" if self.has_weight else ", but no weight for the processors"
            return f"memory and process limits by control groups (version {self.version}){last}"
        return "memory and process limits by resource limits only: control groups cannot be made here"

    def make(self, name: str, *, memory_bytes: int, processes: int) -> Group | None:
        """Groups called ``name`` with these limits; None where none can be made. Raises OSError."""
        if not self.version:
            return None
        return _make(self.version, self._bases, name, memory_bytes, processes)

    def remove(self, name: str) -> None:
        """Remove the groups called ``name`` that a dead worker left."""
        Group(tuple(base / (PREFIX + name) for base in self._bases)).remove()

    def _weigh(self, mount: Path) -> None:
        """Give all builds together their weight for the processors, where there is a controller for it."""
        parent = self._bases[0] if self.version == 2 else mount / "cpu" / "entrepot"
        try:
            if self.version == 2:
                (mount / "cgroup.subtree_control").write_text("+cpu")
                (parent / "cgroup.subtree_control").write_text("+cpu")  # builds share their part evenly
                (parent / "cpu.weight").write_text(str(WEIGHT))
            else:
                parent.mkdir(exist_ok=True)
                (parent / "cpu.shares").write_text(str(WEIGHT * _SHARES_OF_100 // 100))
                self._bases = (*self._bases, parent)
        except OSError as error:
            LOG.debug("builds have no weight of their own for the processors: %s", error)
        else:
            self.has_weight = True

    def _works(self, version: int, bases: Sequence[Path]) -> bool:
        try:
            if version == 2:
                _delegate(bases[0])
            _make(version, bases, f"trial-{uuid.uuid4().hex[:8]}", 1 << 28, 64).remove()
        except OSError as error:
            LOG.debug("control groups version %d cannot be used: %s", version, error)
            return False
        return True


def _delegate(base: Path) -> None:
    controllers = (base.parent / "cgroup.controllers").read_text().split()
    if not {"memory", "pids"} <= set(controllers):
        raise OSError("the memory and pids controllers are not in the unified hierarchy")
    (base.parent / "cgroup.subtree_control").write_text("+memory +pids")
    base.mkdir(exist_ok=True)
    (base / "cgroup.subtree_control").write_text("+memory +pids")


def _make(version: int, bases: Sequence[Path], name: str, memory_bytes: int, processes: int) -> Group:
    settings: Mapping[str, int] = {
        "memory.max": memory_bytes,
        "memory.swap.max": 0,
        "memory.oom.group": 0,
        "memory.limit_in_bytes": memory_bytes,
        "memory.memsw.limit_in_bytes": memory_bytes,
        "pids.max": processes,
    }
    required = {"pids.max", "memory.max" if version == 2 else "memory.limit_in_bytes"}
    group = Group(tuple(base / (PREFIX + name) for base in bases))
    written = set()
    try:
        for directory in group.directories:
            directory.mkdir()
            for file, value in settings.items():
                if (directory / file).exists():  # without swap accounting some files are not there
                    (directory / file).write_text(str(value))
                    written.add(file)
    except OSError:
        group.remove()
        raise
    if not required <= written:
        group.remove()
        raise OSError(f"the kernel offers no {', '.join(sorted(required - written))}")
    return group
