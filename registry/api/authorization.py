"""Short-lived tokens in CodeArtifact's manner, and scanners' reports of tokens that leaked."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Annotated

from flask import request

from registry import minting
from registry.access import Action, parse_actions
from registry.accounts import capped
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Denied, Invalid
from registry.http import context
from registry.http.auth import charge, public, signed_in_api
from registry.names import domain_name
from registry.rates import CostClass
from registry.scopes import (
    Limits,
    checked_networks,
    checked_packages,
    checked_patterns,
    in_domain,
    narrowed,
)
from registry.token_shape import looks_like_token

SHORTEST, LONGEST = timedelta(minutes=15), timedelta(hours=12)
MOST_REPORTED = 100


@dataclass(frozen=True, slots=True)
class AuthorizationQuery:
    """Which domain the token is for (all if not said), and how long it holds.

    ``duration_seconds`` is 900 to 43200 (15 minutes to 12 hours), or 0 for as long as the caller's own credential; with
    a password, which has no end, that is 12 hours.
    """

    domain: Annotated[str, Length(1, 50)] | None = None
    duration_seconds: Annotated[int, Between(0, int(LONGEST.total_seconds()))] = int(LONGEST.total_seconds())


@dataclass(frozen=True, slots=True)
class NewAuthorization:
    """What the token may, if less than the caller: actions, and limits as of any token. Null for all the caller has."""

    name: Annotated[str, Length(1, 100)] | None = None
    actions: Annotated[tuple[str, ...], Length(1, 10)] | None = None
    repositories: Annotated[tuple[str, ...], Length(1, 100)] | None = None
    packages: Annotated[tuple[str, ...], Length(1, 100)] | None = None
    networks: Annotated[tuple[str, ...], Length(1, 100)] | None = None


@dataclass(frozen=True, slots=True)
class Authorization:
    """A token, told now and never again, and when it ends; behind these, what CodeArtifact does not tell: its limits.

    ``parent_id`` is the token it was made with, and ends with; ``ends_with_parent`` says that this comes before the
    life that was asked for is over.
    """

    authorization_token: str
    expiration: datetime
    token_id: int
    user: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    packages: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    parent_id: int | None
    ends_with_parent: bool


@dataclass(frozen=True, slots=True)
class ReportedToken:
    """A text that looks like one of our tokens, and where it was found (the shape of secret scanning partner alerts)."""

    token: Annotated[str, Length(1, 1000)]
    type: Annotated[str, Length(0, 100)] = ""
    url: Annotated[str, Length(0, 2000)] = ""
    source: Annotated[str, Length(0, 100)] = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reported text was: ``label`` is true_positive for a token that was live, and is revoked now.

    ``token_hash`` is the text's SHA-256 in base64; the text itself is not repeated.
    """

    token_hash: str
    token_type: str
    label: str


def get_authorization_token(query: AuthorizationQuery) -> Authorization:
    """A short-lived token with the caller's own rights. It ends with the credential it is made with."""
    if request.method == "HEAD":
        raise Invalid("a token cannot be asked for without its body")
    return _authorize(query, NewAuthorization())


def create_authorization_token(query: AuthorizationQuery, body: NewAuthorization) -> Authorization:
    """A short-lived token with the caller's own rights or fewer. It ends with the credential it is made with."""
    return _authorize(query, body)


def _authorize(query: AuthorizationQuery, body: NewAuthorization) -> Authorization:
    charge(CostClass.MINT)
    services, caller = context.services(), context.caller()
    now = services.clock()
    life = timedelta(seconds=query.duration_seconds)
    if life and life < SHORTEST:
        raise Invalid(f"durationSeconds is 0, or {int(SHORTEST.total_seconds())} to {int(LONGEST.total_seconds())}")
    if not life:
        life = LONGEST if caller.expires_at is None else caller.expires_at - now
    # For an administrator that is "admin" alone, and not each action.
    own = capped(Action, caller)
    all_of_it = [Action.ADMIN] if Action.ADMIN in own else own
    actions = sorted(parse_actions(body.actions if body.actions is not None else all_of_it))
    if not actions:
        raise Denied(f"{caller.name} may do nothing, so that there is nothing to give a token for")
    asked = Limits(
        checked_patterns(body.repositories),
        checked_packages(body.packages, services.formats),
        checked_networks(body.networks),
    )
    named, domain = asked.repositories, None
    if query.domain is not None:
        domain = domain_name(query.domain)
        asked = in_domain(narrowed(caller, actions, asked), domain)
    wanted = minting.Wanted(body.name or "authorization token", actions, asked, life, minting.AUTHORIZATION)
    with services.db.write() as session:
        minting.check_there(session, caller, named, domain)
        made = minting.mint(session, services.accounts, caller, wanted, now=now)
    repositories, packages, networks = (None if limit is None else tuple(limit) for limit in astuple(made.limits))
    return Authorization(
        made.issued.secret,
        made.issued.expires_at,
        made.issued.id,
        caller.name,
        tuple(actions),
        repositories,
        packages,
        networks,
        caller.token_id,
        made.is_cut_short,
    )


def report_leaked_tokens(body: tuple[ReportedToken, ...]) -> tuple[Judged, ...]:
    """Say that tokens were found where others can read them: those that are live are revoked, and their owners told.

    Anybody may: who has a token could do worse with it. The answer says of each whether it was one.
    """
    charge(CostClass.MANAGE)
    leaks = context.services().leaks
    found: list[Judged] = []
    for each in body:
        place = " ".join(part for part in (each.source or "a scanner's report", each.url) if part)
        live = looks_like_token(each.token) and leaks.end([each.token], place, "report")
        digest = base64.b64encode(hashlib.sha256(each.token.encode()).digest()).decode()
        found.append(Judged(digest, each.type, "true_positive" if live else "false_positive"))
    return tuple(found)


_report = public("who has a token may end it; what is no live token changes nothing")
ROUTES = (
    Route(
        "GET",
        "/authorization-token",
        signed_in_api,
        get_authorization_token,
        query=AuthorizationQuery,
        answer=Authorization,
    ),
    Route(
        "POST",
        "/authorization-token",
        signed_in_api,
        create_authorization_token,
        query=AuthorizationQuery,
        body=NewAuthorization,
        answer=Authorization,
        body_is_optional=True,
    ),
    Route(
        "POST",
        "/leaked-tokens",
        _report,
        report_leaked_tokens,
        body=Annotated[tuple[ReportedToken, ...], Length(1, MOST_REPORTED)],  # type: ignore[arg-type]
        answer=tuple[Judged, ...],
        holds_secrets=True,
    ),
)
