"""Putting artifacts where somebody wants them: each file appears whole, and is the one that was promised."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from registry.commands.client import Client, Failed
from registry.commands.output import say
from registry.commands.saving import save


def download_paths(artifacts: Sequence[Mapping[str, Any]]) -> dict[Path, Mapping[str, Any]]:
    """Where each goes, below the chosen folder: by its name, and by its identifier too where two have one name.

    Raises Failed for a name that would lead out of the folder.
    """
    paths: dict[Path, Mapping[str, Any]] = {}
    for artifact in artifacts:
        parts = PurePosixPath(artifact["name"]).parts
        is_odd = os.name == "nt" and any(set(part) & set("\\:") for part in parts)
        if not parts or parts[0] == "/" or is_odd or any(part in {"..", "."} for part in parts):
            raise Failed(f"the artifact's name {artifact['name']!r} is no place in a folder")
        for last in (parts[-1], f"{parts[-1]}-{artifact['artifactIdentifier']}"):
            path = Path(*parts[:-1], last if last.lower().endswith(".zip") else f"{last}.zip")
            if path not in paths:
                break
        paths[path] = artifact
    return paths


def download(client: Client, build_id: str, artifact: Mapping[str, Any], path: Path) -> None:
    """Download one artifact to ``path``, replacing what is there. Raises Failed; nothing is left then."""
    save(path, lambda file: _fetch(client, build_id, artifact, file))
    say(f"{path}: {artifact['size']} bytes")


def _fetch(client: Client, build_id: str, artifact: Mapping[str, Any], file: IO[bytes]) -> None:
    digest = client.download(file, "builds", build_id, "artifacts", artifact["artifactIdentifier"])
    if digest != artifact["sha256sum"]:
        raise Failed(f"{artifact['name']} arrived with another SHA-256 than the build's")
