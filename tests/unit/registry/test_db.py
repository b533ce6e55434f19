"""How SQLite is opened: durable in either journal mode, and without WAL where WAL is not safe."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.db import Database, sqlite_journal_mode
from tests.build_bench import eventually
from tests.harness.statements import product_connections

EXTRA = 3


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_commit_is_synced_with_the_directory_of_its_journal(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.db._configure_sqlite", product_connections)
    db = Database(f"sqlite:///{tmp_path / 'x.db'}", journal_mode=mode)
    try:
        with db.write() as session:
            found = [session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
        assert found == [mode.lower(), EXTRA]
    finally:
        db.close()


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 40, 1), "DELETE"),
        ((3, 44, 5), "DELETE"),
        ((3, 44, 6), "WAL"),
        ((3, 45, 0), "DELETE"),
        ((3, 50, 6), "DELETE"),
        ((3, 50, 7), "WAL"),
        ((3, 51, 2), "DELETE"),
        ((3, 51, 3), "WAL"),
        ((4, 0, 0), "WAL"),
    ],
)
def test_wal_only_without_its_fault(version: tuple[int, int, int], mode: str) -> None:
    assert sqlite_journal_mode(version) == mode


def test_a_read_within_a_read_does_not_wait_for_the_writer_that_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    db = Database(f"sqlite:///{file}", journal_mode="DELETE")
    with db.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    count = text("SELECT count(*) FROM t")

    def write() -> None:
        with db.write() as session:
            session.execute(text("INSERT INTO t VALUES (1)"))

    def nobody_else_may_begin() -> bool:
        try:
            stranger = sqlite3.connect(file, timeout=0)
            stranger.execute("SELECT count(*) FROM t")
        except sqlite3.OperationalError:
            return True
        finally:
            stranger.close()
        return False

    writer = threading.Thread(target=write)
    try:
        with db.read() as session:
            assert session.scalar(count) == 0
            writer.start()
            eventually(nobody_else_may_begin)  # it commits
            with db.read_aside() as aside:
                assert aside.scalar(count) == 0
            assert session.scalar(count) == 0  # the same snapshot still
        writer.join()
        with db.read_aside() as session:
            assert session.scalar(count) == 1
    finally:
        db.close()
