"""What administrators do about other people's accounts: how they sign in, and whether they come in at all.

Each act leaves an entry in the caller's name. Whether the caller may is asked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from registry import audit, second_factor
from registry.access import Identity
from registry.accounts import SETUP_LOGIN_LIFE, Accounts, end_sessions, find_account
from registry.errors import Conflict, Denied, NotFound


@dataclass(frozen=True, slots=True)
class SignInLink:
    """A one-time sign-in: ``secret`` is told now and never again."""

    secret: str
    expires_at: datetime


def disable(session: Session, name: str, caller: Identity, now: datetime) -> None:
    """Let an account in no more: password, tokens and browsers stop at once. Raises NotFound; Denied for one's own."""
    if name == caller.name:
        raise Denied("nobody can disable their own account")
    account = find_account(session, name)
    account.is_disabled = True
    end_sessions(session, account.id)
    audit.record(session, now, caller.name, "user.disable", f"user/{name}")


def enable(session: Session, name: str, caller: Identity, now: datetime) -> None:
    """Let a disabled account in again: tokens that did not end meanwhile count again. Raises NotFound."""
    find_account(session, name).is_disabled = False
    audit.record(session, now, caller.name, "user.enable", f"user/{name}")


def end_browsers(session: Session, name: str, caller: Identity, now: datetime) -> int:
    """Sign all browsers of an account out; returns how many. Tokens go on. Raises NotFound."""
    count = end_sessions(session, find_account(session, name).id)
    audit.record(session, now, caller.name, "session.close-all", f"user/{name}")
    return count


def reset_second_factor(session: Session, name: str, caller: Identity, now: datetime) -> None:
    """Take a lost second factor away; all browsers of the account are signed out. Raises NotFound, also without one."""
    account = find_account(session, name)
    if not second_factor.remove(session, account, caller.name, now, action="second-factor.reset"):
        raise NotFound("second factor of", name)
    end_sessions(session, account.id)


def sign_in_link(session: Session, accounts: Accounts, name: str, caller: Identity, now: datetime) -> SignInLink:
    """A sign-in that counts once and for a day, and lets its owner choose a new password. A second factor stays.

    Raises NotFound, Invalid for a service account, Conflict for a disabled one, and Denied for one's own account: a
    stolen token must not become a password.
    """
    if name == caller.name:
        raise Denied("nobody makes a sign-in link for themselves: change your password on your account's page")
    account = find_account(session, name)
    if account.is_disabled:
        raise Conflict(f"{name} is disabled; enable the account first")
    secret = accounts.new_setup_login(session, account.id, now)
    audit.record(session, now, caller.name, "user.login_link", f"user/{name}")
    return SignInLink(secret, now + SETUP_LOGIN_LIFE)
