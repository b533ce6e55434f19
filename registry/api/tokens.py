"""Tokens: one's own for everybody, everybody's for administrators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from sqlalchemy import select

from registry import minting, self_service
from registry.access import Action, Identity, check, parse_actions
from registry.accounts import TOKEN_LONGEST, find_account
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import charge, signed_in_api
from registry.models import Account, Token
from registry.rates import CostClass
from registry.scopes import Limits, checked_networks, checked_packages, checked_patterns


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token without its secret; limits that are null mean all its owner has.

    ``parent_id`` is the token it was made with, and ends with. ``last_used_at`` is to ten minutes.
    """

    id: int
    user: str
    name: str
    kind: str
    last_four: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    packages: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    parent_id: int | None
    expires_at: datetime
    last_used_at: datetime | None
    last_used_address: str | None


@dataclass(frozen=True, slots=True)
class TokenList:
    """Tokens, newest first; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[TokenView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """Whose tokens (one's own if not said), of which kind, and where to go on."""

    user: Annotated[str, Length(1, 64)] | None = None
    kind: Annotated[str, Length(1, 16)] | None = None
    after: Annotated[int, Between(1, 2**62)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to make. ``ttl_seconds`` is its life: a minute to 366 days, 90 days if not said.

    ``repositories`` are ``domain/repository`` patterns, ``packages`` ``format/namespace/name`` patterns (``*`` for any
    part of a name, alone at the end for everything below), ``networks`` CIDR blocks; null for all.
    """

    name: Annotated[str, Length(1, 100)]
    actions: Annotated[tuple[str, ...], Length(1, 10)]
    ttl_seconds: Annotated[int, Between(60, int(TOKEN_LONGEST.total_seconds()))] | None = None
    repositories: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    packages: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    networks: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    user: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new token. ``secret`` is told now and never again.

    ``parent_id`` is the token it was made with, and ends with; ``ends_with_parent`` says that this comes before the
    life that was asked for is over.
    """

    id: int
    user: str
    name: str
    secret: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    packages: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    expires_at: datetime
    parent_id: int | None
    ends_with_parent: bool


@dataclass(frozen=True, slots=True)
class RevokeQuery:
    """Whose tokens (one's own if not said), and of which kind (of all if not said)."""

    user: Annotated[str, Length(1, 64)] | None = None
    kind: Annotated[str, Length(1, 16)] | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many tokens ended, those that were made with them included."""

    count: int


def list_tokens(query: TokenQuery) -> TokenList:
    """Tokens that are not revoked: one's own, or as administrator another's."""
    services, caller = context.services(), context.caller()
    statement = (
        select(Token, Account.name)
        .join(Account, Account.id == Token.account_id)
        .where(Account.name == _owner(caller, query.user), Token.revoked_at.is_(None))
        .order_by(Token.id.desc())
        .limit(query.limit + 1)
    )
    if query.kind is not None:
        statement = statement.where(Token.kind == query.kind)
    if query.after is not None:
        statement = statement.where(Token.id < query.after)
    with services.db.read() as session:
        rows = session.execute(statement).all()
    shown = rows[: query.limit]
    return TokenList(
        tuple(_view(token, user) for token, user in shown), shown[-1][0].id if len(rows) > len(shown) else None
    )


def show_token(token_id: int) -> TokenView:
    """A token: one's own, or as administrator another's. One that is revoked is not found."""
    services, caller = context.services(), context.caller()
    statement = (
        select(Token, Account.name)
        .join(Account, Account.id == Token.account_id)
        .where(Token.id == token_id, Token.revoked_at.is_(None))
    )
    with services.db.read() as session:
        row = session.execute(statement).first()
    # Somebody else's token answers as an unknown one does: ids are small numbers, and tell of nobody.
    if row is None or (row[1] != caller.name and not caller.may(Action.ADMIN)):
        raise NotFound("token", str(token_id))
    return _view(*row)


def create_token(body: NewToken) -> MadeToken:
    """Make a token for oneself, or as administrator for another.

    It never has more rights than the credential that makes it: fewer or the same actions and repositories, and, made
    with a token, no later end. ``repositories`` null stands for all the maker has; one that is named without ``*`` and is
    not there is not found, where the maker may read it.
    """
    charge(CostClass.MINT)
    services, caller = context.services(), context.caller()
    owner = _owner(caller, body.user)
    actions = sorted(parse_actions(body.actions))
    limits = Limits(
        checked_patterns(body.repositories),
        checked_packages(body.packages, services.formats),
        checked_networks(body.networks),
    )
    life = None if body.ttl_seconds is None else timedelta(seconds=body.ttl_seconds)
    wanted = minting.Wanted(body.name, actions, limits, life)
    with services.db.write() as session:
        minting.check_there(session, caller, limits.repositories)
        account_id = caller.account_id if owner == caller.name else find_account(session, owner).id
        made = minting.mint(session, services.accounts, caller, wanted, now=services.clock(), owner=(account_id, owner))
    return MadeToken(
        made.issued.id,
        owner,
        body.name,
        made.issued.secret,
        tuple(actions),
        _tuple(made.limits.repositories),
        _tuple(made.limits.packages),
        _tuple(made.limits.networks),
        made.issued.expires_at,
        caller.token_id,
        made.is_cut_short,
    )


def _tuple(limit: list[str] | None) -> tuple[str, ...] | None:
    return None if limit is None else tuple(limit)


def revoke_token(token_id: int) -> None:
    """End a token: one's own, or as administrator another's. It counts from the next request on."""
    services, caller = context.services(), context.caller()
    now = services.clock()
    with services.db.write() as session:
        self_service.revoke_token(session, services.accounts, caller, token_id, now)


def revoke_tokens(query: RevokeQuery) -> Revoked:
    """End all tokens of an account, or all of one kind: one's own, or as administrator another's."""
    services, caller = context.services(), context.caller()
    owner = _owner(caller, query.user)
    with services.db.write() as session:
        return Revoked(self_service.revoke_tokens(session, caller, owner, query.kind, services.clock()))


def _owner(caller: Identity, user: str | None) -> str:
    if user is None or user == caller.name:
        return caller.name
    check(caller, Action.ADMIN)
    return user


def _view(token: Token, user: str) -> TokenView:
    return TokenView(
        token.id,
        user,
        token.name,
        token.kind,
        token.last_four,
        tuple(token.actions),
        None if token.repositories is None else tuple(token.repositories),
        None if token.packages is None else tuple(token.packages),
        None if token.networks is None else tuple(token.networks),
        token.created_at,
        token.created_by,
        token.parent_id,
        token.expires_at,
        token.last_used_at,
        token.last_used_address,
    )


ROUTES = (
    Route("GET", "/tokens", signed_in_api, list_tokens, query=TokenQuery, answer=TokenList),
    Route("POST", "/tokens", signed_in_api, create_token, body=NewToken, answer=MadeToken, status=201),
    Route("GET", "/tokens/<id:token_id>", signed_in_api, show_token, answer=TokenView),
    Route("DELETE", "/tokens/<id:token_id>", signed_in_api, revoke_token, status=204),
    Route("DELETE", "/tokens", signed_in_api, revoke_tokens, query=RevokeQuery, answer=Revoked),
)
