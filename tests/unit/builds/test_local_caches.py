"""Caches on the machine that runs builds: found by key and trust, bounded, readable for this process alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooks.builds import local_caches
from hooks.builds.cache_scope import PROTECTED, Level, Scope
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import CacheKey, NoKeeper
from hooks.builds.local_caches import CachesHere, LocalCaches, LocalLimits, LocalUse, Place
from hooks.builds.output_settings import OutputSettings, output_faults

MIB = 1024 * 1024
PULL, OTHER = Scope(Level.PULL_REQUEST, "pr/7"), Scope(Level.PULL_REQUEST, "pr/8")
BRANCH = Scope(Level.BRANCH, "branch/x")


def caches(folder: Path, one: int = 8 * MIB, every: int = 8 * MIB) -> LocalCaches:
    return LocalCaches(folder, LocalLimits(one, every))


def save(here: LocalCaches, body: bytes, key: str = "k", scope: Scope = PROTECTED, project: str = "p") -> bool:
    incoming = here.begin(Place(project, scope), CacheKey("v", key))
    if incoming is None:
        return False
    for start in range(0, len(body), 100_000):
        incoming.write(body[start : start + 100_000])
    incoming.keep(1)
    return True


def load(here: LocalCaches, key: str = "k", scope: Scope = PROTECTED, project: str = "p", *more: str) -> bytes | None:
    found = here.find(Place(project, scope), CacheKey("v", key, more))
    return b"".join(found[0].open()) if found is not None else None


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_what_was_saved_comes_back(tmp_path: Path, size: int) -> None:
    here, body = caches(tmp_path), os.urandom(size)
    assert save(here, body)
    assert load(here) == body
    assert load(here, project="q") is None
    assert list(tmp_path.iterdir()) == []  # nothing that anybody could open, and nothing left when the process ends


def test_keyed_caches_never_change_and_the_one_without_a_key_does(tmp_path: Path) -> None:
    here = caches(tmp_path)
    assert save(here, b"1") and not save(here, b"2")  # noqa: PT018
    assert save(here, b"1", "") and save(here, b"2", "")  # noqa: PT018
    assert (load(here), load(here, "")) == (b"1", b"2")
    save(here, b"3", "k2")
    assert load(here, "kx", PROTECTED, "p", "zz", "k") == b"3"  # the newest of the first beginning that any has


def test_trust_is_read_down_and_never_written_up(tmp_path: Path) -> None:
    here = caches(tmp_path)
    save(here, b"evil", scope=PULL)
    for scope, found in ((PULL, b"evil"), (OTHER, None), (BRANCH, None), (PROTECTED, None)):
        assert load(here, scope=scope) == found, scope
    save(here, b"good")
    assert load(here, scope=OTHER) == b"good"
    assert load(here) == b"good"
    assert not save(here, b"evil", scope=OTHER)  # what it restores it does not write again


def test_room_is_made_for_what_is_trusted_and_not_at_its_cost(tmp_path: Path) -> None:
    here = caches(tmp_path, every=1000)
    save(here, b"x" * 400, "old", PULL)
    save(here, b"x" * 400, "new", OTHER)
    assert load(here, "old", PULL)  # used last
    save(here, b"x" * 500, "release")
    assert load(here, "new", OTHER) is None
    assert load(here, "old", PULL)
    save(here, b"x" * 500, "more")
    assert load(here, "old", PULL) is None
    with pytest.raises(Refused, match="no room"):
        save(here, b"x" * 500, "flood", PULL)
    assert load(here, "release")
    assert load(here, "more")


def test_one_that_is_too_large_is_refused_while_it_comes(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="larger than 1000 bytes"):
        save(caches(tmp_path, one=1000), b"x" * 1001)


def test_what_cannot_be_read_is_said_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = caches(tmp_path)
    save(here, b"x" * (MIB + 10))
    read = os.pread
    with monkeypatch.context() as damaged:
        damaged.setattr(local_caches.os, "pread", lambda *asked: b"\0" + read(*asked)[1:])
        with pytest.raises(ExecutorError, match="not what was written"):
            load(here)
    assert load(here) is None


def test_what_is_pushed_out_can_be_read_to_its_end(tmp_path: Path) -> None:
    here = caches(tmp_path, every=2 * MIB)
    save(here, b"x" * (MIB + 10))
    found = here.find(Place("p", PROTECTED), CacheKey("v", "k"))
    assert found is not None
    pieces = found[0].open()
    assert len(next(iter(pieces))) == MIB
    save(here, b"y" * (MIB + 10), "other")
    assert load(here) is None
    assert sum(map(len, pieces)) == 10


def test_files_go_with_their_caches(tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before, here = opened(), caches(tmp_path)
    for number in range(20):
        save(here, b"x", str(number))
    assert opened() == before + 20
    del here
    assert opened() == before


@pytest.mark.parametrize(
    ("cache", "local", "sources", "custom"),
    [
        ({}, False, False, True),
        ({"type": "S3"}, False, False, True),
        ({"type": "LOCAL"}, True, False, True),
        ({"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE", "LOCAL_SOURCE_CACHE"]}, True, True, True),
        ({"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE"]}, False, True, False),
        ({"type": "NO_CACHE", "modes": ["LOCAL_SOURCE_CACHE"]}, False, False, False),
    ],
)
def test_what_a_project_says_of_local_caches(
    tmp_path: Path, cache: dict[str, object], local: bool, sources: bool, custom: bool
) -> None:
    document = {"cache": cache}
    assert output_faults(document) == []
    outputs = OutputSettings.of(document)
    here = LocalUse(caches(tmp_path), outputs, Place("p", PROTECTED))
    assert (isinstance(here.keeper(NoKeeper()), CachesHere), here.sources is not None) == (local, sources)
    assert outputs.caches is custom
    nowhere = LocalUse(None, outputs, Place("p", PROTECTED))
    assert isinstance(nowhere.keeper(NoKeeper()), NoKeeper)
    assert nowhere.sources is None


def test_unknown_modes_are_refused_and_layers_are_warned_of() -> None:
    assert "LOCAL_SOURCE_CACHE" in output_faults({"cache": {"type": "LOCAL", "modes": ["LOCAL_X"]}})[0]
    assert output_faults({"cache": {"type": "LOCAL", "modes": "LOCAL_CUSTOM_CACHE"}})
    outputs = OutputSettings.of({"cache": {"type": "LOCAL", "modes": ["LOCAL_DOCKER_LAYER_CACHE"]}})
    assert "LOCAL_DOCKER_LAYER_CACHE has no effect" in outputs.warnings[0]
