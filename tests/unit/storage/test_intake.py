import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.disk import Disk
from storage.encrypted import EncryptedStore
from storage.errors import BodyRejected, BodyTooLarge, BodyTooShort, DigestMismatch, NoSpace
from storage.filesystem import FileSystemStore
from storage.intake import ALGORITHMS, Intake, receive

BODY = os.urandom(600_000)
DIGESTS = {
    "sha256": hashlib.sha256(BODY).hexdigest(),
    "sha512": hashlib.sha512(BODY).hexdigest(),
    "sha1": hashlib.sha1(BODY).hexdigest(),
    "md5": hashlib.md5(BODY).hexdigest(),
    "blake2b_256": hashlib.blake2b(BODY, digest_size=32).hexdigest(),
}


def nothing_kept(store: BlobStore, root: Path) -> bool:
    return list(store.iterate()) == [] and not any(path.is_file() for path in root.rglob("*"))


def test_one_pass_counts_hashes_and_keeps(store: EncryptedStore) -> None:
    received = receive(
        io.BytesIO(BODY),
        store,
        limit_bytes=len(BODY),
        declared_bytes=len(BODY),
        expected=DIGESTS,
        algorithms=ALGORITHMS,
    )
    assert received.digests == DIGESTS
    assert received.handle.digest == DIGESTS["sha256"]
    assert received.handle.size_bytes == len(BODY)
    assert b"".join(store.open(received.handle)) == BODY


def test_only_what_was_asked_for_is_computed(store: EncryptedStore) -> None:
    assert set(receive(io.BytesIO(BODY), store, limit_bytes=10**6).digests) == {"sha256"}
    asked = receive(io.BytesIO(BODY), store, limit_bytes=10**6, algorithms=["md5"], expected={"sha1": DIGESTS["sha1"]})
    assert asked.digests == {name: DIGESTS[name] for name in ("sha256", "md5", "sha1")}
    with pytest.raises(ValueError, match="crc32"):
        Intake(store, 10, algorithms=["crc32"])


def test_an_empty_body_is_a_body(store: EncryptedStore) -> None:
    received = receive(io.BytesIO(b""), store, limit_bytes=0, declared_bytes=0)
    assert received.handle.digest == hashlib.sha256(b"").hexdigest()
    assert b"".join(store.open(received.handle)) == b""


def test_a_promise_in_capitals_is_the_same_promise(store: EncryptedStore) -> None:
    receive(io.BytesIO(BODY), store, limit_bytes=10**6, expected={"sha256": f" {DIGESTS['sha256'].upper()}\n"})


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_another_digest_than_promised(store: EncryptedStore, root: Path, algorithm: str) -> None:
    promised = "0" * len(DIGESTS[algorithm])
    with pytest.raises(DigestMismatch) as caught:
        receive(io.BytesIO(BODY), store, limit_bytes=10**6, expected={**DIGESTS, algorithm: promised})
    assert (caught.value.algorithm, caught.value.promised, caught.value.computed) == (
        algorithm,
        promised,
        DIGESTS[algorithm],
    )
    assert nothing_kept(store, root)


def test_a_body_that_ends_early(store: EncryptedStore, root: Path) -> None:
    with pytest.raises(BodyTooShort) as caught:
        receive(io.BytesIO(BODY), store, limit_bytes=10**6, declared_bytes=len(BODY) + 1)
    assert (caught.value.declared_bytes, caught.value.received_bytes) == (len(BODY) + 1, len(BODY))
    assert nothing_kept(store, root)


def test_a_body_that_goes_on(store: EncryptedStore, root: Path) -> None:
    with pytest.raises(BodyRejected, match="longer"):
        receive(io.BytesIO(BODY), store, limit_bytes=10**6, declared_bytes=len(BODY) - 1)
    assert nothing_kept(store, root)


class Endless:
    """A stream without end, which counts what was taken."""

    def __init__(self) -> None:
        self.taken_bytes = 0

    def read(self, size: int, /) -> bytes:
        self.taken_bytes += size
        return bytes(size)


def test_a_body_that_is_too_large_is_not_read_to_its_end(store: EncryptedStore, root: Path) -> None:
    stream = Endless()
    with pytest.raises(BodyTooLarge) as caught:
        receive(stream, store, limit_bytes=1_000_000)
    assert caught.value.limit_bytes == 1_000_000
    assert stream.taken_bytes < 1_400_000
    assert nothing_kept(store, root)


def test_a_declared_length_over_the_limit_is_refused_unread(store: EncryptedStore) -> None:
    stream = Endless()
    with pytest.raises(BodyTooLarge):
        receive(stream, store, limit_bytes=100, declared_bytes=101)
    assert stream.taken_bytes == 0


def test_the_limit_itself_is_let_in(store: EncryptedStore) -> None:
    intake = Intake(store, 10)
    assert intake.write(b"01234") == 5
    assert intake.write(b"56789") == 5
    assert intake.write(b"") == 0
    assert intake.size_bytes == 10
    assert b"".join(store.open(intake.finish().handle)) == b"0123456789"


class BrokenStream(io.BytesIO):
    """A connection that breaks after some bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise ConnectionResetError
        return data


def test_a_stream_that_breaks_keeps_nothing(store: EncryptedStore, root: Path) -> None:
    with pytest.raises(ConnectionResetError):
        receive(BrokenStream(BODY), store, limit_bytes=10**6)
    assert nothing_kept(store, root)


def test_digests_before_the_commit(store: EncryptedStore, root: Path) -> None:
    with Intake(store, 10**6, algorithms=["md5"]) as intake:
        intake.write(BODY[:1000])
        assert intake.digests()["md5"] == hashlib.md5(BODY[:1000]).hexdigest()
        intake.write(BODY[1000:])
        assert intake.check({"sha256": DIGESTS["sha256"]}, len(BODY)) == {
            "md5": DIGESTS["md5"],
            "sha256": DIGESTS["sha256"],
        }
    assert nothing_kept(store, root)


def test_a_promise_that_was_not_computed_is_an_error_of_the_caller(store: EncryptedStore, root: Path) -> None:
    intake = Intake(store, 10)
    with pytest.raises(ValueError, match="md5"):
        intake.finish({"md5": "0" * 32})
    assert nothing_kept(store, root)


def test_leaving_the_block_after_finish_keeps_the_body(store: EncryptedStore) -> None:
    with Intake(store, 10) as intake:
        intake.write(b"body")
        received = intake.finish()
    assert b"".join(store.open(received.handle)) == b"body"


class FullDisk(Disk):
    """Takes nothing more."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        raise OSError(errno.ENOSPC, "full")


def test_a_store_that_fails_while_it_is_written(root: Path) -> None:
    store = FileSystemStore(root, disk=FullDisk())
    with pytest.raises(NoSpace):
        receive(io.BytesIO(BODY), store, limit_bytes=10**6)
    assert nothing_kept(store, root)
