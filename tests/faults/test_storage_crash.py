"""What is left after power loss, a killed writer and a full disk.

A kill does not test power loss: the page cache survives the process. So the file system store is also run on a model
of a disk, and before every system call each state is looked at that a power loss then may leave.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from storage.blobs import BlobHandle, Digest, Locator
from storage.encrypted import EncryptedStore
from storage.errors import StorageError
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring
from storage.sweep import sweep
from tests.faults.model_disk import PAGE, File, ModelDisk

ROOT = Path("/volume/blobs")
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
REPOSITORY = Path(__file__).parents[2]


class NoSync(ModelDisk):
    """Says that a file is synced, and does nothing."""

    def sync(self, descriptor: int) -> None:
        self.watch()


class NoDirectorySync(ModelDisk):
    """Says that the directory of a body is synced, and does nothing."""

    def sync_directory(self, path: Path) -> None:
        self.watch()
        if path.parent.parent != ROOT:
            self._directory(path).sync()


class NoParentSync(ModelDisk):
    """Says that the directories above are synced, and does nothing."""

    def sync_directory(self, path: Path) -> None:
        self.watch()
        if path.parent.parent == ROOT:
            self._directory(path).sync()


class LateSync(ModelDisk):
    """Syncs a file only after it has its final name."""

    def __init__(self) -> None:
        super().__init__()
        self._late: list[File] = []

    def sync(self, descriptor: int) -> None:
        self.watch()
        self._late.append(self._open[descriptor])

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if path.parent.parent == ROOT:
            for file in self._late:
                file.synced_bytes = len(file.content)


class Lost(AssertionError):
    """A promise was broken by a power loss."""


class PowerLosses:
    """Runs operations on a model disk and looks at every state that a power loss during them may leave."""

    def __init__(self, disk: ModelDisk) -> None:
        self.disk = disk
        self.states = 0
        self.bodies: dict[Locator, bytes] = {}
        self.acknowledged: dict[Locator, BlobHandle] = {}
        disk.watch = self.look
        self.store = FileSystemStore(ROOT, disk=disk, clock=lambda: NOON)

    def keep(self, body: bytes, writes: int) -> BlobHandle:
        pending = self.store.begin()
        self.bodies[pending.locator] = body
        step = -(-len(body) // writes) or 1
        for start in range(0, len(body), step):
            pending.write(body[start : start + step])
        handle = pending.commit(Digest(""))
        self.acknowledged[handle.locator] = handle
        self.look()
        return handle

    def delete(self, handle: BlobHandle) -> None:
        del self.acknowledged[handle.locator]
        self.store.delete(handle.locator)
        self.look()

    def look(self) -> None:
        for state in self.disk.states_after_power_loss():
            self.states += 1
            self._check(FileSystemStore(ROOT, disk=state, clock=lambda: NOON + timedelta(days=2)), state)

    def _check(self, found: FileSystemStore, state: ModelDisk) -> None:
        for handle in self.acknowledged.values():
            try:
                body = b"".join(found.open(handle))
            except StorageError as error:
                raise Lost(f"an acknowledged blob: {error}") from error
            if body != self.bodies[handle.locator]:
                raise Lost("bytes of an acknowledged blob")
        for info in found.iterate():
            body = self.bodies[info.locator]
            if b"".join(found.open(BlobHandle(info.locator, Digest(""), info.stored_bytes))) != body:
                raise Lost("a body is under its final name and not whole")
        sweep(found, lambda batch: self.acknowledged.keys() & set(batch), older_than=NOON + timedelta(days=1))
        assert {info.locator for info in found.iterate()} == self.acknowledged.keys()
        assert state.names(ROOT / "tmp") == []
        found.probe()


def body_of(size_bytes: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size_bytes)


def test_no_power_loss_takes_an_acknowledged_blob() -> None:
    losses = PowerLosses(ModelDisk())
    first = losses.keep(body_of(600), writes=1)
    before = losses.states
    losses.keep(body_of(7 * PAGE + 100, seed=2), writes=3)
    assert losses.states - before >= 5000
    losses.delete(first)
    losses.keep(b"", writes=1)
    assert len(losses.acknowledged) == 2


def test_no_power_loss_shows_what_was_aborted() -> None:
    losses = PowerLosses(ModelDisk())
    pending = losses.store.begin()
    losses.bodies[pending.locator] = b"never"
    pending.write(body_of(3 * PAGE))
    pending.abort()
    losses.look()
    assert losses.states > 50


@pytest.mark.parametrize(
    ("disk", "loss"),
    [
        (NoSync, "not whole|bytes of an acknowledged"),
        (LateSync, "not whole"),
        (NoDirectorySync, "acknowledged blob"),
        (NoParentSync, "acknowledged blob"),
    ],
)
def test_negative_control_without_a_sync_a_loss_is_found(disk: type[ModelDisk], loss: str) -> None:
    with pytest.raises(Lost, match=loss):
        PowerLosses(disk()).keep(body_of(2 * PAGE), writes=1)


WRITER = """
import io, json, sys
from hashlib import sha256
from pathlib import Path
from random import Random
from storage.encrypted import EncryptedStore
from storage.filesystem import FileSystemStore
from storage.intake import receive
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring, WrappedKey

