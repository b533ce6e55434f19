"""F5, F6: how often somebody may ask in a minute is counted for all processes together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select

from registry.db import Base, Database, table_of
from registry.errors import RateLimited
from registry.models import RateUse
from registry.rates import CostClass, RateLimits, principal_of
from tests.job_bench import BACKENDS, fresh_url

NOW = datetime(2026, 1, 1, 12, 0, 40, tzinfo=UTC)


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path_factory.mktemp("rates")) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine, tables=[table_of(RateUse)])
        yield database
        database.close()


@pytest.fixture
def db(database: Database) -> Database:
    with database.write() as session:
        session.execute(delete(RateUse))
    return database


def _let_through(limits: RateLimits, tries: int, who: str = "user/1", now: datetime = NOW) -> int:
    passed = 0
    for _ in range(tries):
        try:
            limits.spend(CostClass.SEARCH, who, now)
        except RateLimited:
            continue
        passed += 1
    return passed


def _processes(db: Database, number: int, limit: int) -> list[RateLimits]:
    """Each has its own memory, as processes have; the database is what they share."""
    return [RateLimits(db, {CostClass.SEARCH: limit}) for _ in range(number)]


def test_F6_four_processes_let_through_no_more_than_one(db: Database) -> None:
    limit = 40
    with ThreadPoolExecutor(4) as pool:
        passed = list(pool.map(lambda one: _let_through(one, limit), _processes(db, 4, limit)))
    assert sum(passed) == limit


def test_F6_threads_of_one_process_share_it_too(db: Database) -> None:
    (one,) = _processes(db, 1, 30)
    gate = threading.Barrier(6)

    def run(_: int) -> int:
        gate.wait()
        return _let_through(one, 20)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(run, range(6))) == 30


def test_F6_of_a_high_limit_each_process_gives_away_a_fiftieth_at_the_most(db: Database) -> None:
    limit = 1000
    passed = sum(_let_through(one, limit) for one in _processes(db, 3, limit))
    assert limit <= passed <= limit + 3 * limit // 50


def test_F6_negative_control_without_the_shared_row_each_process_has_the_whole_limit(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(limits: RateLimits, unit: object) -> int:
        _ = limits, unit
        return 2

    monkeypatch.setattr(RateLimits, "_settled", forget)
    assert sum(_let_through(one, 40) for one in _processes(db, 4, 40)) > 40


def test_who_asks_little_costs_no_write(db: Database) -> None:
    (one,) = _processes(db, 1, 1000)
    assert _let_through(one, 20) == 20
    with db.read() as session:
        assert session.scalars(select(RateUse)).all() == []


def test_callers_and_minutes_do_not_pay_for_each_other(db: Database) -> None:
    (one,) = _processes(db, 1, 5)
    assert _let_through(one, 9) == 5
    assert _let_through(one, 9, "user/2") == 5
    assert _let_through(one, 9, now=NOW + timedelta(minutes=1)) == 5


def test_the_refusal_says_when_the_minute_is_over(db: Database) -> None:
    (one,) = _processes(db, 1, 1)
    one.spend(CostClass.SEARCH, "user/1", NOW)
    with pytest.raises(RateLimited) as refused:
        one.spend(CostClass.SEARCH, "user/1", NOW)
    assert refused.value.retry_after_seconds == 20


def test_a_class_without_a_limit_is_not_counted(db: Database) -> None:
    (one,) = _processes(db, 1, 0)
    assert _let_through(one, 100) == 100


def test_a_database_that_cannot_be_written_stops_nobody(db: Database, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = Database(f"sqlite:///{tmp_path_factory.mktemp('away') / 'missing' / 'none.db'}")
    assert _let_through(RateLimits(nowhere, {CostClass.SEARCH: 3}), 10) == 10
    nowhere.close()
    assert db is not None


def test_old_rows_go(db: Database) -> None:
    (one,) = _processes(db, 1, 5)
    _let_through(one, 1, "user/old")
    (another,) = _processes(db, 1, 5)
    _let_through(another, 1, "user/new", NOW + timedelta(hours=2))
    with db.read() as session:
        assert [row.principal for row in session.scalars(select(RateUse))] == ["user/new"]


@pytest.mark.parametrize(
    ("account", "address", "principal"),
    [
        (7, "192.0.2.1", "user/7"),
        (None, "192.0.2.1", "address/192.0.2.1"),
        (None, "2001:db8:1:2:3::4", "address/2001:db8:1:2::/64"),
        (None, "unknown", "address/unknown"),
    ],
)
def test_whom_a_request_counts_for(account: int | None, address: str, principal: str) -> None:
    assert principal_of(account, address) == principal
