"""The database goes away under load, as a crash takes it, and comes back: nothing acknowledged is lost, all heals."""

import itertools
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import requests

from tests import postgres
from tests.harness import packages, processes
from tests.harness.processes import wait_until
from tests.harness.publishing import file_url, publish
from tests.harness.server import Server

HEALED_SECONDS = 10.0
AWAY_SECONDS = 1.5

needs_postgres = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")

PIPELINE = """
pipeline:
  name: straight
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "after-*", SettleSeconds: "0"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""


class Traffic:
    """Publishers and readers in threads, and what they were answered."""

    def __init__(self, server: Server, token: str, known: tuple[str, bytes]) -> None:
        self.server = server
        self.token = token
        self.known = known
        self.numbers: Iterator[int] = itertools.count()
        self.lock = threading.Lock()
        self.acknowledged: dict[str, tuple[str, bytes]] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.texts: set[str] = set()
        self.broken: list[str] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.forever, args=(unit,)) for unit in (self.write, self.read) * 3]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def forever(self, unit) -> None:
        while not self.stopping.is_set():
            try:
                unit()
            except requests.RequestException as error:
                self.broken.append(str(error))
            self.stopping.wait(0.02)

    def note(self, what: str, answer: requests.Response) -> None:
        with self.lock:
            self.statuses[what, answer.status_code] += 1
            if answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) > 0
                self.texts.add(answer.text)

    def write(self) -> None:
        with self.lock:
            name = f"load-{next(self.numbers)}"
        wheel = packages.wheel(name, "1.0")
        answer = publish(self.server, self.token, name, wheel=wheel)
        self.note("write", answer)
        if answer.status_code == 200:
            self.acknowledged[name] = wheel

    def read(self) -> None:
        filename, body = self.known
        url = file_url(self.server, "dev", "known", filename)
        answer = requests.get(url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)
        self.note("read", answer)
        assert answer.status_code != 200 or answer.content == body

    def count(self, what: str, status: int) -> int:
        with self.lock:
            return self.statuses[what, status]


@pytest.fixture
def known() -> tuple[str, bytes]:
    return packages.wheel("known", "1.0")


@needs_postgres
def test_a_crash_of_the_database_under_load(tmp_path: Path, known: tuple[str, bytes]):
    with postgres.PostgresServer() as database, database.fresh_database() as url:
        server = Server(tmp_path / "data", environment={"ENTREPOT_DATABASE_URL": url}).start()
        try:
            token = server.token("admin")
            headers = {"Authorization": f"Bearer {token}"}
            api = f"{server.url}/api/v1"
            applied = requests.put(f"{api}/pipelines", json={"document": PIPELINE}, headers=headers, timeout=10)
            assert applied.status_code < 300, applied.text
            assert publish(server, token, "known", wheel=known).status_code == 200
            with Traffic(server, token, known) as traffic:
                crash(server, database, traffic)
            assert traffic.broken == []
            assert {status for _, status in traffic.statuses} == {200, 503}, traffic.statuses
            assert traffic.texts == {"the database is not available; try again shortly\n"}
            for name, (filename, body) in traffic.acknowledged.items():
                found = requests.get(file_url(server, "dev", name, filename), headers=headers, timeout=20)
                assert found.content == body, name

            wheel = packages.wheel("after-all", "1.0")
            assert publish(server, token, "after-all", wheel=wheel).status_code == 200
            promoted = file_url(server, "prod", "after-all", wheel[0])
            wait_until(lambda: requests.get(promoted, headers=headers, timeout=20).status_code == 200)
            assert server.stop() == 0
            assert server.fsck() == ""
        finally:
            server.kill()


def crash(server: Server, database: postgres.PostgresServer, traffic: Traffic) -> None:
    """Take the database away while both kinds of traffic flow, and wait until both flow again."""
    for what in ("write", "read"):
        wait_until(lambda w=what: traffic.count(w, 200) > 10)
    database.stop_immediate()
    for what in ("write", "read"):
        wait_until(lambda w=what: traffic.count(w, 503) > 10)
    assert requests.get(f"{server.url}/healthz", timeout=20).status_code == 200
    assert requests.get(f"{server.url}/readyz", timeout=20).status_code == 503
    time.sleep(AWAY_SECONDS)  # the pool's and the worker's own attempts fail meanwhile as well
    database.start()
    back_at = time.monotonic()
    for what in ("write", "read"):
        before = traffic.count(what, 200)
        wait_until(lambda w=what, b=before: traffic.count(w, 200) > b + 5)
    assert requests.get(f"{server.url}/readyz", timeout=20).status_code == 200
    assert time.monotonic() - back_at < HEALED_SECONDS
    failed = traffic.count("write", 503), traffic.count("read", 503)
    for what in ("write", "read"):
        before = traffic.count(what, 200)
        wait_until(lambda w=what, b=before: traffic.count(w, 200) > b + 20)
    assert (traffic.count("write", 503), traffic.count("read", 503)) == failed


@needs_postgres
def test_a_server_that_lost_processes_while_the_database_was_away_comes_back(tmp_path: Path, known: tuple[str, bytes]):
    """What dies meanwhile cannot start; it must not take the rest with it, nor stay away."""
    with postgres.PostgresServer() as database, database.fresh_database() as url:
        server = Server(tmp_path / "data", with_worker=False, environment={"ENTREPOT_DATABASE_URL": url}).start()
        try:
            token = server.token("admin")
            assert publish(server, token, "known", wheel=known).status_code == 200
            assert server.process is not None
            (victim, _) = processes.descendants(processes.child(server.process.pid, "gunicorn"))
            database.stop_immediate()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not processes.is_alive(victim))
            time.sleep(AWAY_SECONDS)
            database.start()

            def is_back() -> bool:
                try:
                    return publish(server, token, "back").status_code == 200
                except requests.ConnectionError:
                    return False

            wait_until(is_back)
            assert server.process.poll() is None
            assert server.stop() == 0
            assert server.fsck() == ""
        finally:
            server.kill()


def test_a_locked_database_is_told_and_heals(registry_server: Server, known: tuple[str, bytes]):
    """SQLite, held by somebody's backup program for longer than the server waits."""
    server = registry_server
    token = server.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert publish(server, token, "known", wheel=known).status_code == 200
    with sqlite3.connect(server.data / "entrepot.db", isolation_level=None) as holder:
        holder.execute("begin immediate")
        read = requests.get(file_url(server, "dev", "known", known[0]), headers=headers, timeout=60)
        assert (read.status_code, read.content) == (200, known[1])
        refused = publish(server, token, "later")
        assert refused.status_code == 503, refused.text
        assert refused.text == "the database is not available; try again shortly\n"
        holder.execute("rollback")
    assert publish(server, token, "later").status_code == 200
    assert server.stop() == 0
    assert server.fsck() == ""
