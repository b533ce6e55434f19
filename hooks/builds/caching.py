"""The buildspec's ``cache``: restored before INSTALL, saved at the end of a build that succeeded.

A cache makes a build faster and must never make it fail: what goes wrong with one is told in the log, and the build goes
on. Which caches a build may read and write is decided by its trust, in ``hooks.builds.cache_scope``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hooks.builds.evaluate import Bench
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import CacheKey, Incoming, Keeper
from hooks.builds.spec import CacheSpec

MAX_KEY_CHARACTERS = 500
COMMON_PATHS = ("~/.cache/**/*", "~/.m2/repository/**/*", "~/.gradle/caches/**/*", "~/.cargo/registry/**/*")
"""What is cached when the section has no paths: where build tools keep what they download."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A build's cache: its key is worked out once, before the first command."""

    paths: tuple[str, ...]
    key: CacheKey
    restores: bool
    saves: bool


def prepare(bench: Bench, spec: CacheSpec) -> Cache | None:
    """Work out the key; None, and a line in the log, when it has none that can be used. Raises as ``bench.value_of``."""
    paths = spec.paths or COMMON_PATHS
    key, fallbacks = "", tuple[str, ...]()
    if spec.key:
        key = bench.value_of(spec.key)
        fallbacks = tuple(value for text in spec.fallback_keys if (value := bench.value_of(text)))
        if not key or any(len(text) > MAX_KEY_CHARACTERS or not text.isprintable() for text in (key, *fallbacks)):
            bench.say(f"Warning: the cache is not used: its key {spec.key} has no usable value")
            return None
    return Cache(
        paths,
        CacheKey(version_of(paths), key, fallbacks),
        restores=spec.action != "save",
        saves=spec.action != "restore",
    )


def version_of(paths: tuple[str, ...]) -> str:
    """The digest of a list of paths: a cache of other paths is another cache, under whatever key."""
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()


def restore(bench: Bench, cache: Cache, keeper: Keeper) -> None:
    """Put the cache back, if there is one. Raises ExecutorError when it breaks off in the middle."""
    if not cache.restores:
        return
    try:
        found = keeper.find_cache(cache.key)
    except ExecutorError as error:
        bench.say(f"Warning: the cache is not restored: {error}")
        return
    if found is None:
        bench.say(f"No cache found{f' for key {cache.key.key}' if cache.key.key else ''}")
        return
    kind = "" if found.is_exact else " (by a fallback key)"
    name = f"cache {found.key}" if found.key else "cache of the project"
    bench.say(f"Restoring {name}{kind}, scope {found.scope}, {found.size_bytes} bytes")
    outcome = bench.sandbox.restore(found.open(), bench.log, bench.interrupt)
    bench.check(outcome)
    if not outcome.succeeded:
        bench.say("Warning: the cache could not be restored whole; the build goes on with what there is")


def save(bench: Bench, cache: Cache, keeper: Keeper) -> None:
    """Keep what the paths match now. Raises Refused where the sandbox sends without end."""
    if not cache.saves:
        return
    try:
        incoming = keeper.begin_cache(cache.key)
    except ExecutorError as error:
        bench.say(f"Warning: the cache is not saved: {error}")
        return
    if incoming is None:
        bench.say(
            f"Cache{f' {cache.key.key}' if cache.key.key else ''} is not saved: it is there already, or not to be"
        )
        return
    taking = Taking(incoming)
    try:
        outcome, files = bench.sandbox.save(cache.paths, taking.write, bench.interrupt)
        bench.check(outcome)
        if not outcome.succeeded:
            bench.say(f"Warning: the cache is not saved: {outcome.detail}")
        elif not files:
            bench.say("The cache is not saved: no file matches its paths")
        elif taking.refusal:
            bench.say(f"Warning: the cache is not saved: {taking.refusal}")
        else:
            _keep(bench, incoming, files)
    finally:
        incoming.abort()


def _keep(bench: Bench, incoming: Incoming, files: int) -> None:
    try:
        kept = incoming.keep(files)
    except (Refused, ExecutorError) as error:
        bench.say(f"Warning: the cache is not saved: {error}")
    else:
        bench.say(f"Saved the cache: {files} file(s), {kept.size_bytes} bytes")


class Taking:
    """Takes a cache in up to its limit, and lets the rest pass: the sandbox has to come to its end to go on."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self.refusal = ""

    def write(self, data: bytes) -> None:
        """Take the next bytes, or let them pass once they were refused."""
        if not self.refusal:
            try:
                self._incoming.write(data)
            except (Refused, ExecutorError) as error:
                self.refusal = str(error)
