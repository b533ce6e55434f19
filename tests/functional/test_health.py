"""``entrepot health``: what runs here, asked where it really is."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from config import data_lock, wiring
from config.cli.health import Finding, findings
from config.settings import Settings, load
from hooks.jobs import processes
from registry.db import Database
from tests.harness.processes import wait_until
from tests.harness.server import Server, free_port


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[tuple[Settings, Database]]:
    """A data directory on which nothing runs."""
    server = Server(tmp_path / "data")
    done = server.command("migrate", "--data", str(server.data))
    assert done.returncode == 0, done.stderr
    settings = load(server.data, {})
    db = wiring.database(settings)
    yield settings, db
    db.close()


def see(db: Database, worker_id: str) -> None:
    with db.write() as session:
        processes.see(session, worker_id, name="here default", slots=1, queues=["default"], is_draining=False)


def parts(found: Iterator[Finding]) -> dict[str, bool]:
    return {part: ok for part, ok, _ in found}


def test_a_whole_server_is_well_until_it_is_gone(tmp_path: Path):
    server = Server(tmp_path / "data")
    command = ("health", "--data", str(server.data), "--json")
    assert server.command(*command).returncode == 1, "nothing was ever there"
    try:
        server.start()
        # Its port is known from the server, not from the settings; its worker comes a moment later.
        found = wait_until(lambda: (told := json.loads(server.command(*command).stdout)) and len(told) == 2 and told)
        assert {(each["part"], each["ok"]) for each in found} == {("web", True), ("worker", True)}
        assert server.command(*command).returncode == 0
        assert server.stop() == 0
    finally:
        server.kill()
    done = server.command("health", "--data", str(server.data))
    assert (done.returncode, done.stdout) == (1, "worker\tfailed\tneither a server nor a worker runs here\n")


def test_a_server_that_does_not_answer(migrated: tuple[Settings, Database]):
    settings, _ = migrated
    with data_lock.lock(settings.data, f"0.0.0.0:{free_port()}"):
        assert parts(findings(settings)) == {"web": False}
    assert parts(findings(settings)) == {"worker": False}, "its lock went with it"


def test_a_worker_alone(migrated: tuple[Settings, Database]):
    settings, db = migrated
    see(db, "a")
    assert parts(findings(settings)) == {"worker": True}
    with db.write() as session:
        session.execute(text("update worker_process set seen_at = seen_at - 1000"))
    assert parts(findings(settings)) == {"worker": False}
    see(db, "b")
    assert parts(findings(settings)) == {"worker": True}, "one that was killed and came back under another name"
    with db.write() as session:
        session.execute(text("update worker_process set host = 'elsewhere'"))
    assert parts(findings(settings)) == {"worker": False}, "another machine's worker is no sign of ours"


def test_a_server_in_another_container_is_not_asked_here(
    migrated: tuple[Settings, Database], monkeypatch: pytest.MonkeyPatch
):
    settings, db = migrated
    own = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "other")
    held = data_lock.lock(settings.data, f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(socket, "gethostname", lambda: own)
    see(db, "a")
    assert parts(findings(settings)) == {"worker": True}
    held.close()


def test_a_database_that_is_no_database(migrated: tuple[Settings, Database]):
    settings, db = migrated
    db.close()
    (settings.data / "entrepot.db").write_bytes(b"no database at all" * 100)
    assert parts(findings(settings)) == {"worker": False}
