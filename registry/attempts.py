"""How often somebody may try to sign in: failures are audit entries, and the recent ones make the next attempt wait.

Counting what the audit log holds anyway needs no table of its own, holds across processes and restarts, and shows an
administrator who knocks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.errors import RateLimited
from registry.models import AuditEntry

FAILED = "session.refuse"
FAILED_CODE = "second-factor.refuse"
WINDOW = timedelta(minutes=15)
FREE_FAILURES_OF_ACCOUNT = 5
# Many people may share one address (an office, a proxy), so that it gets more.
FREE_FAILURES_OF_ADDRESS = 20
LONGEST_WAIT_SECONDS = 300
# A code has a million values, three of which are right at a time: at the pace above somebody who has the password would
# find one within months. No owner mistypes so many in a day.
FREE_CODES_OF_DAY = 20
WAIT_AFTER_CODES = timedelta(hours=1)


def check_attempt(session: Session, account: str, address: str, now: datetime) -> None:
    """Raise RateLimited while an account name or an address has failed too often to try again now.

    Each failure over the free ones doubles the wait after it: 1 s, 2 s, 4 s … 300 s. The answer does not depend on
    whether the account exists.
    """
    for who, free in (
        (AuditEntry.object == _object(account), FREE_FAILURES_OF_ACCOUNT),
        (AuditEntry.actor == _actor(address), FREE_FAILURES_OF_ADDRESS),
    ):
        count, last = _recent(session, who, now)
        if count < free:
            continue
        wait = timedelta(seconds=min(2 ** min(count - free, 20), LONGEST_WAIT_SECONDS))
        left = last + wait - now
        if left > timedelta(0):
            raise RateLimited("too many failed attempts to sign in", int(left.total_seconds()) + 1)


def check_code(session: Session, account: str, now: datetime) -> None:
    """Raise RateLimited while too many codes of an account's second factor were wrong within a day.

    Only who has the password gets so far, so that no stranger can make its owner wait.
    """
    count, last = session.execute(
        select(func.count(), func.max(AuditEntry.at)).where(
            AuditEntry.action == FAILED_CODE,
            AuditEntry.at > now - timedelta(days=1),
            AuditEntry.object == _object(account),
        )
    ).one()
    if count >= FREE_CODES_OF_DAY and (left := last + WAIT_AFTER_CODES - now) > timedelta(0):
        raise RateLimited("too many wrong codes", int(left.total_seconds()) + 1)


def note_failure(session: Session, account: str, address: str, now: datetime, action: str = FAILED) -> None:
    """Keep a failed attempt; ``action`` is FAILED_CODE for a code of the second factor."""
    audit.record(session, now, _actor(address), action, _object(account))
    for who, free, what in (
        (AuditEntry.object == _object(account), FREE_FAILURES_OF_ACCOUNT, _object(account)),
        (AuditEntry.actor == _actor(address), FREE_FAILURES_OF_ADDRESS, _actor(address)),
    ):
        # With this failure the waiting begins; those that follow within the window tell nothing new. It is not among
        # those that can be counted: entries are written at the commit.
        if _recent(session, who, now)[0] + 1 == free:
            events.note(session, events.SIGN_IN_LOCKED, now, who=what)


def _recent(session: Session, who: ColumnElement[bool], now: datetime) -> tuple[int, Any]:
    """How many failures there were within the window, and when the last one was."""
    counted = select(func.count(), func.max(AuditEntry.at)).where(
        AuditEntry.action.in_((FAILED, FAILED_CODE)), AuditEntry.at > now - WINDOW, who
    )
    count, last = session.execute(counted).one()
    return count, last


def _object(account: str) -> str:
    # What was typed may be anything, a password in the wrong field included: only what can be a name is kept.
    return f"user/{account}"[:80] if account.isascii() and account.isprintable() else "user/?"


def _actor(address: str) -> str:
    return f"address {address}"[:100]
