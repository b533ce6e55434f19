"""What a machine keeps of its deployments, in the agent's directory (CodeDeploy's layout, by the group's id).

``<root>/<group>/<deployment>/{bundle, deployment-archive/, logs/scripts.log, journal}``,
``<root>/deployment-instructions/<group>-cleanup`` and ``…-install.json``, ``…_last_successful_install`` and
``…_most_recent_install``, ``<root>/ongoing-deployment/<deployment>``. What decides is written to a file beside, synced
and renamed; what grows is appended and synced line by line, and a torn last line counts as not written.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT_REVISIONS = 5
ARCHIVE = "deployment-archive"
_INSTRUCTIONS, _ONGOING = _NO_GROUPS = ("deployment-instructions", "ongoing-deployment")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]{0,99}\Z")


class StateError(Exception):
    """The directory of the agent cannot be used; ``str()`` says why."""


class Busy(StateError):
    """Another process carries out a deployment of this group."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is kept for a deployment group."""

    root: Path
    group_id: str

    def __post_init__(self) -> None:
        """Refuse ids that are paths, or names of what lies beside the groups."""
        check_id(self.group_id)
        if self.group_id in _NO_GROUPS:
            raise StateError(f"{self.group_id!r} is no id of a group: the agent has a directory of this name")

    @property
    def directory(self) -> Path:
        """The group's deployments."""
        return self.root / self.group_id

    @property
    def instructions(self) -> Path:
        """Where the records of installations lie."""
        return self.root / _INSTRUCTIONS

    @property
    def cleanup(self) -> Path:
        """What the last installation has put where, line by line."""
        return self.instructions / f"{self.group_id}-cleanup"

    @property
    def install_plan(self) -> Path:
        """The steps of the last installation, for people."""
        return self.instructions / f"{self.group_id}-install.json"

    @property
    def ongoing(self) -> Path:
        """One file for each deployment that has begun and not ended, of all groups."""
        return self.root / _ONGOING

    def deployment(self, deployment_id: str) -> Path:
        """A deployment's directory."""
        check_id(deployment_id)
        return self.directory / deployment_id

    def prepare(self) -> None:
        """Make the directories, for this user alone. Raises StateError, OSError."""
        if not self.root.exists():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            make_own(self.root, 0o755)
        facts = self.root.stat()
        if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateError(f"{self.root} has to belong to this user, and nobody else may write to it")
        for path in (self.directory, self.instructions, self.ongoing):
            make_own(path, 0o711)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process for a group at a time. Raises Busy."""
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"a deployment of {self.group_id} is being carried out on this machine") from None
            yield

    def pointer(self, name: str) -> str:
        """The deployment that ``last_successful`` or ``most_recent`` names; "" for none, or one that is gone."""
        try:
            deployment_id = (self.instructions / f"{self.group_id}_{name}_install").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        known = _ID.match(deployment_id) and (self.deployment(deployment_id) / ARCHIVE).is_dir()
        return deployment_id if known else ""

    def point(self, name: str, deployment_id: str) -> None:
        """Let a pointer name a deployment from now on."""
        replace_file(self.instructions / f"{self.group_id}_{name}_install", f"{deployment_id}\n")

    def unfinished(self) -> list[str]:
        """The group's deployments that have begun and not ended, oldest first."""
        if not self.ongoing.is_dir():
            return []
        marks = [path for path in self.ongoing.iterdir() if (self.directory / path.name).is_dir()]
        return [path.name for path in sorted(marks, key=lambda path: path.stat().st_mtime_ns)]

    def remove_old(self, current: str) -> list[str]:
        """Remove the oldest deployments beyond five, never the current and the last successful one; their ids."""
        kept = {current, self.pointer("last_successful"), self.pointer("most_recent")}
        found = sorted(
            (path for path in self.directory.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
        )
        spare = len(found) - KEPT_REVISIONS
        removed: list[str] = []
        for path in found:
            if len(removed) >= spare:
                break
            if path.name not in kept:
                remove_tree(path)
                removed.append(path.name)
        return removed


def check_id(text: str) -> None:
    """Raise StateError for an id that would not do as a file's name."""
    if not _ID.match(text):
        raise StateError(f"{text!r} is no id: up to 100 letters, digits and . _ + = , @ -, a letter or digit first")


def make_own(path: Path, mode: int) -> None:
    """Make a directory, if there is none yet, of this mode whatever the umask: scripts that run as others come through."""
    path.mkdir(mode=mode & 0o700, exist_ok=True)
    path.chmod(mode)


def remove_tree(path: Path) -> None:
    """Remove a directory with what is in it, also where directories in it may not be written to. Raises OSError."""
    for folder, folders, _ in os.walk(path):
        for name in folders:
            below = Path(folder, name)
            if not below.is_symlink():
                below.chmod(0o700)
    shutil.rmtree(path)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that after a crash it is the old or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lines:
    """A file of JSON lines that are durable once written, and of which a torn last one does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines. Raises StateError for one that is none of ours."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise StateError(f"{self.path}, line {number}: this is not what was written")
            found.append(record)
        return found

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write lines, and return when they are on the disk."""
        if not records:
            return
        is_new = not self.path.exists()
        with self.path.open("ab+") as file:
            self._cut_torn(file.fileno())
            file.write(b"".join(json.dumps(record).encode() + b"\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_directory(self.path.parent)

    def _cut_torn(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = self.path.read_bytes()
            os.ftruncate(descriptor, content.rfind(b"\n") + 1)
