"""What ``read`` and ``write`` promise on each database."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.db import Database
from tests import postgres

NEEDS_POSTGRES = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with ExitStack() as ending:
        url = f"sqlite:///{tmp_path}/x.db"
        if request.param == "postgresql":
            url = ending.enter_context(postgres.shared().fresh_database())
        # In WAL mode readers do not keep a writer waiting.
        made = Database(url, journal_mode="WAL")
        ending.callback(made.close)
        with made.write() as session:
            session.execute(text("CREATE TABLE counted (number INTEGER)"))
            session.execute(text("INSERT INTO counted VALUES (1)"))
        yield made


def test_a_read_sees_one_state_of_things_whatever_is_committed_meanwhile(db: Database) -> None:
    number = text("SELECT number FROM counted")
    with db.read() as reading:
        before = reading.scalar(number)
        with db.write() as writing:
            writing.execute(text("UPDATE counted SET number = 2"))
        assert (before, reading.scalar(number)) == (1, 1)
    with db.read() as reading:
        assert reading.scalar(number) == 2


@NEEDS_POSTGRES
def test_a_write_after_a_read_on_the_same_connection_sees_what_is_committed() -> None:
    # What the read was given must not stay with the connection: a publish decides about what is there now.
    number = text("SELECT count(*) FROM counted")
    with postgres.shared().fresh_database() as url:
        db, other = Database(url, pool_size=1), Database(url)
        try:
            with db.write() as writing:
                writing.execute(text("CREATE TABLE counted (number INTEGER)"))
            with db.read() as reading:
                assert reading.scalar(number) == 0
            with db.write() as writing:
                assert writing.scalar(number) == 0
                with other.write() as elsewhere:
                    elsewhere.execute(text("INSERT INTO counted VALUES (1)"))
                assert writing.scalar(number) == 1
        finally:
            db.close()
            other.close()


def test_writers_of_one_process_take_turns_on_sqlite(tmp_path: Path) -> None:
    """Who waits for a turn holds no connection: more writers than the pool has may wait, and all of them write."""
    db = Database(f"sqlite:///{tmp_path / 'x.db'}", pool_size=2)
    with db.write() as session:
        session.execute(text("CREATE TABLE t (n INTEGER)"))

    def write(number: int) -> None:
        with db.write() as session:
            session.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})

    with db.write() as session:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(20)]
        for writer in writers:
            writer.start()
        session.execute(text("INSERT INTO t VALUES (99)"))
        time.sleep(0.2)  # long enough for those who would not wait
        assert db.engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    for writer in writers:
        writer.join()
    with db.read() as session:
        assert sorted(session.scalars(text("SELECT n FROM t"))) == [*range(20), 99]
    db.close()
