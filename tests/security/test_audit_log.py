"""L2: an audit log that was edited, reordered, cut or written anew says so, and writers at once keep it whole."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import DBAPIError, IntegrityError

from config import migrate
from registry import audit, audit_chain
from registry.audit_chain import Vouched
from registry.db import Base, Database
from registry.models import AuditEntry
from registry.repos import audit_log
from tests import postgres
from tests.harness.processes import wait_until

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
WRITERS = 8
SEED = random.randrange(10**6)


def write(db: Database, count: int, *, actor: str = "ada") -> None:
    for number in range(count):
        with db.write() as session:
            audit.record(
                session, NOW, actor, "asset.publish", f"default/dev/pypi/x/{number}", sha256="ab", number=number
            )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Database]:
    """Six entries on SQLite."""
    db = Database(f"sqlite:///{tmp_path / 'log.db'}")
    Base.metadata.create_all(db.engine)
    write(db, 6)
    yield db
    db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind, made by the migrations."""
    if request.param == "sqlite":
        yield from migrated(f"sqlite:///{tmp_path / 'entrepot.db'}")
        return
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.shared().fresh_database() as url:
        yield from migrated(url)


def migrated(url: str) -> Iterator[Database]:
    command.upgrade(migrate.alembic_config(url), "head")
    db = Database(url)
    yield db
    db.close()


def attack(db: Database, *statements: str) -> None:
    """What somebody does who has the database's file: no trigger stops them, because they take it away."""
    with sqlite3.connect(db.url.removeprefix("sqlite:///")) as connection:
        for name in ("no_update", "no_delete", "no_replace"):
            connection.execute(f"DROP TRIGGER IF EXISTS audit_entry_{name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def head(db: Database) -> Vouched:
    with db.read() as session:
        (link,) = audit_log.page(session, audit_log.Wanted(), before=None, limit=1)
    return Vouched(link.seq, link.hash, NOW)


def rewrite(db: Database, since: int, **changes: object) -> None:
    """Entry ``since`` anew, and all after it with hashes that fit: what the chain alone cannot show."""
    links = list(audit_log.export(db))
    previous = links[since - 2].hash if since > 1 else audit_chain.START
    attack(db, f"DELETE FROM audit_entry WHERE seq >= {since}")
    with db.write() as session:
        audit.append(session, [replace(links[since - 1], **changes), *links[since:]])
    assert list(audit_log.export(db))[since - 1].previous_hash == previous


# --- what the database itself refuses --------------------------------------------------------------------------------

REFUSED = (
    "UPDATE audit_entry SET actor = 'eve' WHERE seq = 2",
    "UPDATE audit_entry SET seq = 99 WHERE seq = 2",
    "DELETE FROM audit_entry WHERE seq = 2",
    "DELETE FROM audit_entry",
)


def test_L2_the_database_refuses_changes_and_removals(database: Database) -> None:
    write(database, 3)
    more = "INSERT OR REPLACE INTO audit_entry SELECT * FROM audit_entry WHERE seq = 2"
    for statement in (*REFUSED, more if database.is_sqlite else "TRUNCATE audit_entry"):
        with pytest.raises(DBAPIError, match=r"never changed or removed"), database.engine.begin() as connection:
            connection.execute(sa.text(statement))
    assert audit_log.check(database).last == 3
    if database.is_sqlite:  # negative control: without the triggers it works
        attack(database, REFUSED[0])
        assert audit_log.check(database).bad_seq == 2


def test_L2_migrations_and_models_make_the_same_triggers(database: Database, tmp_path: Path) -> None:
    if database.is_sqlite:
        made = Database(f"sqlite:///{tmp_path / 'made.db'}")
        Base.metadata.create_all(made.engine)
        statement = sa.text("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        found = []
        for db in (database, made):
            with db.read() as session:
                found.append(list(session.scalars(statement)))
        made.close()
        assert found[0] == found[1]
        assert len(found[0]) == 3
        return
    with postgres.shared().fresh_database() as url:
        made = Database(url)
        Base.metadata.create_all(made.engine)
        statement = sa.text(
            "SELECT tgname || ' ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname"
        )
        with database.read() as one, made.read() as other:
            found = [list(one.scalars(statement)), list(other.scalars(statement))]
        made.close()
    assert found[0] == found[1]
    assert len(found[0]) == 2


# --- what is found when it was done all the same ---------------------------------------------------------------------

EDITS = {
    "at": "'2026-01-01 12:00:01.000000'",
    "actor": "'eve'",
    "action": "'asset.delete'",
    "object": "'default/prod/pypi/x/2'",
    "details": """'{"number": 2, "sha256": "cd"}'""",
    "via": "'session'",
    "address": "'192.0.2.1'",
    "request_id": "'00'",
    "previous_hash": f"'{'0' * 64}'",
    "hash": f"'{'0' * 64}'",
    "seq": "99",
}


def test_L2_every_column_is_tried() -> None:
    assert set(EDITS) == {column.name for column in sa.inspect(AuditEntry).columns}


@pytest.mark.parametrize("column", EDITS)
def test_L2_an_edit_is_found_at_its_entry(log: Database, column: str) -> None:
    attack(log, f"UPDATE audit_entry SET {column} = {EDITS[column]} WHERE seq = 3")
    verdict = audit_log.check(log)
    assert (verdict.bad_seq, verdict.last) == (3, 2), verdict
    assert "entry 3" in (verdict.fault or "")


@pytest.mark.parametrize("column", [name for name in EDITS if name not in {"seq", "hash", "previous_hash"}])
def test_L2_negative_control_without_the_hash_no_edit_is_found(
    log: Database, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_chain, "_is_own_hash", lambda _: True)
    attack(log, f"UPDATE audit_entry SET {column} = {EDITS[column]} WHERE seq = 3")
    assert audit_log.check(log).fault is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET details = 'no json' WHERE seq = 3",
        "UPDATE audit_entry SET at = 'yesterday' WHERE seq = 3",
        "UPDATE audit_entry SET actor = x'00ff' WHERE seq = 3",
        "UPDATE audit_entry SET previous_hash = 'no hexadecimal' WHERE seq = 3",
    ],
)
def test_L2_what_no_entry_can_hold_is_found_as_well(log: Database, statement: str) -> None:
    attack(log, statement)
    assert audit_log.check(log).bad_seq == 3


