"""Making tokens on somebody's behalf: never more than the maker has, in one place for every door that gives one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from registry import audit, existence
from registry.access import ANY_PACKAGE, Action, Identity, place_of
from registry.accounts import TOKEN_USUAL_LIFE, Accounts, IssuedToken
from registry.scopes import EVERYWHERE, Limits, narrowed

PERSONAL, LOGIN, AUTHORIZATION = "personal", "login", "authorization"
KINDS = (PERSONAL, LOGIN, AUTHORIZATION, "build", "setup")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token to make. ``limits`` are checked (``registry.scopes``); ``life`` None is the usual one."""

    name: str
    actions: Sequence[Action]
    limits: Limits = EVERYWHERE
    life: timedelta | None = None
    kind: str = PERSONAL


@dataclass(frozen=True, slots=True)
class Made:
    """A new token and what it is limited to; ``is_cut_short`` where it ends, with its parent, before its life is over."""

    issued: IssuedToken
    limits: Limits
    is_cut_short: bool = False


def mint(
    session: Session,
    accounts: Accounts,
    maker: Identity,
    wanted: Wanted,
    *,
    now: datetime,
    owner: tuple[int, str] | None = None,
) -> Made:
    """Make a token of ``owner`` (account id and name; the maker if not given), with its audit entry.

    Made with a token it belongs to that one's line, ends with it, and is limited as that is. Raises Denied for more
    than the maker has, Invalid for an impossible life, Unauthenticated when the maker's own token has just ended.
    """
    owner_id, owner_name = owner or (maker.account_id, maker.name)
    limits = narrowed(maker, wanted.actions, wanted.limits)
    life = TOKEN_USUAL_LIFE if wanted.life is None else wanted.life
    issued = accounts.issue_token(
        session,
        owner_id,
        wanted.name,
        actions=wanted.actions,
        repositories=limits.repositories,
        packages=limits.packages,
        networks=limits.networks,
        life=life,
        now=now,
        kind=wanted.kind,
        created_by=maker.name,
        parent_id=maker.token_id,
    )
    audit.record(
        session,
        now,
        maker.name,
        "token.issue",
        f"user/{owner_name}/token/{issued.id}",
        name=wanted.name,
        kind=wanted.kind,
        actions=sorted(wanted.actions),
        repositories=limits.repositories,
        packages=limits.packages,
        networks=limits.networks,
        parent=maker.token_id,
        expires_at=issued.expires_at.isoformat(),
    )
    return Made(issued, limits, issued.expires_at < now + life)


def check_there(
    session: Session, maker: Identity, repositories: Sequence[str] | None, domain: str | None = None
) -> None:
    """Raise NotFound for a repository or domain that is named (no pattern) for a token, and is not there.

    Only where the maker may read: to anybody else it would tell what there is.
    """
    if domain is not None and maker.may(Action.READ, domain=domain):
        existence.check_there(session, place_of(None, domain))
    for path in repositories or ():
        if "*" not in path and maker.may(Action.READ, path, ANY_PACKAGE):
            existence.check_there(session, place_of(path))
