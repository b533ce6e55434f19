"""What administrators do about how others sign in: second factors, browsers, accounts that must not come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from registry import account_care, second_factor
from registry.access import Action
from registry.accounts import find_account
from registry.api.routes import Route
from registry.http import context
from registry.http.auth import charge, requires
from registry.rates import CostClass


@dataclass(frozen=True, slots=True)
class SecondFactorView:
    """Whether somebody has a second factor; ``confirmedAt`` null means none."""

    confirmed_at: datetime | None
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How many browsers were signed out."""

    sessions: int


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A one-time sign-in, told now and never again: whoever opens ``url`` first comes in as the user."""

    url: str
    expires_at: datetime


def show_second_factor(user: str) -> SecondFactorView:
    """Whether a user has a second factor, and how many recovery codes are left."""
    with context.services().db.read() as session:
        state = second_factor.state_of(session, find_account(session, user).id)
    return SecondFactorView(state.confirmed_at, state.codes_left)


def reset_second_factor(user: str) -> None:
    """Take a user's second factor away, because app and recovery codes are lost; all their browsers are signed out."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        account_care.reset_second_factor(session, user, caller, services.clock())


def end_all_sessions(user: str) -> Ended:
    """Sign all browsers of a user out. Tokens go on."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        return Ended(account_care.end_browsers(session, user, caller, services.clock()))


def disable_user(user: str) -> None:
    """Let a user in no more: password, tokens and browsers stop at once. Nobody can disable themselves."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        account_care.disable(session, user, caller, services.clock())


def enable_user(user: str) -> None:
    """Let a disabled user in again. Tokens that did not end meanwhile count again; browsers have to sign in."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        account_care.enable(session, user, caller, services.clock())


def make_login_link(user: str) -> LoginLink:
    """Make a one-time sign-in for a user, who then sets a password of their own. Refused for one's own account.

    It counts once and for a day; a second factor is still asked for.
    """
    charge(CostClass.MINT)
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        made = account_care.sign_in_link(session, services.accounts, user, caller, services.clock())
    return LoginLink(context.address_of_setup(made.secret), made.expires_at)


ROUTES = (
    Route("GET", "/users/<user>/second-factor", requires(Action.ADMIN), show_second_factor, answer=SecondFactorView),
    Route("DELETE", "/users/<user>/second-factor", requires(Action.ADMIN), reset_second_factor, status=204),
    Route("DELETE", "/users/<user>/sessions", requires(Action.ADMIN), end_all_sessions, answer=Ended),
    Route("POST", "/users/<user>/disable", requires(Action.ADMIN), disable_user, status=204),
    Route("POST", "/users/<user>/enable", requires(Action.ADMIN), enable_user, status=204),
    Route(
        "POST",
        "/users/<user>/login-link",
        requires(Action.ADMIN, permission="entrepot:ManageUsers"),
        make_login_link,
        answer=LoginLink,
        status=201,
    ),
)
