"""Who one is, and who else there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from flask import request
from sqlalchemy import update

from registry import attempts, audit, directory, people
from registry.access import Action, Identity, check
from registry.accounts import end_sessions, find_account, has_second_factor
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Denied, Invalid, Unauthenticated
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import Account
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
    is_service: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserList:
    """Accounts by name; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[directory.Person, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class UserQuery:
    """Which accounts, and where to go on. ``search`` is a part of the name, ``group`` one that they are in.

    ``state`` is active or disabled, ``kind`` person or service, ``secondFactor`` on or off; empty for both.
    """

    search: Annotated[str, Length(0, 64)] = ""
    state: Annotated[str, Length(0, 16)] = ""
    kind: Annotated[str, Length(0, 16)] = ""
    second_factor: Annotated[str, Length(0, 16)] = ""
    group: Annotated[str, Length(0, 64)] = ""
    after: Annotated[str, Length(0, 64)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to make; without a password it can only use tokens. ``isService`` marks a program's: it stays so."""

    name: str
    actions: Annotated[tuple[str, ...], Length(0, 10)]
    repositories: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    password: str | None = None
    is_service: bool = False


@dataclass(frozen=True, slots=True)
class UserChange:
    """What to change; a field that is not there (or null) stays. ``everywhere`` takes the limit to repositories away."""

    actions: Annotated[tuple[str, ...], Length(0, 10)] | None = None
    repositories: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    everywhere: bool = False
    is_disabled: bool | None = None


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
    """All accounts, or those that are looked for."""
    wanted = directory.Wanted(query.search, query.state, query.kind, query.second_factor, query.group)
    with context.services().db.read() as session:
        found = directory.listed(session, wanted, after=query.after, limit=query.limit + 1)
    shown = found[: query.limit]
    return UserList(tuple(shown), shown[-1].name if len(found) > len(shown) else None)


def show_user(user: str) -> directory.PersonDetail:
    """One account, with its groups and every role it has, through whom."""
    services = context.services()
    with services.db.read() as session:
        return directory.shown(session, user, services.clock())


def create_user(body: NewUser) -> User:
    """Add an account."""
    services, caller = context.services(), context.caller()
    repositories = checked_patterns(body.repositories)
    with services.db.write() as session:
        return _user(
            people.create(
                session,
                services.accounts,
                body.name,
                caller,
                actions=body.actions,
                repositories=repositories,
                password=body.password,
                is_service=body.is_service,
                now=services.clock(),
            )
        )


def set_password(user: str, body: NewPassword) -> None:
    """Change a password: one's own, or as administrator anybody's.

    All browser sessions of the account end. One's own needs the current password as well, so that a stolen token
    cannot take the account over.
    """
    services, caller = context.services(), context.caller()
    now = services.clock()
    if caller.name != user:
        check(caller, Action.ADMIN, permission="entrepot:ManageUsers")
    else:
        _prove(services, caller, body)
    hashed = services.accounts.hash_password(body.password)
    with services.db.write() as session:
        account = find_account(session, user)
        if account.is_service:
            raise Invalid(f"{user} is a service account: it has no password, and uses tokens")
        session.execute(update(Account).where(Account.id == account.id).values(password_hash=hashed))
        end_sessions(session, account.id)
        audit.record(session, now, caller.name, "user.set-password", f"user/{user}")


def change_user(user: str, body: UserChange) -> User:
    """Change an account's rights, or disable it. It counts from the account's next request on."""
    services, caller = context.services(), context.caller()
    repositories = checked_patterns(body.repositories)
    if body.everywhere and repositories is not None:
        raise Invalid("repositories and everywhere contradict each other")
    with services.db.write() as session:
        return _user(
            people.change(
                session,
                user,
                caller,
                actions=body.actions,
                repositories=repositories,
                everywhere=body.everywhere,
                is_disabled=body.is_disabled,
                now=services.clock(),
            )
        )


def delete_user(user: str) -> None:
    """Delete an account with its tokens, browsers, memberships and roles; what it published stays."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        people.remove(session, user, caller, services.clock())


def _prove(services: Services, caller: Identity, body: NewPassword) -> None:
    now, address = services.clock(), request.remote_addr or "unknown"
    try:
        with services.db.read() as session:
            attempts.check_attempt(session, caller.name, address, now)
            services.accounts.check_password(session, caller.name, body.current_password or "", now)
            if has_second_factor(session, caller.account_id):
                raise Denied("the account has a second factor: change the password on the pages, where it is asked for")
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
        account.is_service,
        account.created_at,
    )


_manage = requires(Action.ADMIN, permission="entrepot:ManageUsers")
ROUTES = (
    Route("GET", "/whoami", signed_in_api, whoami, answer=WhoAmI),
    Route("GET", "/users", _manage, list_users, query=UserQuery, answer=UserList),
    Route("POST", "/users", _manage, create_user, body=NewUser, answer=User, status=201),
    Route("GET", "/users/<user>", _manage, show_user, answer=directory.PersonDetail),
    Route("PATCH", "/users/<user>", _manage, change_user, body=UserChange, answer=User),
    Route("DELETE", "/users/<user>", _manage, delete_user, status=204),
    Route("POST", "/users/<user>/password", signed_in_api, set_password, body=NewPassword, status=204),
)
