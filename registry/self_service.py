"""What people do with their own account: sign in and out, set a password, make and end tokens. Each act leaves an entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import audit, minting, token_lines
from registry.access import Action, Identity, parse_actions
from registry.accounts import (
    BY_LINK,
    LAST_USED_GRAIN,
    LINK_PROOF_LIFE,
    SESSION_IDLE,
    Accounts,
    IssuedToken,
    capped,
    end_sessions,
)
from registry.errors import Denied, Invalid, NotFound, Unauthenticated
from registry.models import Account, Token, WebSession
from registry.scopes import Limits

_PATTERN = re.compile(r"[a-z0-9*-]{1,50}/[A-Za-z0-9._*-]{1,100}\Z")
_MOST_PATTERNS = 50
# Long enough to choose a password after a one-time sign-in, too short for a browser that was left open.
SETUP_GRACE = LINK_PROOF_LIFE
_HANDLE_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """A token as its owner sees it; ``repositories`` None means all, ``state`` is active, expired, revoked or leaked."""

    id: int
    name: str
    kind: str
    last_four: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    state: str
    packages: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    created_by: str
    parent_id: int | None
    last_used_address: str | None


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A signed-in browser as its owner sees it. ``handle`` names it in forms, and opens nothing."""

    handle: str
    created_at: datetime
    seen_at: datetime
    by: str
    address: str
    browser: str
    is_this_one: bool


@dataclass(frozen=True, slots=True)
class Browser:
    """Where somebody signs in from: the network address and what the browser calls itself."""

    address: str = ""
    user_agent: str = ""


def sign_in(
    session: Session,
    accounts: Accounts,
    account_id: int,
    by: str,
    now: datetime,
    *,
    browser: Browser = Browser(),
    proved_at: datetime | None = None,
) -> str:
    """Open a browser session; returns the cookie's value. ``by`` says how: ``password``, ``one-time link``, ….

    Raises Unauthenticated for an account that was disabled meanwhile.
    """
    account = session.get_one(Account, account_id)
    if account.is_disabled:
        raise Unauthenticated("user name or password is wrong")
    account.last_sign_in_at = now
    audit.proved_by(by)
    audit.record(session, now, account.name, "session.open", f"user/{account.name}", by=by, address=browser.address)
    return accounts.open_session(
        session, account_id, now, by=by, proved_at=proved_at, address=browser.address, user_agent=browser.user_agent
    )


def sign_out(session: Session, accounts: Accounts, identity: Identity, secret: str, now: datetime) -> None:
    """Close this browser's session."""
    accounts.close_session(session, secret)
    audit.record(session, now, identity.name, "session.close", f"user/{identity.name}")


def sign_out_everywhere(session: Session, identity: Identity, now: datetime) -> None:
    """Close all sessions of the account, this one included."""
    end_sessions(session, identity.account_id)
    audit.record(session, now, identity.name, "session.close-all", f"user/{identity.name}")


def sign_out_other(session: Session, identity: Identity, handle: str, now: datetime) -> None:
    """Close one of the account's own sessions. Raises NotFound, also for somebody else's."""
    mine = WebSession.account_id == identity.account_id
    digests = session.scalars(select(WebSession.digest).where(mine)).all()
    found = next((digest for digest in digests if digest[:_HANDLE_CHARACTERS] == handle), None)
    if found is None:
        raise NotFound("session", handle)
    session.execute(delete(WebSession).where(WebSession.digest == found))
    audit.record(session, now, identity.name, "session.close", f"user/{identity.name}", which="another")


def start_over(
    session: Session, accounts: Accounts, identity: Identity, browser: Browser, now: datetime, *, by: str
) -> str:
    """End all sessions because what they rest on changed, and sign this browser in anew; returns the cookie's value."""
    end_sessions(session, identity.account_id)
    return accounts.open_session(
        session,
        identity.account_id,
        now,
        by=by,
        proved_at=now,
        address=browser.address,
        user_agent=browser.user_agent,
    )


def sessions(session: Session, accounts: Accounts, account_id: int, secret: str, now: datetime) -> list[SessionSummary]:
    """The account's open sessions, latest first; ``secret`` is this browser's cookie."""
    rows = session.scalars(
        select(WebSession)
        .where(
            WebSession.account_id == account_id, WebSession.expires_at > now, WebSession.seen_at >= now - SESSION_IDLE
        )
        .order_by(WebSession.seen_at.desc())
    )
    mine = accounts.digest(secret)
    return [
        SessionSummary(
            row.digest[:_HANDLE_CHARACTERS],
            row.created_at,
            row.seen_at,
            row.by,
            row.address,
            browser_name(row.user_agent),
            row.digest == mine,
        )
        for row in rows
    ]


