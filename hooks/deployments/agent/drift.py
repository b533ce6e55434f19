"""What is really installed: the files of each group's last successful installation, compared with what they were.

Size and modification time are looked at first; where these differ the bytes decide. What a file should be is read from
the deployment's unpacked bundle, which is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooks.deployments.host.atomic import current_release
from hooks.deployments.host.state import ARCHIVE, GroupState, StateError

SHOWN = 20
_POINTER = "_last_successful_install"
_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Drift:
    """What was found of a group. ``is_complete``: the last installation that was begun is the one that counts."""

    group_id: str
    deployment_id: str
    files: int = 0
    changed_count: int = 0
    missing_count: int = 0
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    is_complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """As the server is told."""
        return {
            "deploymentGroupId": self.group_id,
            "deploymentId": self.deployment_id,
            "files": self.files,
            "changedCount": self.changed_count,
            "missingCount": self.missing_count,
            "changed": self.changed,
            "missing": self.missing,
            "isComplete": self.is_complete,
        }

    def note_changed(self, path: str) -> None:
        """One that is not what it was."""
        self.changed_count += 1
        if len(self.changed) < SHOWN:
            self.changed.append(_shown(path))

    def note_missing(self, path: str) -> None:
        """One that is not there."""
        self.missing_count += 1
        if len(self.missing) < SHOWN:
            self.missing.append(_shown(path))


def _shown(path: str) -> str:
    """Names of files are bytes, reports are text."""
    return path.encode(errors="replace").decode()[:4096]


def groups(root: Path) -> list[str]:
    """The groups of which something was installed."""
    try:
        found = (root / "deployment-instructions").iterdir()
        return sorted(path.name.removesuffix(_POINTER) for path in found if path.name.endswith(_POINTER))
    except FileNotFoundError:
        return []


def look(root: Path) -> list[Drift]:
    """All groups of a machine; those whose records cannot be read are left out."""
    found = []
    for group_id in groups(root):
        try:
            drift = look_at(GroupState(root, group_id))
        except (OSError, StateError, ValueError, KeyError, TypeError):
            continue
        if drift is not None:
            found.append(drift)
    return found


def look_at(state: GroupState) -> Drift | None:
    """One group; None where nothing was installed. Raises OSError, StateError, and ValueError for broken records."""
    deployment_id = state.pointer("last_successful")
    if not deployment_id:
        return None
    drift = Drift(state.group_id, deployment_id)
    pointer = state.instructions / f"{state.group_id}{_POINTER}"
    if state.install_plan.stat().st_mtime_ns > pointer.stat().st_mtime_ns:
        # Another installation has begun since, and the plan is that one's: what belongs where is not known now.
        drift.is_complete = False
        return drift
    archive = state.deployment(deployment_id) / ARCHIVE
    for source, destination in _copies(state.install_plan):
        drift.files += 1
        _compare(archive / source, destination, drift)
    link = json.loads((state.deployment(deployment_id) / "deployment.json").read_bytes()).get("link")
    if link and current_release(link) != deployment_id:
        drift.note_changed(link)
    return drift


def _copies(plan: Path) -> Iterator[tuple[str, str]]:
    for step in json.loads(plan.read_bytes())["instructions"]:
        if step["type"] == "copy":
            yield str(step["source"]), str(step["destination"])


def _compare(source: Path, destination: str, drift: Drift) -> None:
    wanted = source.lstat()
    try:
        there = os.lstat(destination)
    except (FileNotFoundError, NotADirectoryError):
        drift.note_missing(destination)
        return
    if not _is_same(source, wanted, Path(destination), there):
        drift.note_changed(destination)


def _is_same(source: Path, wanted: os.stat_result, destination: Path, there: os.stat_result) -> bool:
    if stat.S_IFMT(wanted.st_mode) != stat.S_IFMT(there.st_mode):
        return False
    if stat.S_ISLNK(wanted.st_mode):
        return source.readlink() == destination.readlink()
    if wanted.st_size != there.st_size:
        return False
    return wanted.st_mtime_ns == there.st_mtime_ns or _digest(source) == _digest(destination)


def _digest(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        while data := file.read(_PIECE_BYTES):
            digest.update(data)
    return digest.digest()
