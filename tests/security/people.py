"""Accounts and tokens of every kind, made on a running server's data directory as its administrator would."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from config import wiring
from config.settings import load
from registry.accounts import Accounts, find_account
from registry.clock import system_clock
from registry.db import Database
from registry.models import Token

PASSWORD = "correct horse battery"
DAY = timedelta(days=1)


@dataclass
class People:
    """Those who come to a server."""

    db: Database
    accounts: Accounts

    def add(self, name: str, *actions: str, repositories: list[str] | None = None, password: str | None = None) -> str:
        """An account; returns a token with all its rights."""
        with self.db.write() as session:
            self.accounts.create(
                session, name, actions=actions, repositories=repositories, password=password, now=system_clock()
            )
        return self.token(name, *actions)

    def token(
        self,
        name: str,
        *actions: str,
        repositories: list[str] | None = None,
        age: timedelta = timedelta(),
        life: timedelta = DAY,
    ) -> str:
        """A token made ``age`` ago."""
        with self.db.write() as session:
            account_id = find_account(session, name).id
            return self.accounts.issue_token(
                session, account_id, "test", actions=actions, repositories=repositories, life=life, now=system_clock() - age
            ).secret  # fmt: skip

    def revoke(self, secret: str) -> None:
        with self.db.write() as session:
            token_id = session.scalars(select(Token.id).where(Token.digest == self.accounts.digest(secret))).one()
            self.accounts.revoke_token(session, token_id, system_clock())

    def change(self, name: str, **values: object) -> None:
        with self.db.write() as session:
            account = find_account(session, name)
            for key, value in values.items():
                setattr(account, key, value)


@contextmanager
def people_of(data: Path) -> Iterator[People]:
    settings = load(data, {})
    db = wiring.database(settings)
    try:
        yield People(db, wiring.accounts(settings))
    finally:
        db.close()
