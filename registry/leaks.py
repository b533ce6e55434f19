"""Tokens of ours where they must not be: revoked at once with all made with them, and their owner is told.

What brings one in is refused: publishing it would spread it further, and whoever publishes can leave it out and come
again. A token that has ended already is no secret any more and passes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final, NamedTuple, Protocol

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry import audit, events, token_lines
from registry.accounts import Accounts
from registry.clock import Clock
from registry.db import Database
from registry.errors import Invalid
from registry.models import Account, Token, TokenLeak
from registry.token_finder import Finder, in_archive

log = logging.getLogger("entrepot.leaks")

MOST_AT_ONCE: Final = 200
"""More than so many different tokens in one body are nobody's mistake, and each costs a look into the database."""


class Row(NamedTuple):
    """A live token, as far as it is told of."""

    id: int
    digest: str
    account_id: int
    name: str
    last_four: str
    kind: str
    owner: str


@dataclass(frozen=True, slots=True)
class Other:
    """A live credential that is no account's token. ``owner`` is the account that is told, ``path`` its place in the audit log.

    ``kind`` and ``name`` say what it is, in events and to people.
    """

    digest: str
    kind: str
    name: str
    owner: str
    path: str


class Keeper(Protocol):
    """Who keeps such credentials; they have the shape of tokens, and lie in the database by the same digest."""

    def live(self, session: Session, digests: Collection[str], now: datetime) -> Sequence[Other]:
        """Those of ``digests`` that open something."""
        ...

    def end(self, session: Session, found: Other, now: datetime, by: str, /) -> None:
        """End one that ``live`` gave in this transaction; ``by`` is who came upon it."""
        ...


class TokenInside(Invalid):
    """What was sent holds a live token of this server. The token is revoked; nothing of what was sent is kept."""

    code = "token_inside"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} holds an access token of this server. The token is revoked and its owner is told; take it out, and "
            "publish again with another"
        )


class LeakGuard:
    """Knows which tokens are live, and ends those that are found. Safe for many threads."""

    def __init__(self, db: Database, accounts: Accounts, clock: Clock, keepers: Sequence[Keeper] = ()) -> None:
        """``keepers`` know of credentials that are no account's."""
        self._db = db
        self._accounts = accounts
        self._clock = clock
        self._keepers = keepers

    def watch(self, where: str, place: str) -> Watch:
        """Something that looks at a body while it comes in. ``where`` is for the sender, ``place`` for the owner."""
        return Watch(self, where, place)

    def check_archive(self, body: BinaryIO, where: str, place: str) -> None:
        """Look into a file that is stored already. Raises TokenInside."""
        watch = self.watch(where, place)
        for token in in_archive(body):
            watch.judge({token})

    def end(self, tokens: Collection[str], place: str, by: str) -> frozenset[str]:
        """Revoke those that are live, with all made with them; returns them. ``by`` is who came upon them."""
        by_digest = {self._accounts.digest(token): token for token in tokens}
        with self._db.read() as session:
            now = self._clock()
            known = bool(_live(session, by_digest, now)) or any(
                keeper.live(session, by_digest, now) for keeper in self._keepers
            )
        if not known:
            return frozenset()
        return self._db.retry(lambda session: self._end(session, by_digest, place, by))

    def _end(self, session: Session, by_digest: dict[str, str], place: str, by: str) -> frozenset[str]:
        now = self._clock()
        live = _live(session, by_digest, now)
        for row in live:
            ended = token_lines.end(session, [row.id], now, token_lines.LEAKED)
            session.add(TokenLeak(token_id=row.id, account_id=row.account_id, place=place[:500], found_at=now))
            path = f"user/{row.owner}/token/{row.id}"
            audit.record(session, now, by, "token.leaked", path, name=row.name, place=place[:500], ended=ended)
            events.record(
                session,
                events.TokenLeaked(row.owner, row.id, row.name, row.last_four, row.kind, place[:500], by),
                now,
            )
            log.warning("token %d of %s was found in %s and is revoked", row.id, row.owner, place)
        others = self._end_others(session, by_digest, place, by, now)
        ended_digests = (*(row.digest for row in live), *(each.digest for each in others))
        return frozenset(by_digest[digest] for digest in ended_digests)

    def _end_others(
        self, session: Session, by_digest: Mapping[str, str], place: str, by: str, now: datetime
    ) -> Sequence[Other]:
        ended: list[Other] = []
        for keeper in self._keepers:
            for found in keeper.live(session, by_digest, now):
                keeper.end(session, found, now, by)
                owner_id = session.scalar(select(Account.id).where(Account.name == found.owner))
                if owner_id is not None:
                    session.add(TokenLeak(account_id=owner_id, name=found.name, place=place[:500], found_at=now))
                audit.record(session, now, by, "token.leaked", found.path, name=found.name, place=place[:500])
                last_four = by_digest[found.digest][-4:]
                told = events.TokenLeaked(found.owner, 0, found.name, last_four, found.kind, place[:500], by)
                events.record(session, told, now)
                log.warning("the credential %s was found in %s and is revoked", found.name, place)
                ended.append(found)
        return ended


class Watch:
    """Looks at one body. Not thread-safe."""

    def __init__(self, guard: LeakGuard, where: str, place: str) -> None:
        self._guard = guard
        self._where = where
        self._place = place
        self._finder = Finder()
        self._seen: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Look at the next piece. Raises TokenInside."""
        if found := self._finder.feed(data):
            self.judge(found)

    def judge(self, tokens: Iterable[str]) -> None:
        """Raise TokenInside if one of ``tokens`` is live, and end it; Invalid when there are too many to be true."""
        fresh = set(tokens) - self._seen
        if not fresh:
            return
        self._seen |= fresh
        if len(self._seen) > MOST_AT_ONCE:
            raise Invalid(f"{self._where} holds more than {MOST_AT_ONCE} texts that are access tokens")
        if self._guard.end(fresh, self._place, "scan"):
            raise TokenInside(self._where)


def _live(session: Session, digests: Collection[str], now: datetime) -> list[Row]:
    rows = session.execute(
        select(Token.id, Token.digest, Token.account_id, Token.name, Token.last_four, Token.kind, Account.name)
        .join(Account, Account.id == Token.account_id)
        .where(Token.digest.in_(list(digests)), Token.revoked_at.is_(None), Token.expires_at > now)
        .order_by(Token.id)
    )
    return [Row(*row) for row in rows]


def unseen(session: Session, account_id: int) -> list[tuple[str, str, datetime]]:
    """Name, place and time of each leaked token its owner was not told of yet."""
    rows = session.execute(
        select(func.coalesce(TokenLeak.name, Token.name), TokenLeak.place, TokenLeak.found_at)
        .outerjoin(Token, Token.id == TokenLeak.token_id)
        .where(TokenLeak.account_id == account_id, TokenLeak.seen_at.is_(None))
        .order_by(TokenLeak.id)
        .limit(20)
    )
    return [(name, place, found_at) for name, place, found_at in rows]


def note_seen(session: Session, account_id: int, now: datetime) -> None:
    """The owner has been told."""
    session.execute(
        update(TokenLeak).where(TokenLeak.account_id == account_id, TokenLeak.seen_at.is_(None)).values(seen_at=now)
    )