def test_L2_an_edit_with_a_hash_that_fits_breaks_the_next_entry(log: Database) -> None:
    link = list(audit_log.export(log))[2]
    own = audit_chain.hash_of(replace(link, actor="eve"))
    attack(log, f"UPDATE audit_entry SET actor = 'eve', hash = '{own}' WHERE seq = 3")
    assert audit_log.check(log).bad_seq == 4


def test_L2_other_orders_missing_and_added_entries_are_found(log: Database) -> None:
    swap = [f"UPDATE audit_entry SET seq = {new} WHERE seq = {old}" for old, new in ((3, 99), (4, 3), (99, 4))]
    attack(log, *swap)
    assert audit_log.check(log).bad_seq == 3
    attack(log, *swap)
    assert audit_log.check(log).fault is None  # the way back, so that the next step is seen alone
    attack(log, "INSERT INTO audit_entry SELECT -5, at, actor, action, object, details, via, address, request_id, "
           "previous_hash, hash FROM audit_entry WHERE seq = 1")  # fmt: skip
    assert audit_log.check(log).bad_seq == 1
    attack(log, "DELETE FROM audit_entry WHERE seq IN (-5, 4)")
    verdict = audit_log.check(log)
    assert (verdict.bad_seq, verdict.fault) == (4, "entry 4 is missing, and entry 5 stands in its place")


def test_L2_an_end_that_was_cut_off_shows_against_a_checkpoint(log: Database) -> None:
    checkpoint = head(log)
    attack(log, "DELETE FROM audit_entry WHERE seq >= 5")
    assert audit_log.check(log).fault is None  # the negative control: the chain alone does not show it
    verdict = audit_log.check(log, [checkpoint])
    assert verdict.bad_seq == 5
    assert "taken away" in (verdict.fault or "")
    write(log, 2)  # an older state that went on is no better
    assert audit_log.check(log).fault is None
    assert audit_log.check(log, [checkpoint]).bad_seq == 6


def test_L2_a_log_that_was_written_anew_shows_against_a_checkpoint(log: Database) -> None:
    checkpoint = head(log)
    rewrite(log, 3, actor="eve")
    assert audit_log.check(log).fault is None  # the negative control
    assert audit_log.check(log, [checkpoint]).bad_seq == 6


# --- how entries come into it ----------------------------------------------------------------------------------------


def test_what_is_rolled_back_or_tried_again_leaves_no_entry_and_no_gap(database: Database) -> None:
    tried = []

    def unit(session) -> None:
        audit.record(session, NOW, "ada", "test.retried", "x")
        tried.append(1)
        if len(tried) == 1:
            raise DBAPIError("x", {}, type("E", (Exception,), {"sqlstate": "40001"})())

    database.retry(unit)
    with suppress(ZeroDivisionError), database.write() as session:
        audit.record(session, NOW, "ada", "test.failed", "x")
        raise ZeroDivisionError
    with database.write() as session:
        audit.record(session, NOW, "ada", "test.outer", "x")
        with suppress(ZeroDivisionError), session.begin_nested():
            audit.record(session, NOW, "ada", "test.taken-back", "x")
            with session.begin_nested():
                audit.record(session, NOW, "ada", "test.taken-back-inside", "x")
            raise ZeroDivisionError
        with session.begin_nested():
            audit.record(session, NOW, "ada", "test.inner", "x")
    links = list(audit_log.export(database))
    assert len(tried) == 2
    assert [link.action for link in links] == ["test.retried", "test.outer", "test.inner"]
    assert audit_log.check(database).last == 3


