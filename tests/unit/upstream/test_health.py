"""How the health of connections gets into rows: seldom, and never without the last word."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from registry.db import Base, Database
from registry.models import ConnectionHealth
from registry.names import DomainName, RepositoryName
from registry.repos import health, topology
from registry.repos.health import HealthBook

START = datetime(2026, 1, 1, tzinfo=UTC)


class Site:
    """A database with one connection (row 1), a clock, and a count of commits that wrote."""

    def __init__(self, folder: Path) -> None:
        self.db = Database(f"sqlite:///{folder / 'health.db'}")
        Base.metadata.create_all(self.db.engine)
        self.now = START
        self.monotonic = 0.0
        with self.db.write() as session:
            domain = topology.create_domain(session, DomainName("default"), START)
            topology.create_repository(
                session, domain.id, RepositoryName("public"), external_formats={"pypi": None}, now=START
            )
        self.writes = 0
        event.listen(self.db.engine, "before_cursor_execute", self._count)

    def _count(self, _connection, _cursor, statement: str, *_: object) -> None:
        self.writes += statement.startswith(("INSERT", "UPDATE"))

    def book(self, interval_seconds: float = 5.0) -> HealthBook:
        return HealthBook(
            self.db, lambda: self.now, interval_seconds=interval_seconds, monotonic=lambda: self.monotonic
        )

    def shown(self) -> health.Health:
        with self.db.read() as session:
            return health.details(session, 1, self.now)[0].health


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.db.close()


def test_many_questions_are_one_write(site: Site) -> None:
    book = site.book(3600)
    for _ in range(500):
        book.succeeded(1)
    assert site.writes == 1
    site.monotonic = 3600
    site.now += timedelta(hours=1)
    book._notes[1].is_waiting = False
    book.succeeded(1)
    assert site.writes == 2
    assert site.shown().last_success_at == site.now


def test_the_last_word_is_written_though_nothing_follows(site: Site) -> None:
    book = site.book(0.05)
    book.succeeded(1)
    book.failed(1, "it is gone", 0.0)
    for _ in range(1000):
        if site.shown().state == health.FAILING:
            break
        time.sleep(0.01)
    assert site.shown().last_failure == "it is gone"


def test_what_another_process_knows_later_stays(site: Site) -> None:
    mine, others = site.book(), site.book()
    site.now += timedelta(seconds=10)
    others.failed(1, "it is gone", 60.0)
    site.now -= timedelta(seconds=5)
    mine.succeeded(1)
    found = site.shown()
    assert (found.state, found.last_failure) == (health.LEFT_ALONE, "it is gone")
    assert found.last_success_at == START + timedelta(seconds=5)


def test_a_success_ends_the_pause(site: Site) -> None:
    site.book().failed(1, "it is gone", 60.0)
    assert site.shown().state == health.LEFT_ALONE
    site.now += timedelta(seconds=20)
    site.book().succeeded(1)
    assert site.shown().state == health.WORKING


def test_a_connection_that_is_gone_gets_no_row(site: Site) -> None:
    site.book().failed(77, "it is gone", 0.0)
    with site.db.read() as session:
        assert session.query(ConnectionHealth).all() == []


def test_a_database_that_is_away_harms_nobody(site: Site) -> None:
    Base.metadata.drop_all(site.db.engine)
    site.book().succeeded(1)
