"""K3: keys rotate while eight clients publish, and the rotation, and once the server, are killed with kill -9.

Every blob is readable before, during and after; the rotation that comes to its end leaves nothing under an old key.
The short form runs in ``make test``; ``make campaign`` runs 50 points. ``ENTREPOT_SEED`` replays a run's moments.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from config import wiring
from config.settings import load
from registry.clock import system_clock
from registry.models import Domain
from registry.repos import shelf
from registry.stores import DomainStores
from storage.intake import receive
from tests.fakes.killed_rotation import BATCH
from tests.harness import packages
from tests.harness.publishing import file_url, publish
from tests.harness.server import ROOT, Server

LONG = os.environ.get("ENTREPOT_CAMPAIGN") == "long"
POINTS = 50 if LONG else 4
SEEDED = 2000 if LONG else 200
WRITERS = 8
PAUSE_SECONDS = 0.3 if LONG else 1.5
SEED = int(os.environ.get("ENTREPOT_SEED", str(random.randrange(10**6))))
BOTH_IN_USE = 0
"""The point at which the first bodies are under the new key, and others are not yet."""
# About as many times a rotation asks or tells somebody in all: once for each kind of sealed field, and for each batch.
CALLS = len(wiring.sealed_fields()) + 5 + SEEDED // BATCH


class Writers:
    """Publish small wheels for as long as they are told to, remembering what was acknowledged."""

    def __init__(self, server: Server, token: str) -> None:
        self.server, self.token = server, token
        self.lock = threading.Lock()
        self.acknowledged: dict[str, tuple[str, str]] = {}
        self.refused: list[str] = []
        self.broken_off = 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(WRITERS)]

    def start(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def _write(self, writer: int) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            name = f"w{writer}-{number}"
            filename, body = packages.wheel(
                name, "1.0", files={"data.bin": os.urandom(2000)}, description=f"About {name}"
            )
            try:
                answer = publish(self.server, self.token, name, wheel=(filename, body))
            except requests.RequestException:
                self.broken_off += 1
            else:
                with self.lock:
                    if answer.status_code == 200:
                        self.acknowledged[name] = filename, packages.sha256(body)
                    else:
                        self.refused.append(f"{name}: {answer.status_code} {answer.text}")
            self.stopping.wait(PAUSE_SECONDS)

    def unreadable(self, most: int | None = None) -> list[str]:
        """Acknowledged files (some of them, or all) that are not served as they were sent."""
        with self.lock:
            known = list(self.acknowledged.items())
        chosen = known if most is None else known[-2:] + random.sample(known, min(most, len(known)))
        bad = []
        for name, (filename, sha256) in chosen:
            answer = requests.get(
                file_url(self.server, "dev", name, filename),
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=60,
            )
            if answer.status_code != 200 or packages.sha256(answer.content) != sha256:
                bad.append(f"{name}: {answer.status_code} {answer.text[:200]}")
        return bad


def seed(data: Path, count: int) -> None:
    """Bodies that are there before the rotation, as many as make it take several transactions."""
    settings = load(data, {})
    db = wiring.database(settings)
    stores = DomainStores(db, wiring.body_store(settings), wiring.key_providers(settings))
    with db.read() as session:
        domain_id = session.query(Domain.id).scalar()
    handles = []
    for number in range(count):
        handles.append(receive(_Body(b"body %d" % number), stores.of(domain_id), limit_bytes=100).handle)
    with db.write() as session:
        for handle in handles:
            shelf.ensure_blob(session, domain_id, handle, system_clock())
    db.close()


class _Body:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self, _size: int = -1) -> bytes:
        body, self.body = self.body, b""
        return body


def listed(server: Server) -> list[dict]:
    done = server.command("keys", "list", "--data", str(server.data), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kill_at_call(server: Server, point: int) -> bool:
    """Whether a rotation was killed at that of its calls (it may have come to its end before)."""
    script = ROOT / "tests" / "fakes" / "killed_rotation.py"
    command = [sys.executable, str(script), str(server.data), str(point)]
    environment = {**server.child_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode == -9


def kill_at_moment(server: Server, seconds: float) -> bool:
    """Whether the command itself was killed, so long after it began its work."""
    command = [sys.executable, "-m", "config.cli.main", "keys", "rotate", "--data", str(server.data)]
    with subprocess.Popen(
        command, cwd=ROOT, env=server.child_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the first batch is done, or all of it
        time.sleep(seconds)
        process.kill()
        return process.wait(60) == -9


@pytest.mark.campaign
@pytest.mark.slow
def test_K3_no_blob_is_lost_when_a_rotation_under_load_is_killed(tmp_path: Path) -> None:
    print(f"ENTREPOT_SEED={SEED} points={POINTS}")
    moments = random.Random(SEED)
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        seed(server.data, SEEDED)
        writers = Writers(server, server.token("admin")).start()
        killed = 0
        for point in range(POINTS):
            if point % 3 == 2:
                killed += kill_at_moment(server, moments.uniform(0, 1.5))
            else:
                # The first is killed with old and new keys in use, wherever the others are.
                killed += kill_at_call(server, BOTH_IN_USE if point == 0 else moments.randrange(1, CALLS + 1))
            if point == 0:
                states = {key["state"] for key in listed(server) if key["domain"] == "default" and key["blobs"]}
                assert states == {"current", "retiring"}
            if point == POINTS // 2:
                server.kill()
                server.start()
            assert writers.unreadable(2) == []
        done = server.command("keys", "rotate", "--data", str(server.data))
        assert done.returncode == 0, done.stderr
        writers.stop()
        assert killed >= POINTS // 2
        assert writers.refused == []
        assert len(writers.acknowledged) > WRITERS
        assert writers.unreadable() == []
        used = {key["state"]: key["blobs"] + key["fields"] for key in listed(server) if key["blobs"] + key["fields"]}
        assert list(used) == ["current"]
        gone = server.command("keys", "destroy", "--data", str(server.data), "--retired", "--at-once")
        assert "is destroyed" in gone.stdout, gone.stderr
        assert writers.unreadable(5) == []
        assert server.stop() == 0
        assert server.fsck() == ""
        print(f"{killed} of {POINTS} killed, {len(writers.acknowledged)} published, {writers.broken_off} broken off")
    finally:
        server.kill()