def test_L1_one_entry_is_one_line_whatever_is_in_it(database: Database) -> None:
    odd = 'x\r\n{"seq":2,"actor":"admin"}\x1b[31m\u2028\x00\ud800 \u202e' + "y" * 1000
    with database.write() as session:
        audit.record(
            session,
            NOW,
            odd,
            "test.odd",
            odd,
            note=odd.replace("\x00", "").replace("\ud800", ""),
            more=("a", 1.5, None),
        )
    (link,) = audit_log.export(database)
    text = audit_chain.line(link)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert link.object.isprintable()
    assert (len(link.actor), len(link.object)) == (100, 500)
    assert audit_chain.parse_line(text) == link
    assert audit_log.check(database).fault is None


def test_writers_at_once_make_one_chain(database: Database) -> None:
    each = 12
    if database.is_sqlite:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.audit_writer", database.url, f"process {number}", str(each)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
            )
            for number in range(2)
        ]
    else:
        processes = []
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda number: write(database, each, actor=f"thread {number}"), range(WRITERS)))
    assert [process.wait(60) for process in processes] == [0] * len(processes)
    total = each * (WRITERS + len(processes))
    verdict = audit_log.check(database)
    assert (verdict.fault, verdict.first, verdict.last) == (None, 1, total)
    links = list(audit_log.export(database))
    for actor in {link.actor for link in links}:  # and everybody's own order is kept
        own = [link.object.rpartition("/")[2] for link in links if link.actor == actor]
        assert own == [str(number) for number in range(each)]


@pytest.mark.parametrize("locks", [True, False], ids=["with the lock", "negative control: without it"])
def test_two_commits_at_once_wait_for_each_other(locks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL: one has chained its entry and not committed yet while the other comes to its commit."""
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    if not locks:
        monkeypatch.setattr(audit, "_LOCK", sa.text("SELECT 1"))
    link = audit_chain.Link(0, NOW, "ada", "test.first", "x")
    waits = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    failures: list[BaseException] = []

    def second(db: Database) -> None:
        try:
            write(db, 1)
        except IntegrityError as error:
            failures.append(error)

    with postgres.shared().fresh_database() as url:
        db = Database(url)
        Base.metadata.create_all(db.engine)
        with db.write() as session:
            audit.append(session, [link])
            thread = threading.Thread(target=second, args=(db,))
            thread.start()

            def is_waiting() -> bool:
                with db.read() as looking:
                    return bool(looking.scalar(waits))

            wait_until(is_waiting)
        thread.join(30)
        verdict = audit_log.check(db)
        db.close()
    assert verdict.fault is None
    assert (len(failures), verdict.last) == ((0, 2) if locks else (1, 1))


def test_killed_writers_leave_a_whole_chain(log: Database) -> None:
    """Whatever was acknowledged is in it, and nothing is half in it."""
    rng, acknowledged = random.Random(SEED), 6
    for _ in range(3):
        command_line = [sys.executable, "-m", "tests.fakes.audit_writer", log.url, "killed", "100000"]
        process = subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(rng.randint(1, 20)):
            assert process.stdout.readline(), f"seed {SEED}"
            acknowledged += 1
        time.sleep(rng.random() / 100)
        process.send_signal(signal.SIGKILL)
        acknowledged += len([line for line in process.stdout.readlines() if line.endswith("\n")])
        process.wait(30)
        verdict = audit_log.check(log)
        assert verdict.fault is None, f"seed {SEED}: {verdict.fault}"
        assert verdict.last >= acknowledged, f"seed {SEED}"


# --- what was there before -------------------------------------------------------------------------------------------


def test_the_migration_chains_what_is_there(database: Database) -> None:
    config = migrate.alembic_config(database.url)
    command.downgrade(config, "0008")
    rows = [
        {"id": 3 * number + 2, "at": NOW + timedelta(seconds=number), "actor": "ada", "action": "test.old",
         "object": f"thing/{number}", "details": {"z": number, "a": ["\u00e9", None]}}
        for number in range(1100)
    ]  # fmt: skip
    with database.engine.begin() as connection:
        old = sa.Table("audit_entry", sa.MetaData(), autoload_with=connection)
        connection.execute(sa.insert(old), [{**row, "at": _plain(row["at"], database)} for row in rows])
    command.upgrade(config, "head")
    verdict = audit_log.check(database)
    assert (verdict.fault, verdict.first, verdict.last) == (None, 1, 1100)
    links = list(audit_log.export(database))
    assert [link.object for link in links] == [row["object"] for row in rows]
    assert links[7].details == rows[7]["details"]
    write(database, 1)
    assert audit_log.check(database).last == 1101
    command.downgrade(config, "0008")
    with database.engine.begin() as connection:
        old = sa.Table("audit_entry", sa.MetaData(), autoload_with=connection)
        assert connection.scalar(sa.select(sa.func.count()).select_from(old)) == 1101
        added = {key: value for key, value in rows[0].items() if key != "id"}
        connection.execute(sa.insert(old).values({**added, "at": _plain(NOW, database)}))  # numbers come by themselves
    command.upgrade(config, "head")
    assert audit_log.check(database).last == 1102


def _plain(at: datetime, database: Database) -> datetime:
    return at.replace(tzinfo=None) if database.is_sqlite else at
