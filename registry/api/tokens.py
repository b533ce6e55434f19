"""Tokens: one's own for everybody, everybody's for administrators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit
from registry.access import Action, Identity, check, parse_actions
from registry.accounts import TOKEN_LONGEST, find_account
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import charge, credential_sent, signed_in_api
from registry.models import Account, Token
from registry.rates import CostClass
from registry.scopes import within
from registry.services import Services


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token without its secret; ``repositories`` null means all its owner has."""

    id: int
    user: str
    name: str
    kind: str
    last_four: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class TokenList:
    """Tokens, newest first; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[TokenView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """Whose tokens (one's own if not said), and where to go on."""

    user: Annotated[str, Length(1, 64)] | None = None
    after: Annotated[int, Between(1, 2**62)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to make. ``ttl_seconds`` is its life: a minute to 366 days."""

    name: Annotated[str, Length(1, 100)]
    actions: Annotated[tuple[str, ...], Length(1, 10)]
    ttl_seconds: Annotated[int, Between(60, int(TOKEN_LONGEST.total_seconds()))]
    repositories: Annotated[tuple[str, ...], Length(0, 100)] | None = None
    user: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new token. ``secret`` is told now and never again."""

    id: int
    user: str
    name: str
    secret: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    expires_at: datetime


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
    if query.after is not None:
        statement = statement.where(Token.id < query.after)
    with services.db.read() as session:
        rows = session.execute(statement).all()
    shown = rows[: query.limit]
    return TokenList(
        tuple(_view(token, user) for token, user in shown), shown[-1][0].id if len(rows) > len(shown) else None
    )


def create_token(body: NewToken) -> MadeToken:
    """Make a token for oneself, or as administrator for another.

    It never has more rights than the credential that makes it: fewer or the same actions and repositories, and, made
    with a token, no later end. ``repositories`` null stands for all the maker has.
    """
    charge(CostClass.MINT)
    services, caller = context.services(), context.caller()
    now = services.clock()
    owner = _owner(caller, body.user)
    actions = sorted(parse_actions(body.actions))
    repositories = within(caller, actions, body.repositories)
    with services.db.write() as session:
        account_id = caller.account_id if owner == caller.name else find_account(session, owner).id
        issued = services.accounts.issue_token(
            session,
            account_id,
            body.name,
            actions=actions,
            repositories=repositories,
            life=_life(session, services, body, now),
            now=now,
        )
        audit.record(
            session,
            now,
            caller.name,
            "token.issue",
            f"user/{owner}/token/{issued.id}",
            name=body.name,
            actions=actions,
            repositories=repositories,
            expires_at=issued.expires_at.isoformat(),
        )
    return MadeToken(
        issued.id,
        owner,
        body.name,
        issued.secret,
        tuple(actions),
        None if repositories is None else tuple(repositories),
        issued.expires_at,
    )


def revoke_token(token_id: int) -> None:
    """End a token: one's own, or as administrator another's. It counts from the next request on."""
    services, caller = context.services(), context.caller()
    now = services.clock()
    with services.db.write() as session:
        row = session.execute(
            select(Token.account_id, Token.name, Account.name)
            .join(Account, Account.id == Token.account_id)
            .where(Token.id == token_id)
        ).first()
        # Somebody else's token answers as an unknown one does: ids are small numbers, and tell of nobody.
        if row is None or (row[0] != caller.account_id and not caller.may(Action.ADMIN)):
            raise NotFound("token", str(token_id))
        services.accounts.revoke_token(session, token_id, now)
        audit.record(session, now, caller.name, "token.revoke", f"user/{row[2]}/token/{token_id}", name=row[1])


def _owner(caller: Identity, user: str | None) -> str:
    if user is None or user == caller.name:
        return caller.name
    check(caller, Action.ADMIN)
    return user


def _life(session: Session, services: Services, body: NewToken, now: datetime) -> timedelta:
    life = timedelta(seconds=body.ttl_seconds)
    sent = credential_sent()
    if sent is None:
        return life
    parent_expires_at = session.scalar(
        select(Token.expires_at).where(Token.digest == services.accounts.digest(sent.secret))
    )
    # A stolen short token must not buy itself a long one, nor a chain of short ones.
    return life if parent_expires_at is None else min(life, parent_expires_at - now)


def _view(token: Token, user: str) -> TokenView:
    return TokenView(
        token.id,
        user,
        token.name,
        token.kind,
        token.last_four,
        tuple(token.actions),
        None if token.repositories is None else tuple(token.repositories),
        token.created_at,
        token.expires_at,
        token.last_used_at,
    )


ROUTES = (
    Route("GET", "/tokens", signed_in_api, list_tokens, query=TokenQuery, answer=TokenList),
    Route("POST", "/tokens", signed_in_api, create_token, body=NewToken, answer=MadeToken, status=201),
    Route("DELETE", "/tokens/<id:token_id>", signed_in_api, revoke_token, status=204),
)
