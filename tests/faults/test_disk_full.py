"""A server whose disk is full, or whose database cannot be written: it says so, keeps serving, loses nothing, heals."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.processes import wait_until
from tests.harness.publishing import file_url, publish
from tests.harness.server import Server, free_port

VOLUME_BYTES = 24 * 1024 * 1024
PAGE_BYTES = 4096
WHEEL_BYTES = 300_000
# Below each of these another write is the one that fails: the upload's first byte, its last, the database's journal,
# its pages.
FREE_PAGES = (0, 1, 2, 3, 8, 40, 70, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 86, 90, 100)
SENTENCES = {
    507: ("No space left on device",),
    503: ("the database is not available; try again shortly", "No space left on device"),
}

PIPELINE = """
pipeline:
  name: straight
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""


def run_or_skip(*command: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command)} is not possible here: {done.stderr.strip()}")


class Volume:
    """A small file system that can be filled to the page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def leave(self, free_bytes: int) -> None:
        """Fill it until only ``free_bytes`` are left."""
        self.release()
        for _ in range(20):  # the server may write something itself between the two calls
            with self.ballast.open("wb") as file, contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, self.free_bytes() - free_bytes)
                return
        raise AssertionError("the volume could not be filled")

    def release(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    run_or_skip("mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES},mode=0700", "tmpfs", str(path))
    try:
        yield Volume(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small_server(volume: Volume) -> Iterator[Server]:
    server = Server(volume.path).start()
    yield server
    server.kill()


def random_wheel(name: str, size_bytes: int = WHEEL_BYTES) -> tuple[str, bytes]:
    return packages.wheel(name, "1.0", files={f"{name.replace('-', '_')}/data.bin": os.urandom(size_bytes)})


def unfinished(volume: Volume) -> list[Path]:
    return list((volume.path / "blobs" / "tmp").iterdir())


def is_listed(server: Server, token: str, name: str) -> bool:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.pypi.simple.v1+json"}
    listed = requests.get(server.index(), headers=headers, timeout=20).json()
    return name in [project["name"] for project in listed["projects"]]


def test_a_full_disk_refuses_says_why_keeps_reading_and_heals(small_server: Server, volume: Volume, tmp_path: Path):
    server = small_server
    token = server.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    applied = requests.put(f"{server.url}/api/v1/pipelines", json={"document": PIPELINE}, headers=headers, timeout=10)
    assert applied.status_code < 300, applied.text
    kept = random_wheel("kept")
    assert publish(server, token, "kept", wheel=kept).status_code == 200
    wait_until(lambda: requests.get(file_url(server, "prod", "kept", kept[0]), headers=headers, timeout=20).ok)

    statuses = {}
    for free_pages in FREE_PAGES:
        name = f"full-{free_pages}"
        volume.leave(free_pages * PAGE_BYTES)
        answer = publish(server, token, name, wheel=random_wheel(name))
        statuses[name] = answer.status_code
        if answer.status_code != 200:
            assert answer.status_code in SENTENCES, (free_pages, answer.status_code, answer.text)
            assert any(text in answer.text for text in SENTENCES[answer.status_code]), answer.text
        assert unfinished(volume) == [], free_pages
        read = requests.get(file_url(server, "dev", "kept", kept[0]), headers=headers, timeout=20)
        assert (read.status_code, read.content) == (200, kept[1]), free_pages
        assert is_listed(server, token, name) == (answer.status_code == 200), free_pages
    assert set(statuses.values()) == {200, 503, 507}, statuses
    assert statuses["full-0"] == 507
    assert statuses[f"full-{FREE_PAGES[-1]}"] == 200

    volume.leave(0)
    clients = Clients(tmp_path / "home")
    refused = clients.twine(server.index(simple=False), token, *packages.save(tmp_path / "dist", random_wheel("told")))
    assert refused.returncode != 0
    assert "507" in refused.output
    assert "No space left on device" in refused.output

    volume.release()
    after = random_wheel("after")
    assert publish(server, token, "after", wheel=after).status_code == 200
    wait_until(lambda: requests.get(file_url(server, "prod", "after", after[0]), headers=headers, timeout=20).ok)
    assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 200
    assert "Traceback" not in server.log_text()
    assert server.stop() == 0
    assert server.fsck() == ""


def test_a_start_on_a_full_disk_is_refused_with_a_reason_and_later_works(volume: Volume):
    server = Server(volume.path, with_worker=False)
    for free_pages in (0, 1, 20, 60):
        volume.leave(free_pages * PAGE_BYTES)
        done = server.command("serve", "--data", str(server.data), "--bind", f"127.0.0.1:{free_port()}")
        assert done.returncode == 1, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("entrepot: cannot start: ")
        assert "full" in line or "No space left on device" in line, line
    volume.release()
    try:
        server.start()
        assert publish(server, server.token("admin"), "at-last").status_code == 200
    finally:
        server.kill()


def test_a_database_that_cannot_be_written_is_still_read(registry_server: Server):
    """What a file system that became read-only looks like to SQLite: no journal can be made, and so nothing written."""
    server = registry_server
    token = server.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    kept = random_wheel("kept")
    assert publish(server, token, "kept", wheel=kept).status_code == 200
    run_or_skip("chattr", "+i", str(server.data))
    try:
        read = requests.get(file_url(server, "dev", "kept", kept[0]), headers=headers, timeout=20)
        assert (read.status_code, read.content) == (200, kept[1])
        assert requests.get(f"{server.index()}kept/", headers=headers, timeout=20).status_code == 200
        for _ in range(3):
            refused = publish(server, token, "refused")
            assert refused.status_code == 503, refused.text
            assert refused.text == "the database is not available; try again shortly\n"
            assert int(refused.headers["Retry-After"]) > 0
        assert not is_listed(server, token, "refused")
    finally:
        subprocess.run(["chattr", "-i", str(server.data)], check=True)
    assert publish(server, token, "refused").status_code == 200
    assert server.stop() == 0
    assert server.fsck() == ""
