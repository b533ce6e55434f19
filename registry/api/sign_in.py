"""What administrators do about how others sign in: second factors, browsers, accounts that must not come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from registry import audit, second_factor
from registry.access import Action
from registry.accounts import end_sessions, find_account
from registry.api.routes import Route
from registry.errors import Denied, NotFound
from registry.http import context
from registry.http.auth import requires
from registry.models import Account


@dataclass(frozen=True, slots=True)
class SecondFactorView:
    """Whether somebody has a second factor; ``confirmedAt`` null means none."""

    confirmed_at: datetime | None
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How many browsers were signed out."""

    sessions: int


def show_second_factor(user: str) -> SecondFactorView:
    """Whether a user has a second factor, and how many recovery codes are left."""
    with context.services().db.read() as session:
        state = second_factor.state_of(session, find_account(session, user).id)
    return SecondFactorView(state.confirmed_at, state.codes_left)


def reset_second_factor(user: str) -> None:
    """Take a user's second factor away, because app and recovery codes are lost; all their browsers are signed out."""
    caller, now = context.caller(), context.services().clock()
    with context.services().db.write() as session:
        account = find_account(session, user)
        if not second_factor.remove(session, account, caller.name, now, action="second-factor.reset"):
            raise NotFound("second factor of", user)
        end_sessions(session, account.id)


def end_all_sessions(user: str) -> Ended:
    """Sign all browsers of a user out. Tokens go on."""
    return Ended(_change(user, "session.close-all", lambda session, account: end_sessions(session, account.id)))


def disable_user(user: str) -> None:
    """Let a user in no more: password, tokens and browsers stop at once. Nobody can disable themselves."""
    if user == context.caller().name:
        raise Denied("nobody can disable their own account")

    def disable(session: Session, account: Account) -> int:
        account.is_disabled = True
        return end_sessions(session, account.id)

    _change(user, "user.disable", disable)


def enable_user(user: str) -> None:
    """Let a disabled user in again. Tokens that did not end meanwhile count again; browsers have to sign in."""

    def enable(_session: Session, account: Account) -> int:
        account.is_disabled = False
        return 0

    _change(user, "user.enable", enable)


def _change(user: str, action: str, change: Callable[[Session, Account], int]) -> int:
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        count = change(session, find_account(session, user))
        audit.record(session, services.clock(), caller.name, action, f"user/{user}")
    return count


ROUTES = (
    Route("GET", "/users/<user>/second-factor", requires(Action.ADMIN), show_second_factor, answer=SecondFactorView),
    Route("DELETE", "/users/<user>/second-factor", requires(Action.ADMIN), reset_second_factor, status=204),
    Route("DELETE", "/users/<user>/sessions", requires(Action.ADMIN), end_all_sessions, answer=Ended),
    Route("POST", "/users/<user>/disable", requires(Action.ADMIN), disable_user, status=204),
    Route("POST", "/users/<user>/enable", requires(Action.ADMIN), enable_user, status=204),
)