directory = Path(sys.argv[1])
keyring = Keyring(LocalKeyFile(directory / "master.json"), "default")
keyring.add(WrappedKey(sys.argv[2], bytes.fromhex(sys.argv[3])))
store = EncryptedStore(FileSystemStore(directory / "blobs"), keyring, chunk_log2=12)
number = 0
while True:
    handle = receive(io.BytesIO(Random(number).randbytes(number * 7919 % 60_000)), store, limit_bytes=10**6).handle
    print(json.dumps([number, handle.locator, handle.digest, handle.size_bytes, handle.envelope.hex()]), flush=True)
    number += 1
"""


@pytest.mark.parametrize("acknowledged", [1, 2, 5, 17, 40])
def test_what_a_killed_writer_had_acknowledged_is_there(tmp_path: Path, acknowledged: int) -> None:
    keyring = Keyring(LocalKeyFile.create(tmp_path / "master.json"), "default")
    key = keyring.new_key()
    keyring.add(key)
    command = [sys.executable, "-c", WRITER, str(tmp_path), key.id, key.wrapped.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, env=environment()) as writer:
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
    handles = {}
    for number, locator, digest, size_bytes, envelope in map(
        json.loads, (line for line in lines if line.endswith(b"\n"))
    ):
        handles[number] = BlobHandle(Locator(locator), Digest(digest), size_bytes, bytes.fromhex(envelope))
    assert len(handles) >= acknowledged

    store = EncryptedStore(FileSystemStore(tmp_path / "blobs"), keyring)
    for number, handle in handles.items():
        assert b"".join(store.open(handle)) == Random(number).randbytes(number * 7919 % 60_000)
    rows = {handle.locator for handle in handles.values()}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    report = sweep(store, lambda batch: rows & set(batch), older_than=tomorrow)
    assert report.deleted + report.unfinished <= 1
    assert {info.locator for info in store.iterate()} == rows
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


FILLER = """
import io, json, os, sys
from pathlib import Path
from storage.blobs import Digest
from storage.encrypted import EncryptedStore
from storage.errors import NoSpace
from storage.filesystem import FileSystemStore
from storage.intake import receive
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring

volume, ballast_bytes = Path(sys.argv[1]), int(sys.argv[2])
keyring = Keyring(LocalKeyFile.create(volume / "master.json"), "default")
keyring.add(keyring.new_key())
store = EncryptedStore(FileSystemStore(volume / "blobs"), keyring)
first = receive(io.BytesIO(b"first" * 1000), store, limit_bytes=10**9).handle
(volume / "ballast").write_bytes(bytes(ballast_bytes))
free_bytes = os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize
refused = 0
for size_bytes in (free_bytes + 1, free_bytes * 2, 64 << 20):
    try:
        receive(io.BytesIO(bytes(size_bytes)), store, limit_bytes=10**9)
    except NoSpace:
        refused += 1
fill = open(volume / "fill", "wb", buffering=0)
try:
    while True:
        fill.write(bytes(4096))
except OSError:
    pass
for size_bytes in (0, 1, 5000):  # not a byte is free: the header, or a directory, is refused
    try:
        receive(io.BytesIO(bytes(size_bytes)), store, limit_bytes=10**9)
    except NoSpace:
        refused += 1
left = [str(path) for path in (volume / "blobs").rglob("*") if path.is_file()]
readable = b"".join(store.open(first)) == b"first" * 1000
fill.close()
(volume / "fill").unlink()
(volume / "ballast").unlink()
healed = receive(io.BytesIO(bytes(1 << 20)), store, limit_bytes=10**9).handle
whole = b"".join(store.open(healed)) == bytes(1 << 20)
print(json.dumps({"refused": refused, "left": len(left), "readable": readable, "whole": whole}))
"""

READ_ONLY = """
import sys
from pathlib import Path
from storage.errors import Permanent
from storage.filesystem import FileSystemStore
from storage.blobs import BlobHandle, Digest, Locator

store = FileSystemStore(Path(sys.argv[1]))
assert b"".join(store.open(BlobHandle(Locator(sys.argv[2]), Digest(""), 4))) == b"body"
for refused in (store.begin, store.probe, lambda: store.delete(Locator(sys.argv[2]))):
    try:
        refused()
    except Permanent as error:
        print(error)
"""

needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bwrap is not installed: no small volume to fill"
)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}


def in_sandbox(arguments: list[str], program: str, *program_arguments: str) -> str:
    command = ["bwrap", "--dev-bind", "/", "/", "--die-with-parent", *arguments, sys.executable, "-c", program]
    finished = subprocess.run(
        [*command, *program_arguments], capture_output=True, text=True, cwd=REPOSITORY, env=environment(), check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@needs_bwrap
@pytest.mark.parametrize("ballast_bytes", [0, 1_000_000, 3_500_001, 4_100_000])
def test_a_full_disk_refuses_loses_nothing_and_heals(tmp_path: Path, ballast_bytes: int) -> None:
    volume = ["--size", str(6 << 20), "--tmpfs", str(tmp_path)]
    answer = json.loads(in_sandbox(volume, FILLER, str(tmp_path), str(ballast_bytes)))
    assert answer == {"refused": 6, "left": 1, "readable": True, "whole": True}


@needs_bwrap
def test_a_volume_that_became_read_only_still_reads(tmp_path: Path) -> None:
    store = FileSystemStore(tmp_path)
    pending = store.begin()
    pending.write(b"body")
    handle = pending.commit(Digest(""))
    printed = in_sandbox(["--ro-bind", str(tmp_path), str(tmp_path)], READ_ONLY, str(tmp_path), handle.locator)
    assert printed.splitlines() == [
        "cannot begin a blob: Read-only file system",
        "cannot begin a blob: Read-only file system",
        f"cannot delete blob {handle.locator}: Read-only file system",
    ]
