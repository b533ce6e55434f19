"""Caches on the machine that runs builds (CodeBuild's LOCAL): best effort, bounded, and gone when its process ends.

A body lies in a file without a name, encrypted with a key of its own that only this process's memory has: nobody else on
the machine can read or exchange it, and nothing is left of it after a crash. Whose caches a build may read and write
is decided by its trust, as for those in the store (``hooks.builds.cache_scope``): read down, never written up.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hooks.builds.cache_scope import Scope
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import ArtifactName, CacheKey, FoundCache, Incoming, Keeper, Kept
from hooks.builds.output_settings import OutputSettings
from hooks.builds.project import SourceSettings
from hooks.builds.source import PackageSource

_PIECE_BYTES = 1024 * 1024
_SEALED_BYTES = _PIECE_BYTES + 16
MOST_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """In bytes: of one cache, and of all on this machine."""

    cache_bytes: int = 1024**3
    all_bytes: int = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Place:
    """Whose caches are meant (a project), and the trust at which a build reads and writes them."""

    namespace: str
    scope: Scope


Name = tuple[str, str, str, str]
"""Namespace, scope, digest of the paths, key."""


class _Body:
    """A body in a file without a name, sealed piece by piece; the file goes when nobody has the body any more."""

    def __init__(self, folder: Path) -> None:
        """Raises ExecutorError."""
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._count = 0
        self._descriptor = -1
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise ExecutorError(f"no local cache can be written: {error}") from error

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def add(self, plain: bytes, *, is_last: bool) -> None:
        """Add a piece: of ``_PIECE_BYTES`` each, but for the last. Raises ExecutorError."""
        sealed = memoryview(self._cipher.encrypt(_nonce(self._count, is_last=is_last), plain, None))
        try:
            while sealed:
                sealed = sealed[os.write(self._descriptor, sealed) :]
        except OSError as error:
            raise ExecutorError(f"the local cache cannot be written: {error}") from error
        self._count += 1

    def pieces(self) -> Iterator[bytes]:
        """What was added. Raises ExecutorError where it is not what was written."""
        try:
            for index in range(self._count):
                sealed = os.pread(self._descriptor, _SEALED_BYTES, index * _SEALED_BYTES)
                yield self._cipher.decrypt(_nonce(index, is_last=index == self._count - 1), sealed, None)
        except (OSError, InvalidTag) as error:
            raise ExecutorError(f"the local cache is not what was written: {error}") from error


def _nonce(index: int, *, is_last: bool) -> bytes:
    """Of a key that seals one body: the piece's number, and whether it is the last, so that none can be missing."""
    return bytes([is_last]) + index.to_bytes(11, "big")


@dataclass(slots=True)
class _Entry:
    body: _Body
    scope: Scope
    size_bytes: int
    note: str
    made: int
    used: int


