"""Many publish at once, and the database itself rolls a good part of it back: answers, rows and executions agree.

Triggers in the database refuse what carries a marker in its name: at the event's row, after the last row of the
transaction, at its commit, by cutting the connection, or by chance, as a lost race does. The server knows nothing of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from registry.db import Database
from tests import postgres
from tests.harness import packages
from tests.harness.processes import wait_until
from tests.harness.publishing import publish
from tests.harness.server import Server

EACH = 6
AT_ONCE = 8
REFUSED = {500, 503}

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

# A commit that fails leaves SQLite's transaction open; a foreign key that is looked at last makes it fail. The payload is
# read as text, because our connections let no trigger use more than the plainest functions (trusted_schema).
SQLITE = {
    "forced_event": """
        CREATE TRIGGER forced_event BEFORE INSERT ON event
        WHEN NEW.payload LIKE '%"repository": "dev"%"name": "event-%'
        BEGIN SELECT RAISE(ABORT, 'forced at the event'); END""",
    "forced_audit": """
        CREATE TRIGGER forced_audit AFTER INSERT ON audit_entry
        WHEN NEW.object LIKE '%/dev/%audit-%'
        BEGIN SELECT RAISE(ROLLBACK, 'forced after the last row'); END""",
    "forced_commit": """
        CREATE TRIGGER forced_commit AFTER INSERT ON audit_entry
        WHEN NEW.object LIKE '%/dev/%commit-%'
        BEGIN INSERT INTO forced VALUES (-1); END""",
    "forced_chance": """
        CREATE TRIGGER forced_chance AFTER INSERT ON audit_entry
        WHEN NEW.object LIKE '%/dev/%chance-%' AND random() % 2 = 0
        BEGIN SELECT RAISE(ABORT, 'forced: database is locked'); END""",
}
SQLITE_TABLE = "CREATE TABLE forced (nobody INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)"

POSTGRES_FUNCTION = """
    CREATE FUNCTION forced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_ARGV[0] = 'cut' THEN PERFORM pg_terminate_backend(pg_backend_pid());
        ELSIF TG_ARGV[0] <> 'chance' THEN RAISE EXCEPTION 'forced: %', TG_ARGV[0];
        ELSIF random() < 0.5 THEN RAISE EXCEPTION 'forced by chance' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NEW;
    END $$"""
_AUDITED = "FOR EACH ROW WHEN (NEW.object LIKE '%/dev/%{0}-%') EXECUTE FUNCTION forced('{0}')"
POSTGRES = {
    "forced_event": """
        CREATE TRIGGER forced_event BEFORE INSERT ON event FOR EACH ROW
        WHEN (NEW.payload->>'name' LIKE 'event-%' AND NEW.payload->>'repository' = 'dev')
        EXECUTE FUNCTION forced('event')""",
    "forced_audit": "CREATE TRIGGER forced_audit AFTER INSERT ON audit_entry " + _AUDITED.format("audit"),
    "forced_commit": (
        "CREATE CONSTRAINT TRIGGER forced_commit AFTER INSERT ON audit_entry DEFERRABLE INITIALLY DEFERRED "
        + _AUDITED.format("commit")
    ),
    "forced_cut": "CREATE TRIGGER forced_cut AFTER INSERT ON audit_entry " + _AUDITED.format("cut"),
    "forced_chance": "CREATE TRIGGER forced_chance AFTER INSERT ON audit_entry " + _AUDITED.format("chance"),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Database]]:
    if request.param == "sqlite":
        yield from started(tmp_path, f"sqlite:///{tmp_path}/data/entrepot.db")
        return
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.shared().fresh_database() as url:
        yield from started(tmp_path, url)


def started(folder: Path, url: str) -> Iterator[tuple[Server, Database]]:
    server = Server(folder / "data", environment={"ENTREPOT_DATABASE_URL": url}).start()
    db = Database(url)
    try:
        yield server, db
    finally:
        db.close()
        server.kill()


def install(db: Database) -> set[str]:
    """Make the database refuse what is marked; returns the markers."""
    first = [SQLITE_TABLE] if db.is_sqlite else [POSTGRES_FUNCTION]
    triggers = SQLITE if db.is_sqlite else POSTGRES
    run(db, *first, *triggers.values())
    return {name.removeprefix("forced_") for name in triggers}


def remove(db: Database) -> None:
    if db.is_sqlite:
        run(db, *(f"DROP TRIGGER {name}" for name in SQLITE))
    else:
        run(db, "DROP FUNCTION forced CASCADE")


def run(db: Database, *statements: str) -> None:
    with db.write() as session:
        for statement in statements:
            session.execute(text(statement))


def ask(db: Database, query: str) -> Counter[tuple[object, ...]]:
    with db.read() as session:
        return Counter(tuple(row) for row in session.execute(text(query)))


def test_answers_rows_and_executions_agree_under_forced_rollbacks(running: tuple[Server, Database]):
    server, db = running
    token = server.token("admin")
    apply(server, token)
    markers = install(db)
    # Each twice at once, so that the loser of a race meets a winner that vanishes.
    names = [f"{marker}-{number}" for number in range(EACH) for marker in (*sorted(markers), "kept")] * 2
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda name: (name, publish(server, token, name).status_code), names))
    assert {status for _, status in answers} <= {200, *REFUSED}, answers
    acknowledged = {name for name, status in answers if status == 200}
    kinds = {marker: {status for name, status in answers if name.startswith(marker)} for marker in (*markers, "kept")}
    assert kinds["kept"] == {200}
    for marker in markers - {"chance"}:
        assert kinds[marker] <= REFUSED, marker

    check(db, acknowledged)
    remove(db)
    again = sorted({name for name, _ in answers} - acknowledged)
    for name in again[:: EACH - 1]:  # what was refused stands in nobody's way
        assert publish(server, token, name).status_code == 200, name
        acknowledged.add(name)
    check(db, acknowledged)
    assert server.stop() == 0
    assert server.fsck() == ""


def apply(server: Server, token: str) -> None:
    answer = requests.put(
        f"{server.url}/api/v1/pipelines",
        json={"document": PIPELINE},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert answer.status_code < 300, answer.text


def check(db: Database, acknowledged: set[str]) -> None:
    """What is there once nothing is left to do: for each acknowledged name one of each, for others nothing."""
    jobs = "SELECT count(*) FROM job WHERE state IN ('queued', 'running')"
    events = "SELECT count(*) FROM event WHERE handled_at IS NULL"
    wait_until(lambda: ask(db, events) + ask(db, jobs) == Counter({(0,): 2}))
    in_dev = "JOIN repository r ON r.id = p.repository_id WHERE r.name = 'dev'"
    once = Counter({(name,): 1 for name in acknowledged})
    assert ask(db, f"SELECT p.name FROM package p {in_dev}") == once
    assert ask(db, f"SELECT p.name FROM package_version v JOIN package p ON p.id = v.package_id {in_dev}") == once
    field = "json_extract(payload, '$.{}')" if db.is_sqlite else "payload->>'{}'"
    published = f"kind = 'asset.published' AND {field.format('repository')} = 'dev'"
    assert ask(db, f"SELECT {field.format('name')} FROM event WHERE {published}") == once
    assert ask(db, "SELECT name, status FROM execution") == Counter({(name, "Succeeded"): 1 for name in acknowledged})
    # The file names that were promoted are those that were published, once each.
    files = Counter({(packages.wheel(name, "1.0")[0],): 2 for name in acknowledged})
    assert ask(db, "SELECT filename FROM asset") == files
