"""What only a file system can do to a store: errors, short writes, a volume that is not there."""

import errno
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.blobs import BlobHandle, BlobStore, Digest, Locator, Pending
from storage.disk import Disk
from storage.errors import Missing, NoSpace, Permanent, StorageError, Transient
from storage.filesystem import FileSystemStore
from storage.locators import new_locator

NOW = datetime(2026, 5, 4, tzinfo=UTC)
FAR = datetime(9999, 1, 1, tzinfo=UTC)


def keep(store: BlobStore, body: bytes) -> BlobHandle:
    pending = store.begin()
    try:
        pending.write(body)
        return pending.commit(Digest("0" * 64))
    finally:
        pending.abort()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


class FailingDisk(Disk):
    """The real disk, of which one call fails, each time or after some times."""

    def __init__(self, call: str, number: int, *, after: int = 0) -> None:
        self.broken = True
        self._left = after
        real: Callable = getattr(self, call)

        def fail(*arguments: object) -> object:
            self._left -= 1
            if self.broken and self._left < 0:
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        setattr(self, call, fail)


@pytest.mark.parametrize(
    ("call", "after"),
    [("create", 0), ("write", 0), ("write", 1), ("sync", 0), ("close", 0), ("mkdir", 0), ("mkdir", 1), ("rename", 0)]
    + [("sync_directory", n) for n in range(3)],
)
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EIO, Transient),
        (errno.EMFILE, Transient),
        (errno.ESTALE, Transient),
        (errno.EROFS, Permanent),
        (errno.EACCES, Permanent),
        (errno.EFBIG, Permanent),
    ],
)
def test_an_error_at_any_step_keeps_nothing_and_is_named(
    root: Path, call: str, after: int, number: int, kind: type[StorageError]
) -> None:
    healthy = FileSystemStore(root)
    disk = FailingDisk(call, number, after=after)
    store = FileSystemStore(root, disk=disk)
    with pytest.raises(kind) as caught:
        keep_in_two_writes(store)
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, OSError)
    disk.broken = False
    assert files(root) == []
    assert list(healthy.iterate()) == []
    assert b"".join(store.open(keep(store, b"healed"))) == b"healed"


def keep_in_two_writes(store: BlobStore) -> None:
    pending = store.begin()
    try:
        write_and_commit(pending)
    finally:
        pending.abort()


def write_and_commit(pending: Pending) -> None:
    pending.write(b"first")
    pending.write(b"second")
    pending.commit(Digest("0" * 64))


@pytest.mark.parametrize("call", ["write", "sync"])
def test_no_blob_is_committed_after_an_error(root: Path, call: str) -> None:
    disk = FailingDisk(call, errno.EIO, after=0)
    pending = FileSystemStore(root, disk=disk).begin()
    with pytest.raises(Transient):
        write_and_commit(pending)
    disk.broken = False  # as a kernel says after it has dropped the pages
    with pytest.raises(ValueError):
        pending.write(b"more")
    with pytest.raises(ValueError):
        pending.commit(Digest("0" * 64))


@pytest.mark.parametrize("call", ["open", "read", "size_of_open"])
def test_a_read_error_is_not_missing(root: Path, call: str) -> None:
    handle = keep(FileSystemStore(root), b"body")
    with pytest.raises(Transient):
        FileSystemStore(root, disk=FailingDisk(call, errno.EIO)).open(handle)


