"""Attacks on stored bytes and their rows: each must end in Damaged before a wrong byte is given out."""

import multiprocessing
import os
import tracemalloc
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.blobs import KIB, MIB, BlobHandle, BlobStore, ByteRange, Digest
from storage.encrypted import EncryptedStore, _context, _Header
from storage.errors import Damaged, KeyUnavailable, Missing
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring
from storage.paths import Layout

HEADER, CHUNK, TAG = 12, 4096, 16
STEP = CHUNK + TAG
BODY = os.urandom(3 * CHUNK + 1000)  # chunks 0, 1, 2 and a shorter last one
CANARY = b"canary-7f3a9c51-plain-text-of-an-artifact"


def keep(store: BlobStore, body: bytes) -> BlobHandle:
    pending = store.begin()
    pending.write(body)
    return pending.commit(Digest(sha256(body).hexdigest()))


def read_until_damage(store: BlobStore, handle: BlobHandle, part: ByteRange | None = None) -> bytes:
    """What came out before Damaged was raised; fails when nothing was raised."""
    out = bytearray()
    try:
        for piece in store.open(handle, part):
            out += piece
    except Damaged:
        return bytes(out)
    pytest.fail("the damage was not found")


def path_of(root: Path, handle: BlobHandle) -> Path:
    return Layout(root).body(handle.locator)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    stored = bytearray(path.read_bytes())
    stored[offset] ^= 1 << bit
    path.write_bytes(stored)


REGIONS = {
    **{f"header byte {n}": (n, 0) for n in range(HEADER)},
    **{f"chunk {i} start": (HEADER + i * STEP, i) for i in range(4)},
    **{f"chunk {i} middle": (HEADER + i * STEP + 500, i) for i in range(4)},
    **{f"chunk {i} tag": (HEADER + i * STEP + CHUNK + 3, i) for i in range(3)},
    "last byte": (-1, 3),
}


@pytest.mark.parametrize(("offset", "chunk"), REGIONS.values(), ids=REGIONS.keys())
def test_a_flipped_bit_is_found_before_its_chunk_is_given_out(
    store: EncryptedStore, root: Path, offset: int, chunk: int
) -> None:
    handle = keep(store, BODY)
    flip(path_of(root, handle), offset)
    assert read_until_damage(store, handle) == BODY[: chunk * CHUNK]


