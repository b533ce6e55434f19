"""A push as a job keeps it, until the definition that came with it was applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hooks.builds.push_filters import Happening
from hooks.builds.push_payloads import Told


def as_told(told: Told, action: str, actor: str) -> dict[str, Any]:
    """A push as a job keeps it."""
    happening = asdict(told.happening)
    return {
        "action": action,
        "actor": actor,
        "happening": happening,
        "version": told.version,
        "trigger": told.trigger,
        "commit": told.commit,
        "previousCommit": told.previous_commit,
    }


def told_of(kept: Mapping[str, Any]) -> Told:
    """Back from ``as_told``."""
    happening = dict(kept["happening"])
    files = happening.pop("files")
    return Told(
        Happening(**happening, files=None if files is None else tuple(files)),
        version=kept["version"],
        trigger=kept["trigger"],
        commit=kept["commit"],
        previous_commit=kept["previousCommit"],
    )
