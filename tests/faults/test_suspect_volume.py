"""An input/output error makes the volume suspect: readiness says why, and nothing is written until a probe succeeds."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.app import create_app
from storage.blobs import BlobHandle, Digest
from storage.errors import NoSpace, StorageError, Transient
from storage.filesystem import FileSystemStore
from storage.volume import KEPT_SECONDS
from tests.faults.model_disk import ModelDisk
from tests.functional.api_world import World

ROOT = Path("/volume/blobs")


class FailingDisk(ModelDisk):
    """A model disk of which one call fails while ``failing`` is set; ``created`` counts files that were begun."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: str | None = None
        self.number = errno.EIO
        self.created = 0
        for call in ("create", "write", "sync", "close", "rename", "sync_directory"):
            setattr(self, call, self._guarded(call, getattr(self, call)))

    def _guarded(self, call: str, real: Callable) -> Callable:
        def guarded(*arguments: object) -> object:
            self.created += call == "create"
            if self.failing == call:
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments)

        return guarded


class Volume:
    """A store on a failing disk, with a clock to set."""

    def __init__(self) -> None:
        self.disk = FailingDisk()
        self.seconds = 1000.0
        self.store = FileSystemStore(ROOT, disk=self.disk, monotonic=lambda: self.seconds)

    def keep(self, body: bytes = b"body") -> BlobHandle:
        pending = self.store.begin()
        try:
            pending.write(body)
            return pending.commit(Digest(""))
        finally:
            pending.abort()

    def fail(self, call: str, number: int = errno.EIO) -> None:
        self.disk.failing, self.disk.number = call, number
        with pytest.raises(StorageError):
            self.keep()


@pytest.fixture
def volume() -> Volume:
    return Volume()


@pytest.mark.parametrize("call", ["create", "write", "sync", "close", "rename", "sync_directory"])
def test_a_suspect_volume_is_not_written_to_until_a_probe_succeeds(volume: Volume, call: str) -> None:
    kept = volume.keep()
    volume.fail(call)
    with pytest.raises(Transient, match="Input/output error"):
        volume.store.check()
    with pytest.raises(Transient, match="suspect"):
        volume.keep()
    before = volume.disk.created
    with pytest.raises(Transient, match="suspect"):
        volume.keep()
    assert volume.disk.created == before  # refused without trying: the last probe failed a moment ago

    volume.disk.failing = None
    assert b"".join(volume.store.open(kept)) == b"body"
    with pytest.raises(Transient):
        volume.keep()  # nobody has probed since
    volume.seconds += KEPT_SECONDS
    after = volume.keep(b"after")
    assert b"".join(volume.store.open(after)) == b"after"
    volume.store.check()


def test_the_first_write_after_the_error_decides_by_a_probe(volume: Volume) -> None:
    volume.fail("sync")
    volume.disk.failing = None
    assert b"".join(volume.store.open(volume.keep(b"healed"))) == b"healed"
    volume.store.check()


def test_readiness_probes_a_suspect_volume_and_lifts_the_suspicion(volume: Volume) -> None:
    volume.fail("write")
    volume.disk.failing = None
    with pytest.raises(Transient):
        volume.store.check()
    volume.seconds += KEPT_SECONDS
    volume.store.check()
    before = volume.disk.created
    volume.keep()
    assert volume.disk.created == before + 1  # no probe more


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EMFILE])
def test_other_errors_make_no_volume_suspect(volume: Volume, number: int) -> None:
    volume.fail("write", number)
    before = volume.disk.created
    volume.disk.failing = None
    volume.keep()
    assert volume.disk.created == before + 1
    volume.store.check()


def test_a_full_volume_is_not_ready_and_says_so_to_each_write_itself(volume: Volume) -> None:
    volume.disk.failing, volume.disk.number = "write", errno.ENOSPC
    with pytest.raises(Transient, match="No space left"):
        volume.store.check()
    with pytest.raises(NoSpace):
        volume.keep()
    volume.disk.failing = None
    volume.keep()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


def test_readyz_says_why_and_writes_to_the_disk_once_in_a_while(world: World, volume: Volume) -> None:
    services = replace(world.services, readiness=(world.db.ping, volume.store.check))
    client = create_app(world.settings, services, world.hooks).test_client()
    for _ in range(3):
        assert client.get("/readyz").status_code == 200
    assert volume.disk.created == 1
    volume.seconds += KEPT_SECONDS
    assert client.get("/readyz").status_code == 200
    assert volume.disk.created == 2  # the control: it does look again

    volume.fail("sync")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["failures"] == ["cannot commit a blob: Input/output error"]
    assert client.get("/healthz").status_code == 200
    volume.disk.failing = None
    volume.seconds += KEPT_SECONDS
    assert client.get("/readyz").status_code == 200
