"""One suite for every blob store: what ``storage.blobs`` promises, kept by each implementation."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.blobs import KIB, MIB, BlobHandle, BlobStore, ByteRange, Digest, Locator
from storage.encrypted import EncryptedStore
from storage.errors import Damaged, Missing, Permanent, StorageError
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring
from storage.locators import new_locator
from storage.memory import MemoryStore

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SMALL_CHUNK_LOG2 = 12
SIZES = sorted(
    {0, 1, 100, 3 * MIB + 5}
    | {n * border + d for border in (4 * KIB, 128 * KIB) for n in (1, 2) for d in (-1, 0, 1)}
    | {MIB - 1, MIB, MIB + 1}
)


@dataclass
class Setting:
    """What a store is made from, so that a test can also set its clock and look at its directory."""

    directory: Path
    now: datetime = NOON
    stores: dict[str, Callable[[], BlobStore]] = field(init=False)

    def __post_init__(self) -> None:
        keyring = Keyring(LocalKeyFile.create(self.directory / "keys" / "master.json"), "default")
        keyring.add(keyring.new_key())
        self.root = self.directory / "blobs"

        def memory() -> BlobStore:
            return MemoryStore(clock=lambda: self.now)

        def filesystem() -> BlobStore:
            return FileSystemStore(self.root, clock=lambda: self.now)

        self.stores = {
            "memory": memory,
            "filesystem": filesystem,
            "encrypted-memory": lambda: EncryptedStore(memory(), keyring),
            "encrypted-filesystem": lambda: EncryptedStore(filesystem(), keyring),
            "encrypted-small-chunks": lambda: EncryptedStore(filesystem(), keyring, chunk_log2=SMALL_CHUNK_LOG2),
        }

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


KINDS = ["memory", "filesystem", "encrypted-memory", "encrypted-filesystem", "encrypted-small-chunks"]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, setting: Setting) -> BlobStore:
    return setting.stores[request.param]()


@pytest.fixture(scope="module", params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A store with one blob whose size is no multiple of anything."""
    store = Setting(tmp_path_factory.mktemp("kept")).stores[request.param]()
    body = os.urandom(300 * KIB + 77)
    return store, keep(store, body), body


def digest_of(body: bytes) -> Digest:
    return Digest(sha256(body).hexdigest())


def keep(store: BlobStore, body: bytes, piece_bytes: int = 70_001) -> BlobHandle:
    pending = store.begin()
    for start in range(0, len(body), piece_bytes):
        pending.write(body[start : start + piece_bytes])
    return pending.commit(digest_of(body))


def read(store: BlobStore, handle: BlobHandle, part: ByteRange | None = None) -> bytes:
    with closing(store.open(handle, part)) as pieces:
        return b"".join(pieces)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_was_written_is_read(store: BlobStore, size_bytes: int) -> None:
    body = os.urandom(size_bytes)
    handle = keep(store, body)
    assert (handle.size_bytes, handle.digest) == (size_bytes, digest_of(body))
    assert len(handle.envelope) <= 512
    pieces = list(store.open(handle))
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= MIB for piece in pieces)


@pytest.mark.parametrize("piece_bytes", [1, 4095, 4096, 4097, 131_072, 400_000])
def test_how_it_was_cut_into_writes_does_not_matter(store: BlobStore, piece_bytes: int) -> None:
    body = os.urandom(9000 if piece_bytes == 1 else 300_000)
    pending = store.begin()
    view = memoryview(body)
    for start in range(0, len(body), piece_bytes):
        pending.write(view[start : start + piece_bytes])
    pending.write(b"")
    assert read(store, pending.commit(digest_of(body))) == body


def test_a_written_buffer_may_be_used_again(store: BlobStore) -> None:
    buffer = bytearray(b"a" * 10_000)
    pending = store.begin()
    pending.write(memoryview(buffer))
    buffer[:] = b"b" * 10_000
    pending.write(memoryview(buffer))
    assert read(store, pending.commit(Digest("0" * 64))) == b"a" * 10_000 + b"b" * 10_000


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_is_a_slice(kept: tuple, data: st.DataObject) -> None:
    store, handle, body = kept
    near_borders = [n * border + d for border in (4096, 131_072) for n in range(3) for d in (-1, 0, 1)]
    offsets = st.one_of(
        st.integers(0, len(body)),
        st.sampled_from([o for o in near_borders if 0 <= o <= len(body)]),
        st.sampled_from([0, len(body) - 1, len(body)]),
    )
    start, stop = sorted((data.draw(offsets), data.draw(offsets)))
    assert read(store, handle, ByteRange(start, stop)) == body[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 11), (11, 11)])
