"""Browsers between two steps of signing in: after the first factor, or sent to an identity provider.

What waits opens nothing: it has a cookie of its own that no page looks at, and is spent by deleting its row, so that it
leads on once. What is told to an identity provider (state, nonce, PKCE's verifier) is derived from the cookie's secret
and the server's pepper: it is bound to this browser, and a copied table gives none of it away.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from registry.accounts import Accounts
from registry.errors import RateLimited, Unauthenticated
from registry.models import PendingSignIn

LIFE = timedelta(minutes=10)
SECOND_FACTOR = "second-factor"
PROVIDER = "provider"
MOST_OF_ADDRESS = 100
MOST_OF_ALL = 10_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that waits; see ``registry.models.PendingSignIn``."""

    account_id: int | None
    provider: str
    purpose: str
    by: str
    target: str
    created_at: datetime


def begin(
    session: Session,
    accounts: Accounts,
    kind: str,
    *,
    address: str,
    target: str,
    now: datetime,
    account_id: int | None = None,
    provider: str = "",
    purpose: str = "",
    by: str = "",
) -> str:
    """Keep a step; returns the cookie's value. Raises RateLimited when too many wait: strangers may begin them."""
    session.execute(delete(PendingSignIn).where(PendingSignIn.expires_at <= now))
    if kind == PROVIDER:
        count = select(func.count()).select_from(PendingSignIn).where(PendingSignIn.kind == PROVIDER)
        of_all = session.scalar(count) or 0
        of_address = session.scalar(count.where(PendingSignIn.address == address[:100])) or 0
        if of_all >= MOST_OF_ALL or of_address >= MOST_OF_ADDRESS:
            raise RateLimited("too many sign-ins wait for their identity provider", int(LIFE.total_seconds()))
    secret = secrets.token_urlsafe(32)
    session.add(
        PendingSignIn(
            digest=_digest(accounts, kind, secret),
            kind=kind,
            account_id=account_id,
            provider=provider,
            purpose=purpose,
            by=by,
            target=target,
            address=address[:100],
            created_at=now,
            expires_at=now + LIFE,
        )
    )
    return secret


def look(session: Session, accounts: Accounts, kind: str, secret: str, now: datetime) -> Pending | None:
    """What waits behind a cookie, or None when it is unknown, over or spent."""
    row = session.scalar(
        select(PendingSignIn).where(
            PendingSignIn.digest == _digest(accounts, kind, secret),
            PendingSignIn.kind == kind,
            PendingSignIn.expires_at > now,
        )
    )
    if row is None:
        return None
    return Pending(row.account_id, row.provider, row.purpose, row.by, row.target, row.created_at)


def spend(session: Session, accounts: Accounts, kind: str, secret: str, now: datetime) -> Pending:
    """Go on from a step, once: of two simultaneous ones exactly one does. Raises Unauthenticated."""
    found = look(session, accounts, kind, secret, now)
    gone = session.execute(delete(PendingSignIn).where(PendingSignIn.digest == _digest(accounts, kind, secret)))
    if found is None or gone.rowcount != 1:  # type: ignore[attr-defined]
        raise Unauthenticated("this sign-in took too long or was begun elsewhere; begin again")
    return found


def derived(accounts: Accounts, secret: str, what: str) -> str:
    """Something to tell a provider (``state``, ``nonce``, ``verifier``): 64 hex characters, known to nobody before."""
    return accounts.digest(f"pending/{what}/{secret}")


def _digest(accounts: Accounts, kind: str, secret: str) -> str:
    return accounts.digest(f"pending/{kind}/{secret}")
