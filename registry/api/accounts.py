"""Who one is, and who else there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from flask import request
from sqlalchemy import delete, select, update

from registry import attempts, audit
from registry.access import Action, Identity, check
from registry.accounts import find_account
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Denied, Unauthenticated
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import Account, WebSession
from registry.scopes import checked_patterns
from registry.services import Services


@dataclass(frozen=True, slots=True)
class ScopeView:
    """Actions on repositories and packages, from networks (patterns and CIDR blocks; null for all)."""

    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    packages: tuple[str, ...] | None
    networks: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The caller. Every scope has to allow an act. ``via`` is token, password or internal."""

    name: str
    via: str
    scopes: tuple[ScopeView, ...]


@dataclass(frozen=True, slots=True)
class User:
    """An account; ``repositories`` null means all."""

    name: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    has_password: bool
    is_disabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserList:
    """Accounts by name; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[User, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class UserQuery:
    """Where to go on in the list."""

    after: Annotated[str, Length(0, 64)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to make; without a password it can only use tokens."""

    name: str
    actions: Annotated[tuple[str, ...], Length(0, 10)]
    repositories: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class NewPassword:
    """``current_password`` is needed to change one's own; an administrator sets another's without it."""

    password: str
    current_password: str | None = None


def whoami() -> WhoAmI:
    """The caller and what they may do."""
    caller = context.caller()
    return WhoAmI(
        caller.name,
        caller.via,
        tuple(
            ScopeView(tuple(sorted(scope.actions)), scope.repositories, scope.packages, scope.networks)
            for scope in caller.scopes
        ),
    )


def list_users(query: UserQuery) -> UserList:
    """All accounts."""
    with context.services().db.read() as session:
        rows = session.scalars(
            select(Account).where(Account.name > query.after).order_by(Account.name).limit(query.limit + 1)
        ).all()
    shown = rows[: query.limit]
    return UserList(tuple(_user(row) for row in shown), shown[-1].name if len(rows) > len(shown) else None)


def create_user(body: NewUser) -> User:
    """Add an account."""
    services, caller = context.services(), context.caller()
    now = services.clock()
    repositories = checked_patterns(body.repositories)
    with services.db.write() as session:
        account = services.accounts.create(
            session, body.name, actions=body.actions, repositories=repositories, password=body.password, now=now
        )
        audit.record(
            session,
            now,
            caller.name,
            "user.create",
            f"user/{account.name}",
            actions=account.actions,
            repositories=repositories,
        )
        return _user(account)


def set_password(user: str, body: NewPassword) -> None:
    """Change a password: one's own, or as administrator anybody's.

    All browser sessions of the account end. One's own needs the current password as well, so that a stolen token
    cannot take the account over.
    """
    services, caller = context.services(), context.caller()
    now = services.clock()
    if caller.name != user:
        check(caller, Action.ADMIN)
    else:
        _prove(services, caller, body)
    hashed = services.accounts.hash_password(body.password)
    with services.db.write() as session:
        account = find_account(session, user)
        session.execute(update(Account).where(Account.id == account.id).values(password_hash=hashed))
        session.execute(delete(WebSession).where(WebSession.account_id == account.id))
        audit.record(session, now, caller.name, "user.set-password", f"user/{user}")


def _prove(services: Services, caller: Identity, body: NewPassword) -> None:
    now, address = services.clock(), request.remote_addr or "unknown"
    try:
        with services.db.read() as session:
            attempts.check_attempt(session, caller.name, address, now)
            services.accounts.identity_by_password(session, caller.name, body.current_password or "", now)
    except Unauthenticated as error:
        with services.db.write() as session:
            attempts.note_failure(session, caller.name, address, now)
        # Not 401: the request's own credential is good, and a client would drop it.
        raise Denied("currentPassword is missing or wrong") from error


def _user(account: Account) -> User:
    return User(
        account.name,
        tuple(account.actions),
        None if account.repositories is None else tuple(account.repositories),
        account.password_hash is not None,
        account.is_disabled,
        account.created_at,
    )


ROUTES = (
    Route("GET", "/whoami", signed_in_api, whoami, answer=WhoAmI),
    Route("GET", "/users", requires(Action.ADMIN), list_users, query=UserQuery, answer=UserList),
    Route("POST", "/users", requires(Action.ADMIN), create_user, body=NewUser, answer=User, status=201),
    Route("POST", "/users/<user>/password", signed_in_api, set_password, body=NewPassword, status=204),
)
