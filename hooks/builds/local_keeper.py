"""Artifacts of a build on somebody's own machine: files in a directory. No caches: the machine has its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from hooks.builds.keeping import ArtifactName, Incoming, Kept, NoKeeper

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class LocalKeeper(NoKeeper):
    """Implements ``hooks.builds.keeping.Keeper``. ``told`` hears of each file; ``folder`` None: artifacts are not kept."""

    def __init__(self, folder: Path | None, told: Callable[[Path], object]) -> None:
        self._folder = folder
        self._told = told

    def begin_artifact(self, name: ArtifactName) -> Incoming | None:
        """A file called after the artifact. Raises OSError."""
        if self._folder is None:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        plain = _NOT_IN_NAMES.sub("_", name.name).strip("._") or "artifacts"
        return _File(self._folder / (plain if plain.endswith(".zip") else f"{plain}.zip"), self._told)


class _File:
    def __init__(self, path: Path, told: Callable[[Path], object]) -> None:
        self._path = path
        self._told = told
        self._part = path.with_name(f".{path.name}.part")
        self._file = self._part.open("wb")
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def keep(self, files: int) -> Kept:
        _ = files
        size_bytes = self._file.tell()
        self._file.close()
        self._part.replace(self._path)
        self._told(self._path)
        return Kept(size_bytes, self._digest.hexdigest())

    def abort(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)