class StingyDisk(Disk):
    """Takes and gives fewer bytes than it is asked for, as the system may."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        return super().write(descriptor, memoryview(data)[:7])

    def read(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        return super().read(descriptor, min(size_bytes, 5), offset)


def test_short_writes_and_short_reads_are_gone_on_with(root: Path) -> None:
    store = FileSystemStore(root, disk=StingyDisk())
    body = os.urandom(1000)
    assert b"".join(store.open(keep(store, body))) == body


def test_files_are_for_their_owner_alone(root: Path) -> None:
    store = FileSystemStore(root)
    pending = store.begin()
    pending.write(b"body")
    [temporary] = files(root)
    assert temporary.parent == root / "tmp"
    handle = pending.commit(Digest("0" * 64))
    [body] = files(root)
    assert body == root / handle.locator[-2] / handle.locator[-1] / handle.locator
    assert stat.S_IMODE(body.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (root, root / "tmp", body.parent))


def test_an_unmounted_volume_is_not_an_empty_one(root: Path) -> None:
    store = FileSystemStore(root)
    handle = keep(store, b"body")
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    for use in (
        lambda: store.open(handle),
        lambda: store.stat(handle.locator),
        lambda: store.delete(handle.locator),
        lambda: list(store.iterate()),
        store.begin,
        store.probe,
        lambda: store.discard_unfinished(FAR),
    ):
        with pytest.raises(Transient):
            use()
    assert list(root.iterdir()) == []
    root.rmdir()
    with pytest.raises(Transient):
        store.open(handle)
    root.with_name("elsewhere").rename(root)
    assert b"".join(store.open(handle)) == b"body"
    store.delete(handle.locator)
    with pytest.raises(Missing):
        store.open(handle)


def test_two_stores_share_a_directory(root: Path) -> None:
    first, second = FileSystemStore(root), FileSystemStore(root)
    handle = keep(first, b"body")
    assert b"".join(second.open(handle)) == b"body"
    second.delete(handle.locator)
    assert list(first.iterate()) == []


def test_a_shard_that_somebody_removed_is_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileSystemStore(root)
    shard_of_all = new_locator(NOW)[-2:]
    monkeypatch.setattr("storage.filesystem.new_locator", lambda now: Locator(new_locator(now)[:-2] + shard_of_all))
    store.delete(keep(store, b"first").locator)
    (root / shard_of_all[0] / shard_of_all[1]).rmdir()
    with pytest.raises(Transient):
        keep(store, b"second")
    assert b"".join(store.open(keep(store, b"third"))) == b"third"


def test_files_of_other_origin_are_left_alone(root: Path) -> None:
    store = FileSystemStore(root)
    handle = keep(store, b"body")
    foreign = [root / "lost+found" / "x", root / "tmp" / "notes.txt", root / "tmp" / ("u" * 26)]
    foreign += [root / handle.locator[-2] / handle.locator[-1] / "README"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    assert [info.locator for info in store.iterate()] == [handle.locator]
    assert store.discard_unfinished(FAR) == 0
    assert all(path.exists() for path in foreign)


def test_a_link_in_the_place_of_a_body_is_not_followed(root: Path, tmp_path: Path) -> None:
    store = FileSystemStore(root)
    handle = keep(store, b"body")
    outside = tmp_path / "outside"
    outside.write_bytes(b"evil")
    body = root / handle.locator[-2] / handle.locator[-1] / handle.locator
    body.unlink()
    body.symlink_to(outside)
    with pytest.raises(Permanent):
        store.open(handle)


def test_the_root_is_made_with_what_is_missing_above_it(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b" / "blobs"
    FileSystemStore(root).probe()
    assert files(root) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(Permanent):
        FileSystemStore(tmp_path / "file" / "blobs")


class ForgetfulDisk(Disk):
    """Gives back zeros, as a broken network file system did."""

    def read(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        return bytes(len(super().read(descriptor, size_bytes, offset)))


def test_the_probe_compares_what_it_reads(root: Path) -> None:
    FileSystemStore(root).probe()
    with pytest.raises(Permanent, match="other bytes"):
        FileSystemStore(root, disk=ForgetfulDisk()).probe()
    assert files(root) == []


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "sync_directory", "read"])
def test_the_probe_uses_every_call_that_a_blob_needs(root: Path, call: str) -> None:
    FileSystemStore(root)
    with pytest.raises(Permanent):
        FileSystemStore(root, disk=FailingDisk(call, errno.EOPNOTSUPP)).probe()
    assert files(root) == []


def test_reading_keeps_no_file_open(root: Path) -> None:
    store = FileSystemStore(root)
    handle = keep(store, os.urandom(3_000_000))
    before = open_files()
    pieces = [store.open(handle) for _ in range(5)]
    assert open_files() == before + 5
    for piece in pieces[:4]:
        piece.close()
    assert len(b"".join(pieces[4])) == 3_000_000
    assert open_files() == before