class LocalCaches:
    """All local caches of this process. Safe for many threads. ``folder`` is where their files are made."""

    def __init__(self, folder: Path, limits: LocalLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._entries: dict[Name, _Entry] = {}
        self._clock = 0

    def find(self, place: Place, wanted: CacheKey) -> tuple[FoundCache, str] | None:
        """The cache of the exact key, else the newest of the first fallback that has one; and the note that was left."""
        with self._lock:
            name = self._name_of(place, wanted)
            if name is None:
                return None
            entry = self._entries[name]
            entry.used = self._tick()
        pieces = partial(self._pieces, name, entry)
        return FoundCache(name[3], name[1], entry.size_bytes, name[3] == wanted.key, pieces), entry.note

    def _pieces(self, name: Name, entry: _Entry) -> Iterator[bytes]:
        try:
            yield from entry.body.pieces()
        except ExecutorError:
            with self._lock:
                if self._entries.get(name) is entry:
                    del self._entries[name]  # what cannot be read once is not tried again
            raise

    def _name_of(self, place: Place, wanted: CacheKey) -> Name | None:
        readable = place.scope.readable
        for scope in readable:
            name = (place.namespace, scope, wanted.version, wanted.key)
            if name in self._entries:
                return name
        for start in wanted.fallbacks:
            fitting = [
                name
                for name in self._entries
                if name[0] == place.namespace and name[1] in readable and name[2] == wanted.version
                if name[3] and name[3].startswith(start)
            ]
            if fitting:
                return max(fitting, key=lambda name: self._entries[name].made)
        return None

    def begin(self, place: Place, wanted: CacheKey, note: str = "") -> Incoming | None:
        """Begin a cache in the build's own scope; None for a keyed one that could be restored. Raises ExecutorError."""
        with self._lock:
            if wanted.key and self._name_of(place, CacheKey(wanted.version, wanted.key)) is not None:
                return None
        name = (place.namespace, place.scope.name, wanted.version, wanted.key)
        limit_bytes = min(self._limits.cache_bytes, self._limits.all_bytes)
        return _Taking(self, name, place.scope, note, _Body(self._folder), limit_bytes)

    def put(self, name: Name, scope: Scope, body: _Body, size_bytes: int, note: str) -> None:
        """Take a body over. Room is made as for caches in the store: never at the cost of what is trusted more.

        Raises Refused when that is not enough.
        """
        with self._lock:
            self._entries.pop(name, None)
            order = sorted(
                (each for each in self._entries.items() if each[1].scope.level.rank >= scope.level.rank),
                key=lambda each: (-each[1].scope.level.rank, each[1].used),
            )
            total = size_bytes + sum(each.size_bytes for each in self._entries.values())
            while (total > self._limits.all_bytes or len(self._entries) >= MOST_ENTRIES) and order:
                old, entry = order.pop(0)
                del self._entries[old]
                total -= entry.size_bytes
            if total > self._limits.all_bytes or len(self._entries) >= MOST_ENTRIES:
                raise Refused("the local caches of this machine have no room for it")
            now = self._tick()
            self._entries[name] = _Entry(body, scope, size_bytes, note, now, now)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


class _Taking:
    """Implements ``hooks.builds.keeping.Incoming``."""

    def __init__(self, caches: LocalCaches, name: Name, scope: Scope, note: str, body: _Body, limit_bytes: int) -> None:
        self._caches = caches
        self._name = name
        self._scope = scope
        self._note = note
        self._body = body
        self._limit_bytes = limit_bytes
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > self._limit_bytes:
            raise Refused(f"it is larger than {self._limit_bytes} bytes")
        self._digest.update(data)
        self._waiting += data
        while len(self._waiting) > _PIECE_BYTES:
            self._body.add(bytes(self._waiting[:_PIECE_BYTES]), is_last=False)
            del self._waiting[:_PIECE_BYTES]

    def keep(self, files: int) -> Kept:
        _ = files
        self._body.add(bytes(self._waiting), is_last=True)
        self._caches.put(self._name, self._scope, self._body, self._size_bytes, self._note)
        return Kept(self._size_bytes, self._digest.hexdigest())

    def abort(self) -> None:
        """Nothing has to be done: what was not kept goes with this object."""


class CachesHere:
    """Implements ``hooks.builds.keeping.Keeper``: caches on this machine, artifacts where ``inner`` keeps them."""

    def __init__(self, inner: Keeper, caches: LocalCaches, place: Place) -> None:
        self._inner = inner
        self._caches = caches
        self._place = place

    def begin_artifact(self, name: ArtifactName) -> Incoming | None:
        """As ``Keeper``."""
        return self._inner.begin_artifact(name)

    def find_cache(self, wanted: CacheKey) -> FoundCache | None:
        """As ``Keeper``."""
        found = self._caches.find(self._place, wanted)
        return found[0] if found is not None else None

    def begin_cache(self, wanted: CacheKey) -> Incoming | None:
        """As ``Keeper``."""
        return self._caches.begin(self._place, wanted)


class SourceCache:
    """What git has fetched for a project's builds, by source (LOCAL_SOURCE_CACHE): its objects, and their commit."""

    def __init__(self, caches: LocalCaches, place: Place) -> None:
        self._caches = caches
        self._place = place

    def find(self, source: SourceSettings) -> tuple[FoundCache, str] | None:
        """The objects that an earlier build of this trust, or of more, fetched, and the commit they were fetched for."""
        return self._caches.find(self._place, _objects_of(source))

    def begin(self, source: SourceSettings, commit: str) -> Incoming | None:
        """Begin to keep the objects of a commit, in place of what this trust kept before."""
        return self._caches.begin(self._place, _objects_of(source), commit)


def _objects_of(source: SourceSettings) -> CacheKey:
    # A history that was cut off would stay so: other depths are other caches.
    told = f"source\n{source.identifier}\n{source.location}\n{source.depth}"
    return CacheKey(hashlib.sha256(told.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class LocalUse:
    """What one build has of this machine's caches, by what its project says; nothing where the machine keeps none."""

    caches: LocalCaches | None
    outputs: OutputSettings
    place: Place

    def keeper(self, inner: Keeper) -> Keeper:
        """What keeps the build's outputs: caches here, where the project wants them here."""
        if self.caches is None or not self.outputs.is_local:
            return inner
        return CachesHere(inner, self.caches, self.place)

    @property
    def sources(self) -> SourceCache | None:
        """Where git's objects are kept, if they are to be."""
        if self.caches is None or not self.outputs.caches_sources:
            return None
        return SourceCache(self.caches, self.place)


def place_of(source: PackageSource, project: str, scope: Scope) -> Place:
    """The place of a build's local caches: no other project's, and no other repository's."""
    return Place(f"{source.domain}/{source.repository}/{project}", scope)
