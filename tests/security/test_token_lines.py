"""A13, D9 on both databases: what is written at the same moment as a revocation comes before it or not at all."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import token_lines
from registry.access import Action
from registry.accounts import Accounts, token_identity
from registry.db import Base, Database
from registry.errors import Unauthenticated
from registry.models import Token
from registry.names import PackageKey, PackageName
from registry.repos.admission import Admission, Admissions
from tests.job_bench import BACKENDS, fresh_url

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = Accounts(b"p" * 32)
KEY = PackageKey("generic", "", PackageName("alpha"))


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        with database.write() as session:
            PEOPLE.create(session, "ada", actions=["publish"], now=NOW)
        yield database
        database.close()


def token(session: Session, parent_id: int | None = None) -> int:
    return PEOPLE.issue_token(
        session, 1, "test", actions=["publish"], life=timedelta(days=1), now=NOW, parent_id=parent_id
    ).id


def line(database: Database, length: int) -> list[int]:
    ids: list[int] = []
    for _ in range(length):
        with database.write() as session:
            ids.append(token(session, ids[-1] if ids else None))
    return ids


def live(database: Database) -> set[int]:
    with database.read() as session:
        return set(session.scalars(select(Token.id).where(Token.revoked_at.is_(None))))


def revoker(database: Database, token_id: int) -> threading.Thread:
    return threading.Thread(target=database.retry, args=(lambda session: token_lines.end(session, [token_id], NOW),))


def test_A13_a_line_ends_from_any_of_its_tokens_on(database: Database) -> None:
    first, second, third, fourth = line(database, 4)
    (other,) = line(database, 1)
    with database.write() as session:
        sibling = token(session, first)
        assert token_lines.end(session, [third], NOW) == [third, fourth]
    assert live(database) == {first, second, sibling, other}
    with database.write() as session:
        assert token_lines.end(session, [first, other], NOW, "leaked") == [first, second, other, sibling]
        assert token_lines.end(session, [first], NOW) == []
    assert live(database) == set()


@pytest.mark.parametrize("maker", [0, 1, 2])
def test_A13_a_token_made_while_its_line_is_revoked_ends_with_it(database: Database, maker: int) -> None:
    """The new one is written, and not committed, when the revocation begins: that waits, and then sees it."""
    ids = line(database, 3)
    with database.write() as session:
        made = token(session, ids[maker])
        revoking = revoker(database, ids[0])
        revoking.start()
        revoking.join(0.3)  # blocked by now, or later: the outcome is the same
    revoking.join(30)
    assert made not in live(database)
    assert live(database) == set()
    with database.write() as session, pytest.raises(Unauthenticated):
        token(session, ids[maker])


def test_D9_a_commit_and_a_revocation_at_the_same_moment_take_turns(database: Database) -> None:
    """Confirmed first, the upload commits before the token ends; the other way round it is refused."""
    (token_id,) = line(database, 1)
    everything = (["publish"], None)
    identity = token_identity(
        "ada", 1, everything, (*everything, None, None), token_id=token_id, expires_at=NOW + timedelta(1)
    )
    admission = Admission(identity, 1, "default", 1, "dev", 0, 0)
    admissions = Admissions(database, PEOPLE)
    with database.write() as session:
        admissions.confirm(session, admission, Action.PUBLISH, KEY, NOW)
        revoking = revoker(database, token_id)
        revoking.start()
        revoking.join(0.3)
        # The row is held: whatever this transaction writes is committed before the token ends.
        assert live(database) == {token_id}
    revoking.join(30)
    assert live(database) == set()
    with database.write() as session, pytest.raises(Unauthenticated):
        admissions.confirm(session, admission, Action.PUBLISH, KEY, NOW)
