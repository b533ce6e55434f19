"""Where a build's artifacts and caches go, and come from: the side that runs builds knows no more of it than this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

PRIMARY = "primary"
"""What the artifact of the buildspec's ``artifacts`` itself is called; the others have identifiers of their own."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A body that is kept: its size and its SHA-256, in hex, of the bytes that were written."""

    size_bytes: int
    sha256: str


class Incoming(Protocol):
    """A body on its way in. ``keep`` makes it last; until then, and after ``abort``, nothing is there."""

    def write(self, data: bytes) -> object:
        """Take the next bytes. Raises Refused when they are too many, ExecutorError when they cannot be taken now."""
        ...

    def keep(self, files: int) -> Kept:
        """Keep what was written, an archive of so many files. Raises Refused, ExecutorError."""
        ...

    def abort(self) -> None:
        """Keep nothing. Does nothing after ``keep``."""
        ...


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """What an artifact is called: its identifier, its name (may hold slashes), and how it is shown (ZIP or NONE)."""

    identifier: str
    name: str
    packaging: str = "ZIP"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a cache is found by. ``version`` is the digest of its list of paths: other paths are another cache.

    ``key`` "" is the one cache that each build of the project writes anew. ``fallbacks`` are beginnings of keys, tried in
    this order. Whose caches are meant, and at which level of trust, is nothing the build has a say in.
    """

    version: str
    key: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundCache:
    """A cache that may be restored. ``open`` gives its bytes, whose digest has been checked; raises ExecutorError."""

    key: str
    scope: str
    size_bytes: int
    is_exact: bool
    open: Callable[[], Iterator[bytes]]


class Keeper(Protocol):
    """Keeps artifacts and caches for one build. What it raises beside the named ends the attempt."""

    def begin_artifact(self, name: ArtifactName) -> Incoming | None:
        """Begin an artifact; None where none are kept. Raises ExecutorError."""
        ...

    def find_cache(self, wanted: CacheKey) -> FoundCache | None:
        """The cache to restore: of the exact key, else the newest of the first fallback that has one."""
        ...

    def begin_cache(self, wanted: CacheKey) -> Incoming | None:
        """Begin a cache; None when it is not to be written: keyed caches never change."""
        ...


class NoKeeper:
    """Keeps nothing."""

    def begin_artifact(self, _name: ArtifactName) -> Incoming | None:
        """Nothing is kept."""
        return None

    def find_cache(self, _wanted: CacheKey) -> FoundCache | None:
        """Nothing is there."""
        return None

    def begin_cache(self, _wanted: CacheKey) -> Incoming | None:
        """Nothing is kept."""
        return None
