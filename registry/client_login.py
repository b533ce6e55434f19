"""Signing a client tool in with a browser: the tool waits while somebody who is signed in lets it in.

Two secrets, so that neither alone is enough: the one in the address that the person opens lets in, and only for who is
signed in; the one the tool polls with collects the result, once. As with any such flow, who is talked into letting a
stranger's tool in has done so: the page says where the tool asked from.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from registry import audit
from registry.access import Identity
from registry.accounts import Accounts, account_scope
from registry.errors import NotFound, RateLimited
from registry.models import Account, ClientLogin

LIFE = timedelta(minutes=10)
MOST_OF_ADDRESS = 20
MOST_OF_ALL = 1000


@dataclass(frozen=True, slots=True)
class Begun:
    """``code`` is for the address that the person opens, ``secret`` for the tool."""

    code: str
    secret: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A tool that waits: what it calls itself and where it asked from."""

    client: str
    address: str
    created_at: datetime
    is_decided: bool


def begin(session: Session, accounts: Accounts, *, client: str, address: str, now: datetime) -> Begun:
    """A tool asks to be let in. Raises RateLimited when too many wait: anybody may ask."""
    session.execute(delete(ClientLogin).where(ClientLogin.expires_at <= now))
    of_all = session.scalar(select(func.count()).select_from(ClientLogin)) or 0
    of_address = (
        session.scalar(select(func.count()).select_from(ClientLogin).where(ClientLogin.address == address[:100])) or 0
    )
    if of_all >= MOST_OF_ALL or of_address >= MOST_OF_ADDRESS:
        raise RateLimited("too many clients wait to be signed in", int(LIFE.total_seconds()))
    begun = Begun(secrets.token_urlsafe(24), secrets.token_urlsafe(32))
    session.add(
        ClientLogin(
            digest=accounts.digest(begun.secret),
            code_digest=accounts.digest(begun.code),
            client="".join(character for character in client if character.isprintable())[:200],
            address=address[:100],
            created_at=now,
            expires_at=now + LIFE,
        )
    )
    return begun


def waiting(session: Session, accounts: Accounts, code: str, now: datetime) -> Waiting:
    """Who waits behind an address. Raises NotFound when it is unknown or over."""
    row = _by_code(session, accounts, code, now)
    return Waiting(row.client, row.address, row.created_at, row.account_id is not None)


def let_in(session: Session, accounts: Accounts, code: str, identity: Identity, now: datetime) -> None:
    """Somebody lets the tool in, as themselves; the first one decides. Raises NotFound."""
    row = _by_code(session, accounts, code, now)
    done = session.execute(
        update(ClientLogin)
        .where(ClientLogin.digest == row.digest, ClientLogin.account_id.is_(None))
        .values(account_id=identity.account_id)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        raise NotFound("sign-in", "that still waits")
    audit.record(
        session, now, identity.name, "client.let-in", f"user/{identity.name}", client=row.client, address=row.address
    )


def collect(session: Session, accounts: Accounts, secret: str, now: datetime) -> Identity | None:
    """Who let the tool in, told once; None while nobody has. Raises NotFound when it is unknown, over or told."""
    row = session.get(ClientLogin, accounts.digest(secret))
    if row is None or row.expires_at <= now or row.used_at is not None:
        raise NotFound("sign-in", "that still waits")
    if row.account_id is None:
        return None
    spent = session.execute(
        update(ClientLogin)
        .where(ClientLogin.digest == row.digest, ClientLogin.used_at.is_(None))
        .values(used_at=now)
        .execution_options(synchronize_session=False)
    )
    account = session.get_one(Account, row.account_id)
    if spent.rowcount != 1 or account.is_disabled:  # type: ignore[attr-defined]
        raise NotFound("sign-in", "that still waits")
    identity = Identity(account.name, account.id, (account_scope(account),), "session")
    return accounts.rules.with_rules(session, identity, now)


def _by_code(session: Session, accounts: Accounts, code: str, now: datetime) -> ClientLogin:
    row = session.scalar(select(ClientLogin).where(ClientLogin.code_digest == accounts.digest(code)))
    if row is None or row.expires_at <= now or row.used_at is not None:
        raise NotFound("sign-in", "that still waits")
    return row
