"""At which level of trust a build runs, and so which caches it may read and write. Pure.

What a pull request's build leaves in a cache is its author's. A build that publishes or deploys must never restore it,
or whoever opens a pull request has their code run in a release (poisoning of caches across trust levels). So each level
reads its own caches and the protected ones, and writes its own only. A branch is no other branch's keeper, either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

TRIGGER = "CODEBUILD_WEBHOOK_TRIGGER"
PROTECTED_REFS = ("main", "master")
_LONGEST = 200


class Level(StrEnum):
    """How far a build's source is trusted, the most first."""

    PROTECTED = "protected"
    BRANCH = "branch"
    PULL_REQUEST = "pull_request"

    @property
    def rank(self) -> int:
        """0 for the most trusted."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose caches a build writes: ``name`` is ``protected``, ``branch/…`` or ``pr/…``."""

    level: Level
    name: str

    @property
    def readable(self) -> tuple[str, ...]:
        """Names of the scopes it may restore from, its own first: down from what is trusted, never up to it."""
        return (self.name,) if self.level is Level.PROTECTED else (self.name, Level.PROTECTED.value)


PROTECTED = Scope(Level.PROTECTED, Level.PROTECTED.value)


def scope_of(
    source: Mapping[str, Any], webhook: Mapping[str, str] | None = None, protected: Sequence[str] = PROTECTED_REFS
) -> Scope:
    """The scope of a build of ``source`` (as a build's row has it), with what a webhook said, if one started it.

    ``protected`` are patterns of branches (``main``, ``release/*``) and, with ``tag/`` before them, of tags. What was
    published here counts as protected: rights were asked for it. Without a version a source is at its default branch.
    """
    trigger = (webhook or {}).get(TRIGGER, "")
    if not trigger and source.get("format"):
        return PROTECTED
    primary: Mapping[str, Any] = next((each for each in source.get("inputs", ()) if not each.get("identifier")), {})
    if not trigger and primary.get("type") == "UPLOAD":
        return Scope(Level.BRANCH, "upload")  # what somebody has on their machine is no protected ref
    ref = trigger or _trigger_of(source.get("version") or primary.get("version") or "")
    if ref.startswith("pr/"):
        return Scope(Level.PULL_REQUEST, _short(ref))
    if not ref or _is_protected(ref, protected):
        return PROTECTED
    return Scope(Level.BRANCH, _short(ref))


def _is_protected(ref: str, patterns: Sequence[str]) -> bool:
    if ref.startswith("branch/"):  # also one that somebody has called tag/v1
        branch = ref.removeprefix("branch/")
        return any(fnmatchcase(branch, pattern) for pattern in patterns if not pattern.startswith("tag/"))
    return any(fnmatchcase(ref, pattern) for pattern in patterns if pattern.startswith("tag/"))


def _trigger_of(version: str) -> str:
    """A source version as a webhook would name it; a name alone, or a commit, counts as a branch."""
    if not version or version.startswith("pr/"):
        return version
    text = version.removeprefix("refs/")
    for start, word in (("heads/", "branch/"), ("tags/", "tag/"), ("pull/", "pr/"), ("merge-requests/", "pr/")):
        if text.startswith(start):
            rest = text.removeprefix(start)
            return word + (rest.partition("/")[0] if word == "pr/" else rest)
    return f"branch/{version}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
