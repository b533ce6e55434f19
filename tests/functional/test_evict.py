"""A cache within its size: what goes, in which order, and what never does."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from registry.models import Asset, AuditEntry, Blob, Package, UpstreamPage
from registry.repos import care, evict
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import OutsideWorld

FILE_BYTES = 1000
DAY = timedelta(days=1)


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path, {"ENTREPOT_STORAGE_CACHE_LIMIT_BYTES": str(2 * FILE_BYTES)})
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def path(name: str, repository: str = "dev") -> str:
    return f"pypi/default/{repository}/files/{name}/{name}-1.0.tar.gz"


def keep(world: OutsideWorld, upstream: FaultyUpstream, *names: str) -> dict[str, bytes]:
    bodies = {}
    for name in names:
        bodies[name] = os.urandom(FILE_BYTES)
        upstream.add_project(name, {f"{name}-1.0.tar.gz": bodies[name]})
        assert world.get(path(name)).data == bodies[name]
        world.now += timedelta(minutes=5)
    return bodies


def kept(world: OutsideWorld) -> set[str]:
    with world.db.read() as session:
        return {name.partition("-")[0] for name in session.scalars(select(Asset.filename))}


def run(world: OutsideWorld, *, dry_run: bool = False) -> evict.EvictionReport:
    return evict.evict(world.db, 2 * FILE_BYTES, world.now, dry_run=dry_run)


def test_the_least_recently_used_go_down_to_the_limit(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa", "bb", "cc", "dd")
    world.now += DAY
    assert world.get(path("aa")).status_code == 200
    world.services.files._marks.flush()
    world.now += DAY
    assert run(world, dry_run=True) == evict.EvictionReport(2, 2 * FILE_BYTES, 4 * FILE_BYTES)
    assert kept(world) == {"aa", "bb", "cc", "dd"}
    assert run(world) == evict.EvictionReport(2, 2 * FILE_BYTES, 4 * FILE_BYTES)
    assert kept(world) == {"aa", "dd"}
    assert run(world).files == 0
    with world.db.read() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "cache.evict")).one()
    assert entry.details == {"files": 2, "size_bytes": 2 * FILE_BYTES}


def test_what_went_is_fetched_again_and_must_be_the_same(world: OutsideWorld, upstream) -> None:
    bodies = keep(world, upstream, "aa", "bb", "cc", "dd")
    world.now += 2 * DAY
    run(world)
    care.sweep(world.db, world.services.stores, older_than=world.now - DAY, dry_run=False)
    with world.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Blob)) == 2
        assert set(session.scalars(select(Package.name))) == {"aa", "bb", "cc", "dd"}
    assert world.get(path("aa")).data == bodies["aa"]
    upstream.add_project("bb", {"bb-1.0.tar.gz": os.urandom(FILE_BYTES)})
    world.now += DAY
    refused = world.get(path("bb"))
    assert (refused.status_code, "other content before" in refused.text) == (502, True), refused.text
    faults = list(care.check(world.db, world.services.stores, deep=True))
    assert faults == []


def test_a_name_of_the_outside_stays_one(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa", "bb", "cc")
    world.now += 2 * DAY
    run(world)
    assert "aa" not in kept(world)
    with pytest.raises(Exception, match="aa"):
        world.publish("dev", "aa", "2.0")


def test_what_is_published_or_promoted_never_goes(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa", "bb", "cc", "dd")
    world.publish("dev", "ours", "1.0")
    promoted = world.call(
        "POST", "/domains/default/repositories/dev/packages/pypi/aa/versions/1.0/promote", json={"target": "staging"}
    )
    assert promoted.status_code == 200, promoted.text
    world.now += 2 * DAY
    report = evict.evict(world.db, 0, world.now, dry_run=False)
    assert report == evict.EvictionReport(3, 3 * FILE_BYTES, 3 * FILE_BYTES)
    assert kept(world) == {"aa", "ours"}
    upstream.refuse()
    assert world.get(path("aa", "staging")).status_code == 200


def test_what_is_in_use_stays_whatever_the_limit(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa", "bb", "cc")
    assert evict.evict(world.db, 0, world.now, dry_run=False).files == 0


def test_pages_that_nobody_asks_for_are_dropped(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa")
    world.now += timedelta(days=6)
    assert evict.forget_dead_pages(world.db, world.now) == 0
    world.now += timedelta(days=2)
    assert evict.forget_dead_pages(world.db, world.now) == 1
    with world.db.read() as session:
        assert session.scalars(select(UpstreamPage)).all() == []


def test_a_version_that_was_withheld_stays_so_though_its_files_went(world: OutsideWorld, upstream) -> None:
    keep(world, upstream, "aa", "bb", "cc")
    for repository in ("dev", "public"):
        there = f"/domains/default/repositories/{repository}/packages/pypi/aa/versions/update_status"
        answer = world.call("POST", there, json={"versions": ["1.0"], "targetStatus": "Archived"})
        assert answer.json["failedVersions"] == {}, answer.text
    world.now += 2 * DAY
    evict.evict(world.db, 0, world.now, dry_run=False)
    assert kept(world) == set()
    # The index outside still lists it; here it is archived, and neither listed nor fetched.
    assert world.get(path("aa")).status_code == 403
    assert world.get("pypi/default/dev/simple/aa/").text.count("<a ") == 0
    assert world.get(path("bb")).status_code == 200
    assert list(care.check(world.db, world.services.stores, deep=True)) == []