@given(offset=st.integers(0, HEADER + len(BODY) + 4 * TAG - 1), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_found(store: EncryptedStore, root: Path, offset: int, bit: int) -> None:
    handle = keep(store, BODY)
    flip(path_of(root, handle), offset, bit)
    assert BODY.startswith(read_until_damage(store, handle))


def test_negative_control_a_plain_store_gives_out_flipped_bits(plain: FileSystemStore, root: Path) -> None:
    handle = keep(plain, BODY)
    flip(path_of(root, handle), 500)
    assert b"".join(plain.open(handle)) != BODY


def test_a_range_reads_the_covering_chunks_only(store: EncryptedStore, root: Path) -> None:
    handle = keep(store, BODY)
    flip(path_of(root, handle), HEADER + 10)
    flip(path_of(root, handle), HEADER + 3 * STEP + 10)
    part = ByteRange(CHUNK + 5, 3 * CHUNK)
    assert b"".join(store.open(handle, part)) == BODY[part.start : part.stop]
    assert read_until_damage(store, handle, ByteRange(CHUNK - 1, CHUNK + 1)) == b""
    assert read_until_damage(store, handle, ByteRange(3 * CHUNK - 1, 3 * CHUNK + 1)) == BODY[3 * CHUNK - 1 : 3 * CHUNK]


@pytest.mark.parametrize("kept_chunks", [0, 1, 2, 3])
@pytest.mark.parametrize("beyond", [0, 1, TAG])
def test_truncation_is_found(store: EncryptedStore, root: Path, kept_chunks: int, beyond: int) -> None:
    handle = keep(store, BODY)
    os.truncate(path_of(root, handle), HEADER + kept_chunks * STEP + beyond)
    assert read_until_damage(store, handle) == b""


def test_truncation_is_found_though_the_row_agrees(store: EncryptedStore, root: Path) -> None:
    handle = keep(store, BODY)
    os.truncate(path_of(root, handle), HEADER + 2 * STEP)
    assert read_until_damage(store, replace(handle, size_bytes=2 * CHUNK)) == b""


def forged(keyring: Keyring, handle: BlobHandle, **changes: object) -> BlobHandle:
    """A handle as somebody with the domain key could forge it: its envelope vouches for what was changed."""
    wanted = replace(handle, **changes)
    header, wrapped = _Header(handle.envelope[:HEADER]), handle.envelope[HEADER:]
    key = keyring.unwrap_data_key(wrapped, _context(header, handle.locator, handle.digest, handle.size_bytes))
    wrapped = keyring.wrap_data_key(key, _context(header, wanted.locator, wanted.digest, wanted.size_bytes))
    return replace(wanted, envelope=header.encoded + wrapped)


def test_the_last_flag_alone_finds_truncation(store: EncryptedStore, keyring: Keyring, root: Path) -> None:
    handle = keep(store, BODY)
    os.truncate(path_of(root, handle), HEADER + 2 * STEP)
    assert read_until_damage(store, forged(keyring, handle, size_bytes=2 * CHUNK)) == BODY[:CHUNK]


def test_the_last_flag_alone_finds_extension(store: EncryptedStore, keyring: Keyring, root: Path) -> None:
    handle = keep(store, BODY[: 2 * CHUNK])
    stored = path_of(root, handle).read_bytes()
    path_of(root, handle).write_bytes(stored + stored[-STEP:])
    assert read_until_damage(store, handle) == b""
    assert read_until_damage(store, forged(keyring, handle, size_bytes=3 * CHUNK)) == BODY[:CHUNK]


def test_the_locator_in_the_chunks_alone_finds_a_moved_body(
    store: EncryptedStore, keyring: Keyring, root: Path
) -> None:
    first, second = keep(store, BODY), keep(store, os.urandom(len(BODY)))
    path_of(root, second).write_bytes(path_of(root, first).read_bytes())
    assert read_until_damage(store, forged(keyring, first, locator=second.locator)) == b""
    assert b"".join(store.open(forged(keyring, first))) == BODY  # the forgery as such is a good one


@pytest.mark.parametrize(("left", "right"), [(0, 1), (0, 2), (1, 2)])
def test_swapped_chunks_are_found(store: EncryptedStore, root: Path, left: int, right: int) -> None:
    handle = keep(store, BODY)
    path = path_of(root, handle)
    stored = path.read_bytes()
    chunks = [stored[HEADER + i * STEP : HEADER + (i + 1) * STEP] for i in range(4)]
    chunks[left], chunks[right] = chunks[right], chunks[left]
    path.write_bytes(stored[:HEADER] + b"".join(chunks))
    assert read_until_damage(store, handle) == BODY[: left * CHUNK]


def test_swapped_files_are_found(store: EncryptedStore, root: Path) -> None:
    first, second = keep(store, BODY), keep(store, os.urandom(len(BODY)))
    one, two = path_of(root, first), path_of(root, second)
    mine, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(mine)
    for handle in (first, second):
        for part in (None, ByteRange(CHUNK, 2 * CHUNK)):
            assert read_until_damage(store, handle, part) == b""


def test_swapped_envelopes_are_found(store: EncryptedStore) -> None:
    first, second = keep(store, BODY), keep(store, os.urandom(len(BODY)))
    assert read_until_damage(store, replace(first, envelope=second.envelope)) == b""


def test_a_body_moved_to_another_row_with_its_envelope_is_found(store: EncryptedStore, root: Path) -> None:
    first, second = keep(store, BODY), keep(store, os.urandom(len(BODY)))
    path_of(root, second).write_bytes(path_of(root, first).read_bytes())
    assert read_until_damage(store, replace(second, envelope=first.envelope)) == b""
    assert read_until_damage(store, replace(first, locator=second.locator)) == b""


@pytest.mark.parametrize("offset", range(HEADER))
def test_a_changed_header_in_the_row_is_found(store: EncryptedStore, root: Path, offset: int) -> None:
    handle = keep(store, BODY)
    envelope = bytearray(handle.envelope)
    envelope[offset] ^= 1
    assert read_until_damage(store, replace(handle, envelope=bytes(envelope))) == b""
    # The format byte turned down in both places at once.
    flip(path_of(root, handle), offset)
    assert read_until_damage(store, replace(handle, envelope=bytes(envelope))) == b""


def test_a_changed_digest_in_the_row_is_found(store: EncryptedStore) -> None:
    handle = keep(store, BODY)
    assert read_until_damage(store, replace(handle, digest=Digest("0" * 64))) == b""


@pytest.mark.parametrize("envelope", [b"", b"EB1", b"x" * 100, b"EB1\x01" + bytes(8), b"EB1\x01\x0c" + bytes(90)])
def test_nonsense_for_an_envelope_is_damaged(store: EncryptedStore, envelope: bytes) -> None:
    handle = keep(store, BODY)
    assert read_until_damage(store, replace(handle, envelope=envelope)) == b""


def test_an_envelope_destroyed_is_a_blob_destroyed(store: EncryptedStore, root: Path) -> None:
    handle = keep(store, BODY)
    shredded = replace(handle, envelope=handle.envelope[:-40] + bytes(40))
    assert path_of(root, handle).exists()
    assert read_until_damage(store, shredded) == b""


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK])
def test_a_short_blob_is_as_well_guarded(store: EncryptedStore, root: Path, size_bytes: int) -> None:
    handle = keep(store, BODY[:size_bytes])
    flip(path_of(root, handle), -1)
    for part in (None, ByteRange(0, 0)):
        assert read_until_damage(store, handle, part) == b""


