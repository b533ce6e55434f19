"""Caches of type LOCAL through real builds and a real git server: what stays on the machine, and for whom."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config import executors
from hooks.builds import local_caches
from hooks.builds.cache_scope import PROTECTED, Level, Scope
from hooks.builds.git_fetch import Fetched, GitFetcher, GitRules
from hooks.builds.local_caches import LocalCaches, LocalLimits, SourceCache
from hooks.builds.local_caches import Place as Whose
from hooks.builds.project import SourceSettings, SourceType
from hooks.models import BuildCache
from tests.build_bench import MISSING_SANDBOX, never
from tests.build_outputs import OutputWorld, output_world
from tests.functional.test_git_sources import Place, place

__all__ = ["place"]

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
LOCAL = {"cache": {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE", "LOCAL_DOCKER_LAYER_CACHE"]}}
SPEC = """version: 0.2
phases: {build: {commands: ['cat had/it || true', 'mkdir -p had && echo again >had/it']}}
cache: {paths: ['had/**/*']}
"""
PULL = Scope(Level.PULL_REQUEST, "pr/7")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutputWorld]:
    with output_world(tmp_path_factory.mktemp("outputs")) as made:
        made.local = executors.local_caches(made.settings)
        yield made


def test_a_local_cache_stays_on_the_machine_for_the_projects_next_build(world: OutputWorld) -> None:
    first = world.log_of(world.build(SPEC, document=LOCAL))
    assert "No cache found" in first
    assert "Warning: LOCAL_DOCKER_LAYER_CACHE has no effect" in first
    second = world.log_of(world.build(SPEC, document=LOCAL))
    assert "Restoring cache of the project, scope protected" in second
    assert "again\n" in second
    with world.db.read() as session:
        assert session.scalar(select(func.count()).select_from(BuildCache)) == 0  # nothing went to the store


# --- what git has fetched


def fetch(place: Place, caches: LocalCaches, scope: Scope, **source: object) -> Fetched:
    wanted = replace(SourceSettings(SourceType.GIT, f"{place.forge.url}/one.git"), **source)
    cache = SourceCache(caches, Whose("default/dev/p", scope))
    return GitFetcher(place.executor(), GitRules()).fetch(wanted, None, never, cache)


def unpacked(fetched: Fetched, folder: Path) -> Path:
    with fetched.body, tarfile.open(fileobj=fetched.body) as tar:
        tar.extractall(folder, filter="data")
    return folder


def has(repository: Path, commit: str) -> bool:
    asked = ["git", "-C", str(repository), "-c", "safe.directory=*", "cat-file", "-e", f"{commit}^{{tree}}"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def test_git_fetches_what_is_new(place: Place, tmp_path: Path) -> None:
    caches = LocalCaches(place.work, LocalLimits())
    assert fetch(place, caches, PROTECTED, version="v1").commit == place.commits[0]
    later = fetch(place, caches, PROTECTED)
    assert later.commit == place.commits[1]
    repository = unpacked(later, tmp_path / "later")
    assert has(repository, place.commits[0])  # though a single commit was asked for: it was there already
    assert (repository / "README").read_text() == "second\n"
    references = subprocess.run(
        ["git", "-C", str(repository), "-c", "safe.directory=*", "for-each-ref"], capture_output=True, check=True
    )
    assert references.stdout == b""


@pytest.mark.long
def test_a_source_that_was_kept_wrongly_is_fetched_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = LocalCaches(place.work, LocalLimits())
    fetch(place, caches, PROTECTED)
    found = caches.find
    monkeypatch.setattr(caches, "find", lambda *asked: (found(*asked)[0], "f" * 40))  # a commit that is not there
    assert fetch(place, caches, PROTECTED).commit == place.commits[1]
    monkeypatch.setattr(caches, "find", found)
    monkeypatch.setattr(local_caches.os, "pread", lambda *_: b"damaged")
    assert fetch(place, caches, PROTECTED).commit == place.commits[1]


def test_H7_what_a_pull_request_fetched_is_in_no_release(place: Place, tmp_path: Path) -> None:
    caches = LocalCaches(place.work, LocalLimits())
    fetch(place, caches, PULL, version="feature/x")
    release = unpacked(fetch(place, caches, PROTECTED), tmp_path / "release")
    assert not has(release, place.commits[2])
    assert not has(release, place.commits[0])  # nor anything but the one commit that was asked for


@pytest.mark.long
def test_a_pull_request_has_what_it_fetched_before_and_other_depths_have_nothing(place: Place, tmp_path: Path) -> None:
    caches = LocalCaches(place.work, LocalLimits())
    fetch(place, caches, PULL, version="feature/x")
    assert has(unpacked(fetch(place, caches, PULL), tmp_path / "pull"), place.commits[2])
    deep = unpacked(fetch(place, caches, PULL, depth=0), tmp_path / "deep")
    assert not (deep / ".git" / "shallow").exists()