def test_a_part_outside_the_blob_is_an_error_of_the_caller(store: BlobStore, start: int, stop: int) -> None:
    handle = keep(store, b"0123456789")
    with pytest.raises(ValueError):
        store.open(handle, ByteRange(start, stop))


def test_nothing_is_visible_before_commit(store: BlobStore) -> None:
    pending = store.begin()
    pending.write(b"x" * 500_000)
    assert list(store.iterate()) == []
    with pytest.raises(Missing):
        store.stat(pending.locator)
    handle = pending.commit(Digest("0" * 64))
    assert handle.locator == pending.locator
    assert [info.locator for info in store.iterate()] == [handle.locator]


def test_what_is_being_written_can_be_read_by_others(store: BlobStore) -> None:
    body = os.urandom(2 * MIB + 77)
    pending = store.begin()
    reader = pending.reread()
    got, seen = b"", []
    for start in range(0, len(body), 70_001):
        pending.write(body[start : start + 70_001])
        seen.append(pending.readable_bytes)
        while len(got) < pending.readable_bytes:
            piece = reader.read(ByteRange(len(got), pending.readable_bytes))
            assert 0 < len(piece) <= MIB
            got += piece
    assert got == body[: len(got)]
    assert seen == sorted(seen)
    assert len(body) - 256 * KIB <= pending.readable_bytes <= len(body)
    for _ in range(2):  # another reader, anywhere in it
        second = pending.reread()
        assert body[300_000:].startswith(second.read(ByteRange(300_000, 300_100)))
        second.close()
        second.close()
    handle = pending.commit(digest_of(body))
    # What is read already may go on; whoever comes now reads the blob.
    assert body[5:].startswith(reader.read(ByteRange(5, 1000)))
    reader.close()
    with pytest.raises(Missing):
        pending.reread()
    assert read(store, handle) == body


def test_what_was_given_up_is_read_by_nobody_new(store: BlobStore) -> None:
    pending = store.begin()
    pending.write(b"x" * 500_000)
    pending.abort()
    with pytest.raises(Missing):
        pending.reread()


def test_abort_leaves_nothing_behind_and_may_be_repeated(store: BlobStore, setting: Setting) -> None:
    pending = store.begin()
    pending.write(b"x" * 500_000)
    pending.abort()
    pending.abort()
    assert list(store.iterate()) == []
    assert setting.files() == []
    with pytest.raises(ValueError):
        pending.commit(Digest("0" * 64))


def test_abort_after_commit_does_nothing(store: BlobStore) -> None:
    pending = store.begin()
    pending.write(b"kept")
    handle = pending.commit(digest_of(b"kept"))
    pending.abort()
    assert read(store, handle) == b"kept"


def test_a_blob_is_committed_once(store: BlobStore) -> None:
    pending = store.begin()
    pending.write(b"once")
    handle = pending.commit(digest_of(b"once"))
    with pytest.raises(ValueError):
        pending.commit(digest_of(b"once"))
    assert read(store, handle) == b"once"


def test_equal_bodies_are_two_blobs(store: BlobStore) -> None:
    first, second = keep(store, b"same"), keep(store, b"same")
    store.delete(first.locator)
    assert read(store, second) == b"same"


def test_deleting_twice_is_success(store: BlobStore) -> None:
    handle = keep(store, b"gone soon")
    store.delete(handle.locator)
    store.delete(handle.locator)
    store.delete(new_locator(NOON))
    assert list(store.iterate()) == []


def test_missing_shows_when_it_is_opened_and_not_when_it_is_read(store: BlobStore) -> None:
    handle = keep(store, b"gone soon")
    store.delete(handle.locator)
    for part in (None, ByteRange(2, 5), ByteRange(0, 0)):
        with pytest.raises(Missing):
            store.open(handle, part)
    with pytest.raises(Missing):
        store.stat(handle.locator)