def files_with(directory: Path, text: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_no_plain_text_reaches_the_disk_at_any_moment(store: EncryptedStore, tmp_path: Path) -> None:
    body = CANARY * 2000
    pending = store.begin()
    for start in range(0, len(body), 5000):
        pending.write(body[start : start + 5000])
        assert files_with(tmp_path, CANARY) == []
    assert any(path.stat().st_size > CHUNK for path in (tmp_path / "blobs" / "tmp").iterdir())
    handle = pending.commit(Digest(sha256(body).hexdigest()))
    assert files_with(tmp_path, CANARY) == []
    assert files_with(tmp_path, sha256(body).hexdigest().encode()) == []
    assert b"".join(store.open(handle)) == body


def test_negative_control_plain_text_is_found_where_it_is(plain: FileSystemStore, tmp_path: Path) -> None:
    keep(plain, CANARY * 2000)
    assert len(files_with(tmp_path, CANARY)) == 1


def test_equal_chunks_and_equal_blobs_do_not_look_equal(store: EncryptedStore, root: Path) -> None:
    bodies = [path_of(root, keep(store, bytes(4 * CHUNK))).read_bytes() for _ in range(20)]
    chunks = [body[HEADER + i * STEP :][:CHUNK] for body in bodies for i in range(4)]
    assert len(set(chunks)) == 80
    assert len({body[:HEADER] for body in bodies}) == 20


def _nonces_of(keyring: Keyring, count: int) -> list[tuple[str, bytes]]:
    boxes = [keyring.wrap_data_key(bytes(32), "c") for _ in range(count // 2)]
    boxes += [keyring.seal(b"field", "c") for _ in range(count // 2)]
    return [(keyring.key_id_of(box), box[2 + box[1] :][:12]) for box in boxes]


def _send_nonces(keyring: Keyring, into: multiprocessing.SimpleQueue) -> None:
    into.put(_nonces_of(keyring, 10_000))


def test_no_nonce_comes_twice_even_after_a_fork(keyring: Keyring) -> None:
    seen = _nonces_of(keyring, 20_000)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=_send_nonces, args=(keyring, queue)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in children:
        seen += queue.get()
    for child in children:
        child.join()
    assert len(seen) == len(set(seen)) == 50_000


def test_every_blob_has_a_data_key_of_its_own(store: EncryptedStore, keyring: Keyring) -> None:
    keys = set()
    for _ in range(200):
        handle = keep(store, b"same")
        header = _Header(handle.envelope[:HEADER])
        context = _context(header, handle.locator, handle.digest, handle.size_bytes)
        keys.add(keyring.unwrap_data_key(handle.envelope[HEADER:], context))
    assert len(keys) == 200


def test_rewrapping_moves_a_blob_to_the_current_key_and_leaves_its_body(
    store: EncryptedStore, keyring: Keyring, root: Path
) -> None:
    handle = keep(store, BODY)
    stored = path_of(root, handle).read_bytes()
    assert store.rewrap(handle) is handle
    keyring.add(keyring.new_key())
    moved = store.rewrap(handle)
    assert keyring.key_id_of(moved.envelope[HEADER:]) == keyring.current_id()
    assert replace(moved, envelope=b"") == replace(handle, envelope=b"")
    assert path_of(root, handle).read_bytes() == stored
    assert b"".join(store.open(moved)) == b"".join(store.open(handle)) == BODY


def test_another_chunk_size_stays_readable(plain: FileSystemStore, keyring: Keyring) -> None:
    handles = [keep(EncryptedStore(plain, keyring, chunk_log2=log2), BODY) for log2 in (12, 16, 20)]
    reader = EncryptedStore(plain, keyring)
    assert [b"".join(reader.open(handle)) for handle in handles] == [BODY] * 3
    for log2 in (11, 21):
        with pytest.raises(ValueError):
            EncryptedStore(plain, keyring, chunk_log2=log2)


def test_a_domain_without_its_key_is_told_before_the_body_is_received(
    plain: FileSystemStore, key_file: LocalKeyFile, keyring: Keyring, store: EncryptedStore, tmp_path: Path
) -> None:
    handle = keep(store, BODY)
    other = EncryptedStore(plain, Keyring(key_file, "default"))
    with pytest.raises(KeyUnavailable):
        other.begin()
    with pytest.raises(KeyUnavailable):
        other.open(handle)
    (tmp_path / "keys" / "master.json").unlink()
    started = Keyring(key_file, "default")
    started.add(keyring._wrapped[keyring.current_id()])
    with pytest.raises(KeyUnavailable):
        EncryptedStore(plain, started).open(handle)
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    assert b"".join(store.open(handle)) == BODY  # who has the key already goes on


def test_a_blob_of_another_domain_does_not_open(
    plain: FileSystemStore, key_file: LocalKeyFile, store: EncryptedStore
) -> None:
    handle = keep(store, BODY)
    other = Keyring(key_file, "other")
    other.add(other.new_key())
    with pytest.raises(KeyUnavailable):
        EncryptedStore(plain, other).open(handle)


def test_missing_is_missing(store: EncryptedStore) -> None:
    handle = keep(store, BODY)
    store.delete(handle.locator)
    with pytest.raises(Missing):
        store.open(handle)


def test_memory_stays_the_same_however_large_the_blob(plain: FileSystemStore, keyring: Keyring) -> None:
    store = EncryptedStore(plain, keyring)
    piece = os.urandom(256 * KIB)
    tracemalloc.start()
    try:
        pending = store.begin()
        for _ in range(128):
            pending.write(piece)
        handle = pending.commit(Digest("0" * 64))
        assert sum(len(read) for read in store.open(handle)) == 32 * MIB
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * MIB


def test_what_is_read_while_it_is_written_authenticates(store: EncryptedStore, root: Path) -> None:
    pending = store.begin()
    pending.write(os.urandom(3 * MIB))
    (path,) = [path for path in root.rglob("*") if path.is_file()]
    with path.open("r+b") as file:
        file.seek(MIB + 1000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    reread = pending.reread()
    assert reread.read(ByteRange(0, 1000))
    around = range(MIB - 64 * KIB, MIB + 64 * KIB, KIB)
    with pytest.raises(Damaged):
        b"".join(reread.read(ByteRange(start, start + 1)) for start in around)
    reread.close()
    pending.abort()
