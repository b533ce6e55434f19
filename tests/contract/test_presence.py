"""The question of idle agents and the writing of who was there, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from hooks.deployments.agents import SESSION_LIFE
from hooks.deployments.presence import WRITE_AFTER, Presence
from hooks.models.deployment import DeploymentAgent
from registry.db import Base, Database
from tests.job_bench import BACKENDS, fresh_url

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        yield database
        database.close()


def seen(database: Database) -> list[datetime | None]:
    with database.read() as session:
        return list(session.scalars(select(DeploymentAgent.seen_at).order_by(DeploymentAgent.id)))


def add(database: Database, *names: str) -> None:
    about = {
        "tags": [],
        "domains": [],
        "created_by": "ada",
        "created_at": NOW,
        "session_expires_at": NOW + SESSION_LIFE,
    }
    rows = [{"id": name, "name": name, "session_digest": f"digest of {name}", **about} for name in names]
    with database.write() as session:
        session.execute(insert(DeploymentAgent), rows)


def test_who_has_no_work_hears_so_and_is_written_down_with_others(database: Database) -> None:
    add(database, "a", "b", "c")
    presence = Presence(database)
    assert presence.poll("digest of nobody", NOW) is None
    assert presence.poll("digest of a", NOW + SESSION_LIFE) is None
    assert [presence.poll(f"digest of {name}", NOW) for name in "abc"] == [(name, 5.0) for name in "abc"]
    assert seen(database) == [NOW] * 3  # the first in a session, at once

    later = NOW + timedelta(seconds=30)
    assert [presence.poll(f"digest of {name}", later) is None for name in "abc"] == [False] * 3
    assert seen(database) == [NOW] * 3
    with database.write() as session:
        session.execute(update(DeploymentAgent).where(DeploymentAgent.id == "c").values(revoked_at=later))
        session.execute(update(DeploymentAgent).where(DeploymentAgent.id == "b").values(seen_at=later + WRITE_AFTER))
    assert presence.poll("digest of c", later + WRITE_AFTER) is None
    assert presence.poll("digest of a", later + WRITE_AFTER) == ("a", 5.0)
    # Written together; what another process has written meanwhile is not taken back.
    assert seen(database) == [later + WRITE_AFTER, later + WRITE_AFTER, later]


def test_who_was_not_written_down_for_long_is_at_once(database: Database) -> None:
    """Its polls have come to several processes, and none of them has had another one since."""
    add(database, "a")
    assert Presence(database).poll("digest of a", NOW) == ("a", 5.0)
    for seconds, written in ((25, 0), (40, 0), (45, 45)):
        assert Presence(database).poll("digest of a", NOW + timedelta(seconds=seconds)) == ("a", 5.0)
        assert seen(database) == [NOW + timedelta(seconds=written)]