def test_a_body_of_another_length_than_the_row_says_is_damaged(store: BlobStore) -> None:
    handle = keep(store, b"0123456789")
    for size_bytes in (9, 11):
        with pytest.raises(Damaged):
            store.open(replace(handle, size_bytes=size_bytes))


@pytest.mark.parametrize(
    "nonsense", ["", "..", "../../etc/passwd", "/etc/passwd", "A" * 26, "a" * 25, "a" * 27, "a" * 26 + "\n", "tmp/" * 6]
)
def test_no_text_from_outside_names_a_file(store: BlobStore, nonsense: str) -> None:
    handle = keep(store, b"body")
    with pytest.raises(Permanent):
        store.stat(Locator(nonsense))
    with pytest.raises(Permanent):
        store.delete(Locator(nonsense))
    with pytest.raises(Permanent):
        store.open(replace(handle, locator=Locator(nonsense)))


def test_age_is_what_the_store_recorded(store: BlobStore, setting: Setting) -> None:
    handle = keep(store, b"old")
    setting.now = NOON + timedelta(days=3)
    later = keep(store, b"new")
    for path in setting.files():
        os.utime(path, (0, 0))  # a restore from a backup sets times of its own
    ages = {info.locator: info.created_at for info in store.iterate()}
    assert ages == {handle.locator: NOON, later.locator: NOON + timedelta(days=3)}
    assert store.stat(handle.locator).created_at == NOON


def test_stat_and_iterate_agree(store: BlobStore) -> None:
    handles = [keep(store, os.urandom(size)) for size in (0, 10, 200_000)]
    listed = {info.locator: info for info in store.iterate()}
    assert set(listed) == {handle.locator for handle in handles}
    for handle in handles:
        assert store.stat(handle.locator) == listed[handle.locator]
        assert listed[handle.locator].stored_bytes >= handle.size_bytes


def test_unfinished_blobs_of_dead_writers_are_discarded(store: BlobStore, setting: Setting) -> None:
    abandoned = store.begin()
    abandoned.write(b"x" * 300_000)
    setting.now = NOON + timedelta(hours=1)
    at_work = store.begin()
    at_work.write(b"still here")
    border = NOON + timedelta(minutes=30)
    assert store.discard_unfinished(border, dry_run=True) == 1
    assert store.discard_unfinished(border) == 1
    assert store.discard_unfinished(border) == 0
    assert read(store, at_work.commit(digest_of(b"still here"))) == b"still here"
    abandoned.abort()


def test_reading_can_be_let_go_of(store: BlobStore) -> None:
    handle = keep(store, os.urandom(3 * MIB))
    pieces = store.open(handle)
    next(pieces)
    pieces.close()
    pieces.close()
    with pytest.raises(StopIteration):
        next(pieces)


def test_a_reader_of_a_deleted_blob_sees_it_whole_or_an_error(store: BlobStore) -> None:
    body = os.urandom(3 * MIB)
    handle = keep(store, body)
    pieces = store.open(handle)
    store.delete(handle.locator)
    try:
        whole = b"".join(pieces)
    except StorageError:
        return
    assert whole == body


def test_many_threads_write_read_and_delete_at_once(store: BlobStore) -> None:
    def work(seed: int) -> BlobHandle:
        body = bytes([seed]) * (50_000 + seed * 1000)
        handle = keep(store, body)
        assert read(store, handle) == body
        assert read(store, handle, ByteRange(1000, 40_000)) == body[1000:40_000]
        list(store.iterate())
        if seed % 2:
            store.delete(handle.locator)
        return handle

    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(work, range(64)))
    assert {info.locator for info in store.iterate()} == {handle.locator for handle in handles[::2]}


def test_two_readers_of_one_blob_do_not_disturb_each_other(kept: tuple) -> None:
    store, handle, body = kept
    first, second = store.open(handle), store.open(handle, ByteRange(5, len(body)))
    read_by_first, read_by_second = bytearray(), bytearray()
    while True:
        left, right = next(first, b""), next(second, b"")
        if not left and not right:
            break
        read_by_first += left
        read_by_second += right
    assert read_by_first == body
    assert read_by_second == body[5:]