_PROGRAMS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrom", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def browser_name(user_agent: str) -> str:
    """``Firefox on Linux``: what a browser says of itself, as people would; its own words where those are others."""
    program = next((name for mark, name in _PROGRAMS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if not program:
        return user_agent[:60] or "A browser"
    return f"{program} on {system}" if system else program


def is_use_due(session: Session, accounts: Accounts, secret: str, now: datetime) -> bool:
    """Whether it is time to note that a session is in use; asked first, because a write locks out others."""
    seen_at = session.scalar(select(WebSession.seen_at).where(WebSession.digest == accounts.digest(secret)))
    return seen_at is not None and now - seen_at > LAST_USED_GRAIN


def needs_present_password(session: Session, accounts: Accounts, account_id: int, secret: str, now: datetime) -> bool:
    """Whether a new password can only be set by who knows the present one.

    Not for an account without one, and not shortly after a one-time sign-in, which is what recovers a lost password.
    """
    account = session.get_one(Account, account_id)
    if account.password_hash is None:
        return False
    opened = session.execute(
        select(WebSession.created_at, WebSession.by).where(WebSession.digest == accounts.digest(secret))
    ).first()
    return opened is None or not opened.by.startswith(BY_LINK) or now - opened.created_at > SETUP_GRACE


def change_password(session: Session, identity: Identity, hashed: str, now: datetime) -> None:
    """Store a new password's hash and end all sessions, so that whoever knew the old password is out."""
    session.get_one(Account, identity.account_id).password_hash = hashed
    end_sessions(session, identity.account_id)
    audit.record(session, now, identity.name, "user.set-password", f"user/{identity.name}")


def tokens(session: Session, account_id: int, now: datetime) -> list[TokenSummary]:
    """The account's tokens, those that still count first, then the newest first."""
    rows = session.scalars(select(Token).where(Token.account_id == account_id).order_by(Token.created_at.desc()))
    found = [_summary(row, now) for row in rows]
    return sorted(found, key=lambda token: token.state != "active")


def _summary(row: Token, now: datetime) -> TokenSummary:
    ended = row.end_reason or "revoked"
    state = ended if row.revoked_at is not None else "expired" if now >= row.expires_at else "active"
    return TokenSummary(
        row.id,
        row.name,
        row.kind,
        row.last_four,
        tuple(row.actions),
        tuple(row.repositories) if row.repositories is not None else None,
        row.created_at,
        row.expires_at,
        row.last_used_at,
        state,
        tuple(row.packages) if row.packages is not None else None,
        tuple(row.networks) if row.networks is not None else None,
        row.created_by,
        row.parent_id,
        row.last_used_address,
    )


def grantable(identity: Identity) -> tuple[Action, ...]:
    """The actions a token of this person can be given."""
    return tuple(Action(word) for word in capped(Action, identity))


def words(text: str) -> tuple[str, ...] | None:
    """What somebody typed, commas or spaces between; None for nothing."""
    return tuple(part for part in re.split(r"[,\s]+", text) if part) or None


def repository_patterns(text: str) -> tuple[str, ...] | None:
    """Patterns out of what somebody typed (commas or spaces between); None, all repositories, for nothing.

    Raises Invalid.
    """
    patterns = tuple(part for part in re.split(r"[,\s]+", text) if part)
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise Invalid(f"{pattern!r} is no repository: write domain/name, with * for any part of a name")
    if len(patterns) > _MOST_PATTERNS:
        raise Invalid(f"a token names at most {_MOST_PATTERNS} repositories; use * for groups of them")
    return patterns or None


def create_token(
    session: Session,
    accounts: Accounts,
    identity: Identity,
    name: str,
    *,
    actions: Sequence[str],
    repositories: tuple[str, ...] | None,
    life: timedelta,
    now: datetime,
    packages: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
) -> IssuedToken:
    """Make a token for the account itself. Raises Invalid for a bad one, Denied for an action the person lacks."""
    if not name.strip():
        raise Invalid("give the token a name, so that you know later what uses it")
    if not actions:
        raise Invalid("choose at least one thing the token may do")
    wanted = parse_actions(actions)
    if missing := wanted - set(grantable(identity)):
        raise Denied(f"a token cannot be given what you may not do yourself: {', '.join(sorted(missing))}")
    limits = Limits(
        list(repositories) if repositories is not None else None,
        list(packages) if packages is not None else None,
        list(networks) if networks is not None else None,
    )
    return minting.mint(
        session, accounts, identity, minting.Wanted(name.strip(), sorted(wanted), limits, life), now=now
    ).issued


def revoke_token(session: Session, accounts: Accounts, identity: Identity, token_id: int, now: datetime) -> None:
    """End a token with all made with it: one's own, or as administrator another's. Raises NotFound for any other."""
    row = session.execute(
        select(Token.account_id, Token.name, Account.name)
        .join(Account, Account.id == Token.account_id)
        .where(Token.id == token_id)
    ).first()
    # Somebody else's token answers as an unknown one does: ids are small numbers, and tell of nobody.
    if row is None or (row[0] != identity.account_id and not identity.may(Action.ADMIN)):
        raise NotFound("token", str(token_id))
    accounts.revoke_token(session, token_id, now)
    audit.record(session, now, identity.name, "token.revoke", f"user/{row[2]}/token/{token_id}", name=row[1])


def revoke_tokens(session: Session, identity: Identity, owner: str, kind: str | None, now: datetime) -> int:
    """End all tokens of an account, or all of one kind; returns how many ended, those made with them included.

    Who may do that to ``owner`` is checked before. Raises NotFound for no such account, Invalid for no such kind.
    """
    if kind is not None and kind not in minting.KINDS:
        raise Invalid(f"there is no kind of token called {kind!r}; kinds are {', '.join(minting.KINDS)}")
    account_id = session.scalar(select(Account.id).where(Account.name == owner))
    if account_id is None:
        raise NotFound("user", owner)
    ended = token_lines.end(session, token_lines.live_ids(session, now, account_id=account_id, kind=kind), now)
    audit.record(session, now, identity.name, "token.revoke-all", f"user/{owner}", kind=kind, ended=ended)
    return len(ended)
