import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.blobs import BlobHandle, BlobStore, ByteRange, Digest, Pieces
from storage.encrypted import EncryptedStore
from storage.errors import Damaged, Missing
from storage.paths import Layout
from storage.reader import BlobFile, open_file

BODY = os.urandom(200_001)


def keep(store: BlobStore, body: bytes) -> BlobHandle:
    pending = store.begin()
    pending.write(body)
    return pending.commit(Digest("0" * 64))


def test_it_reads_as_a_file_does(store: EncryptedStore) -> None:
    with open_file(store, keep(store, BODY)) as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(10) == BODY[:10]
        assert file.tell() == 10
        assert file.seek(-5, os.SEEK_END) == len(BODY) - 5
        assert file.read() == BODY[-5:]
        assert file.read() == b""
        assert file.seek(100_000) == 100_000
        assert file.seek(7, os.SEEK_CUR) == 100_007
        assert file.read(9) == BODY[100_007:100_016]
        file.seek(0)
        assert file.read() == BODY
        file.seek(10**9)
        assert file.read(1) == b""
    assert file.closed
    with pytest.raises(ValueError):
        file.read(1)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, len(BODY) + 10), st.lists(st.integers(0, 70_000), max_size=4)), min_size=1, max_size=8
    )
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_jumps_and_reads_give_what_a_file_gives(store: EncryptedStore, steps: list) -> None:
    handle = keep(store, BODY)
    for opened in (open_file(store, handle), BlobFile(store, handle)):
        reference = io.BytesIO(BODY)
        for offset, lengths in steps:
            opened.seek(offset)
            reference.seek(offset)
            for length in lengths:
                got = opened.read(length)
                if isinstance(opened, BlobFile):  # may give fewer, never none before the end
                    assert bool(got) == bool(length and offset < len(BODY) and reference.tell() < len(BODY))
                    assert got == reference.read(len(got))
                else:
                    assert got == reference.read(length)
                assert opened.tell() == reference.tell()
        opened.close()


def test_impossible_positions_are_refused(store: EncryptedStore) -> None:
    file = BlobFile(store, keep(store, BODY))
    with pytest.raises(ValueError):
        file.seek(-1)
    with pytest.raises(ValueError):
        file.seek(-len(BODY) - 1, os.SEEK_END)
    with pytest.raises(ValueError):
        file.seek(0, 9)
    with open_file(store, keep(store, BODY)) as buffered, pytest.raises(io.UnsupportedOperation):
        buffered.write(b"x")


def test_an_empty_blob_is_an_empty_file(store: EncryptedStore) -> None:
    with open_file(store, keep(store, b"")) as file:
        assert file.read() == b""
        assert file.seek(0, os.SEEK_END) == 0


def test_archives_are_read_where_they_are(store: EncryptedStore) -> None:
    members = {f"directory/file-{n}": random.Random(n).randbytes(n * 3001) for n in range(40)}
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    with open_file(store, keep(store, zipped.getvalue())) as file, zipfile.ZipFile(file) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == members
    with open_file(store, keep(store, tarred.getvalue())) as file, tarfile.open(fileobj=file) as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive} == members


class CountingStore:
    """Notes the ranges that are asked of a store."""

    def __init__(self, inner: BlobStore) -> None:
        self._inner = inner
        self.parts: list[ByteRange] = []

    def open(self, handle: BlobHandle, part: ByteRange) -> Pieces:
        self.parts.append(part)
        return self._inner.open(handle, part)


def test_the_directory_of_an_archive_costs_a_few_short_reads(store: EncryptedStore) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("large", os.urandom(3_000_000))
        archive.writestr("small", b"text")
    handle = keep(store, zipped.getvalue())
    counting = CountingStore(store)
    with open_file(counting, handle) as file, zipfile.ZipFile(file) as archive:
        assert archive.read("small") == b"text"
    assert sum(part.length for part in counting.parts) < 300_000
    counting.parts.clear()
    with open_file(counting, handle) as file:
        while file.read(50_000):
            pass
    assert len(counting.parts) == 2  # a look, then one read to the end


def test_errors_of_the_store_are_not_taken_for_a_bad_archive(store: EncryptedStore, root: Path) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a", b"text")
    handle = keep(store, zipped.getvalue())
    path = Layout(root).body(handle.locator)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with open_file(store, handle) as file, pytest.raises(Damaged):
        zipfile.ZipFile(file)
    store.delete(handle.locator)
    with open_file(store, handle) as file, pytest.raises(Missing):
        zipfile.ZipFile(file)
