"""How SQLite is opened: durable in either journal mode, and without WAL where WAL is not safe."""

from pathlib import Path

import pytest
from sqlalchemy import text

from registry.db import Database, sqlite_journal_mode

EXTRA = 3


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_commit_is_synced_with_the_directory_of_its_journal(tmp_path: Path, mode: str) -> None:
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
