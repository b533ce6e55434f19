import errno
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.blobs import BlobHandle, BlobStore, Digest, Locator
from storage.disk import Disk
from storage.encrypted import EncryptedStore
from storage.filesystem import FileSystemStore
from storage.keyring import Keyring
from storage.memory import MemoryStore
from storage.sweep import SweepReport, sweep

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GRACE = timedelta(hours=24)


class Moment:
    """A clock that is set by hand."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Moment:
    return Moment()


def keep(store: BlobStore, body: bytes = b"body") -> BlobHandle:
    pending = store.begin()
    pending.write(body)
    return pending.commit(Digest("0" * 64))


def locators(store: BlobStore) -> set[Locator]:
    return {body.locator for body in store.iterate()}


def nothing_is_referenced(batch: Sequence[Locator]) -> set[Locator]:
    return set()


def test_what_is_old_and_unreferenced_goes_and_all_else_stays(root: Path, clock: Moment, keyring: Keyring) -> None:
    store = EncryptedStore(FileSystemStore(root, clock=clock), keyring)
    referenced, orphan = keep(store), keep(store, b"orphan")
    dead = store.begin()
    dead.write(b"x" * 300_000)
    clock.now = NOON + GRACE
    young, at_work = keep(store), store.begin()
    older_than = clock.now - GRACE + timedelta(hours=1)
    orphan_bytes = store.stat(orphan.locator).stored_bytes

    expected = SweepReport(examined=2, deleted=1, deleted_bytes=orphan_bytes, unfinished=1, failed=(), dry_run=True)
    assert sweep(store, lambda _: {referenced.locator}, older_than=older_than, dry_run=True) == expected
    assert locators(store) == {referenced.locator, orphan.locator, young.locator}
    assert len(list((root / "tmp").iterdir())) == 2

    report = sweep(store, lambda _: {referenced.locator}, older_than=older_than)
    assert report == SweepReport(2, 1, orphan_bytes, 1, (), dry_run=False)
    assert locators(store) == {referenced.locator, young.locator}
    at_work.write(b"more")
    at_work.commit(Digest("0" * 64))
    assert sweep(store, lambda _: {referenced.locator}, older_than=older_than).deleted == 0


def test_the_border_is_exclusive(clock: Moment) -> None:
    store = MemoryStore(clock=clock)
    keep(store)
    assert sweep(store, nothing_is_referenced, older_than=NOON).deleted == 0
    assert sweep(store, nothing_is_referenced, older_than=NOON + timedelta(milliseconds=1)).deleted == 1


def test_rows_are_asked_in_batches_about_old_bodies_only(clock: Moment) -> None:
    store = MemoryStore(clock=clock)
    old = {keep(store).locator for _ in range(1203)}
    clock.now = NOON + GRACE
    young = keep(store)
    asked: list[Sequence[Locator]] = []

    def every_second(batch: Sequence[Locator]) -> set[Locator]:
        asked.append(batch)
        return set(batch[::2])

    report = sweep(store, every_second, older_than=NOON + timedelta(hours=1))
    assert [len(batch) for batch in asked] == [500, 500, 203]
    assert {locator for batch in asked for locator in batch} == old
    assert report.deleted == 250 + 250 + 101
    assert report.deleted_bytes == report.deleted * len(b"body")
    assert locators(store) == {locator for batch in asked for locator in batch[::2]} | {young.locator}


def test_a_database_that_cannot_answer_deletes_nothing(clock: Moment) -> None:
    store = MemoryStore(clock=clock)
    kept = keep(store)

    def unavailable(batch: Sequence[Locator]) -> set[Locator]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sweep(store, unavailable, older_than=NOON + GRACE)
    assert locators(store) == {kept.locator}


class StickyDisk(Disk):
    """Refuses to remove one file."""

    stuck = ""

    def unlink(self, path: Path) -> None:
        if path.name == self.stuck:
            raise OSError(errno.EIO, "input/output error")
        super().unlink(path)


def test_a_body_that_cannot_be_deleted_does_not_stop_the_others(root: Path, clock: Moment) -> None:
    disk = StickyDisk()
    store = FileSystemStore(root, clock=clock, disk=disk)
    handles = [keep(store) for _ in range(5)]
    disk.stuck = handles[2].locator
    report = sweep(store, nothing_is_referenced, older_than=NOON + GRACE)
    assert (report.examined, report.deleted, report.failed) == (5, 4, (handles[2].locator,))
    disk.stuck = ""
    assert sweep(store, nothing_is_referenced, older_than=NOON + GRACE).deleted == 1
