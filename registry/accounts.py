"""Accounts, passwords, tokens and browser sessions. Secrets leave this module once, at creation, and are kept as digests."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from registry import token_lines
from registry.access import Action, Identity, Scope, parse_actions
from registry.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from registry.models import Account, PendingSignIn, SetupLogin, Token, Totp, WebSession
from registry.names import account_name
from registry.policy.book import Standing
from registry.rulebook import Rulebooks
from registry.token_shape import new_token

PASSWORD_MINIMUM_CHARACTERS = 12
SESSION_IDLE = timedelta(hours=12)
SESSION_LIFE = timedelta(days=7)
SETUP_LOGIN_LIFE = timedelta(hours=24)
TOKEN_SHORTEST = timedelta(minutes=1)
TOKEN_LONGEST = timedelta(days=366)
TOKEN_USUAL_LIFE = timedelta(days=90)
"""How long a token lives for which nobody said so: the longest that is reasonable for one that may publish."""
LAST_USED_GRAIN = timedelta(minutes=10)
BY_LINK = "one-time link"
BY_PROVIDER = "provider "
PROOF_LIFE = timedelta(minutes=10)
# Who came by a one-time link has no other proof to give, and may need some minutes to choose a password.
LINK_PROOF_LIFE = timedelta(minutes=30)

_hasher = PasswordHasher()
# Each Argon2 run takes 64 MiB; more than four at once would let sign-in attempts eat the server's memory.
_hashing = threading.BoundedSemaphore(4)


@cache
def _nobody_hash() -> str:
    """Verified against for unknown names, so that "no such user" takes as long as "wrong password"."""
    return _hasher.hash(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token: ``secret`` is shown to its owner now and never again."""

    id: int
    secret: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignInRules:
    """What the administrator decided about signing in. With ``passwords`` off only the one-time link is left of them."""

    passwords: bool = True
    second_factor: bool = False


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A signed-in browser: who, and the token its forms carry against request forgery.

    ``proved_at`` is when somebody last proved in it who they are. While ``must_enrol``, the account has to get a second
    factor before anything else.
    """

    identity: Identity
    csrf_token: str
    by: str = ""
    proved_at: datetime | None = None
    must_enrol: bool = False

    def is_proved(self, now: datetime) -> bool:
        """Whether that was lately enough for what is dangerous."""
        life = LINK_PROOF_LIFE if self.by.startswith(BY_LINK) else PROOF_LIFE
        return self.proved_at is not None and now - self.proved_at <= life


def account_scope(account: Account) -> Scope:
    """What an account may do itself."""
    return _scope(account.actions, account.repositories)


Limit = Sequence[str] | None


def _scope(actions: Iterable[str], repositories: Limit, packages: Limit = None, networks: Limit = None) -> Scope:
    return Scope(
        parse_actions(actions),
        None if repositories is None else tuple(repositories),
        None if packages is None else tuple(packages),
        None if networks is None else tuple(networks),
    )


def token_identity(
    name: str,
    account_id: int,
    account: tuple[Sequence[str], Limit],
    token: tuple[Sequence[str], Limit, Limit, Limit],
    standing: Standing | None = None,
    *,
    token_id: int,
    expires_at: datetime,
) -> Identity:
    """The identity behind a valid token: the account's scope and the token's, both of which must allow an act.

    ``token`` has its actions, repositories, packages and networks; ``standing`` the rules that hold for the account.
    """
    scopes = (_scope(*account), _scope(*token))
    return Identity(name, account_id, scopes, "token", standing, token_id, expires_at)


class Accounts:
    """Everything about who somebody is. Holds the pepper, so that a copied database verifies nothing."""

    def __init__(self, pepper: bytes, rules: SignInRules = SignInRules()) -> None:
        self._pepper = pepper
        self.rules = Rulebooks()
        self.sign_in_rules = rules
        self._verified_lock = threading.Lock()
        self._verified: dict[bytes, datetime] = {}

    def digest(self, secret: str) -> str:
        """How a secret is kept: HMAC-SHA256 under the pepper, hex. 256 random bits need no slow hash."""
        return hmac.new(self._pepper, secret.encode(), hashlib.sha256).hexdigest()

    def create(
        self,
        session: Session,
        name: str,
        *,
        actions: Iterable[str],
        repositories: Sequence[str] | None = None,
        password: str | None = None,
        is_service: bool = False,
        now: datetime,
    ) -> Account:
        """Add an account. Raises Invalid for a bad name, action or password, Conflict for a taken name."""
        checked = account_name(name)
        if is_service and password is not None:
            raise Invalid("a service account has no password; it uses tokens")
        words = sorted(parse_actions(actions))
        if session.scalar(select(Account.id).where(Account.name == checked)) is not None:
            raise Conflict(f"user {name} exists already")
        hashed = self.hash_password(password) if password is not None else None
        account = Account(
            name=checked,
            actions=[word.value for word in words],
            repositories=list(repositories) if repositories is not None else None,
            password_hash=hashed,
            is_disabled=False,
            is_service=is_service,
            created_at=now,
        )
        session.add(account)
        session.flush()
        return account

    def hash_password(self, password: str) -> str:
        """Argon2id hash of an acceptable password. Raises Invalid for one that is too short or too long."""
        if len(password) < PASSWORD_MINIMUM_CHARACTERS:
            raise Invalid(f"a password needs at least {PASSWORD_MINIMUM_CHARACTERS} characters")
        if len(password) > 1000:
            raise Invalid("a password has at most 1000 characters")
        with _hashing:
            return _hasher.hash(password)

    def identity_by_password(self, session: Session, name: str, password: str, now: datetime) -> Identity:
        """Who a tool or script is by its password. Raises Unauthenticated, the same for every reason.

        Where a password alone does not open the pages, it opens nothing else either: raises Denied, which says what to
        do, to who knew the password.
        """
        if not self.sign_in_rules.passwords:
            raise Unauthenticated("passwords are switched off on this server; use an access token")
        identity = self.check_password(session, name, password, now)
        if self.sign_in_rules.second_factor or has_second_factor(session, identity.account_id):
            raise Denied(
                "the account has, or needs, a second factor, and a password alone is not enough: use an access token"
            )
        return identity

    def check_password(self, session: Session, name: str, password: str, now: datetime) -> Identity:
        """Whose password that is: the first factor, or the only one. Raises Unauthenticated, the same for every reason."""
        account = session.scalar(select(Account).where(Account.name == name))
        stored = account.password_hash if account and account.password_hash else _nobody_hash()
        matches = self._password_matches(stored, password, now)
        if account is None or account.password_hash is None or account.is_disabled or not matches:
            raise Unauthenticated("user name or password is wrong")
        if account.is_service:
            raise Unauthenticated("user name or password is wrong")
        identity = Identity(account.name, account.id, (account_scope(account),), "password")
        return self.rules.with_rules(session, identity, now)

    def _password_matches(self, stored: str, password: str, now: datetime) -> bool:
        # Clients with Basic send the password with each request; without this memory every file of an install would
        # cost 135 ms of hashing. The key covers the stored hash: a changed password is never found here.
        key = hmac.new(self._pepper, f"{stored}\0{password}".encode(), hashlib.sha256).digest()
        with self._verified_lock:
            until = self._verified.get(key)
        if until is not None and now < until:
            return True
        with _hashing:
            try:
                _hasher.verify(stored, password)
            except (VerifyMismatchError, InvalidHashError):
                return False
        with self._verified_lock:
            if len(self._verified) > 1000:
                self._verified.clear()
            self._verified[key] = now + timedelta(seconds=60)
        return True

    def issue_token(
        self,
        session: Session,
        account_id: int,
        name: str,
        *,
        actions: Iterable[str],
        repositories: Sequence[str] | None = None,
        packages: Sequence[str] | None = None,
        networks: Sequence[str] | None = None,
        life: timedelta,
        now: datetime,
        kind: str = "personal",
        created_by: str = "",
        parent_id: int | None = None,
    ) -> IssuedToken:
        """Make a token. Raises Invalid for unknown actions or a life that is not within a minute and a year.

        One made with a token (``parent_id``) ends no later than that. Raises Unauthenticated when that has ended.
        """
        words = sorted(parse_actions(actions))
        if not TOKEN_SHORTEST <= life <= TOKEN_LONGEST:
            raise Invalid("a token lives at least a minute and at most 366 days")
        root_id, expires_at = None, now + life
        if parent_id is not None:
            root_id, parent_expires_at = token_lines.join(session, parent_id, now)
            expires_at = min(expires_at, parent_expires_at)
            if expires_at - now < TOKEN_SHORTEST:
                raise Invalid("the token that this one would be made with ends in less than a minute")
        secret = new_token()
        token = Token(
            account_id=account_id,
            kind=kind,
            name=name[:100],
            digest=self.digest(secret),
            last_four=secret[-4:],
            actions=[word.value for word in words],
            repositories=list(repositories) if repositories is not None else None,
            packages=list(packages) if packages is not None else None,
            networks=list(networks) if networks is not None else None,
            created_at=now,
            expires_at=expires_at,
            created_by=created_by,
            parent_id=parent_id,
            root_id=root_id,
        )
        session.add(token)
        session.flush()
        return IssuedToken(token.id, secret, token.expires_at)

    def revoke_token(self, session: Session, token_id: int, now: datetime) -> None:
        """End a token and all made with it; counts from the next request on. Ending it twice is harmless."""
        token_lines.end(session, [token_id], now)

    def open_session(
        self,
        session: Session,
        account_id: int,
        now: datetime,
        *,
        by: str = "password",
        proved_at: datetime | None = None,
        address: str = "",
        user_agent: str = "",
    ) -> str:
        """Sign a browser in; returns the cookie's value. A new id each time, so that none can be planted before."""
        secret = secrets.token_urlsafe(32)
        session.add(
            WebSession(
                digest=self.digest(secret),
                account_id=account_id,
                csrf_token=secrets.token_urlsafe(32),
                created_at=now,
                seen_at=now,
                expires_at=now + SESSION_LIFE,
                by=by[:64],
                proved_at=proved_at,
                address=address[:100],
                user_agent="".join(filter(str.isprintable, user_agent))[:300],
            )
        )
        return secret

    def renew_session(self, session: Session, secret: str, now: datetime) -> str:
        """Somebody proved again who they are: the session goes on under a new id. Raises Unauthenticated when it is over.

        It keeps its end: proving again and again does not make it last for ever.
        """
        fresh, csrf_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        done = session.execute(
            update(WebSession)
            .where(WebSession.digest == self.digest(secret))
            .values(digest=self.digest(fresh), csrf_token=csrf_token, proved_at=now, seen_at=now)
        )
        if done.rowcount != 1:  # type: ignore[attr-defined]
            raise Unauthenticated("sign in to do this")
        return fresh

    def browser_session(self, session: Session, secret: str, now: datetime) -> BrowserSession | None:
        """The session behind a cookie, or None when it is unknown, idle for too long, over, or its account disabled."""
        row = session.execute(
            select(WebSession, Account, Totp.confirmed_at)
            .join(Account, Account.id == WebSession.account_id)
            .outerjoin(Totp, Totp.account_id == Account.id)
            .where(WebSession.digest == self.digest(secret))
        ).first()
        if row is None:
            return None
        web, account, confirmed_at = row
        if account.is_disabled or account.is_service or now >= web.expires_at or now - web.seen_at > SESSION_IDLE:
            return None
        identity = Identity(account.name, account.id, (account_scope(account),), "session")
        return BrowserSession(
            self.rules.with_rules(session, identity, now),
            web.csrf_token,
            web.by,
            web.proved_at,
            # A provider asks for factors of its own.
            self.sign_in_rules.second_factor and confirmed_at is None and not web.by.startswith(BY_PROVIDER),
        )

    def touch_session(self, session: Session, secret: str, now: datetime) -> None:
        """Note that a session is in use; at most once in ten minutes, to spare the database."""
        session.execute(
            update(WebSession)
            .where(WebSession.digest == self.digest(secret), WebSession.seen_at < now - LAST_USED_GRAIN)
            .values(seen_at=now)
        )

    def close_session(self, session: Session, secret: str) -> None:
        """Sign a browser out."""
        web = session.get(WebSession, self.digest(secret))
        if web is not None:
            session.delete(web)

    def new_setup_login(
        self, session: Session, account_id: int, now: datetime, life: timedelta = SETUP_LOGIN_LIFE
    ) -> str:
        """A one-time sign-in secret, valid for a day unless ``life`` says otherwise."""
        if session.scalar(select(Account.is_service).where(Account.id == account_id)):
            raise Invalid("a service account does not sign in with a browser; it uses tokens")
        secret = secrets.token_urlsafe(24)
        session.add(
            SetupLogin(digest=self.digest(secret), account_id=account_id, created_at=now, expires_at=now + life)
        )
        return secret

    def use_setup_login(self, session: Session, secret: str, now: datetime) -> int:
        """Spend a one-time sign-in; returns the account's id. Raises Unauthenticated when unknown, spent or over.

        The UPDATE decides, so that of two simultaneous uses exactly one wins.
        """
        digest = self.digest(secret)
        spent = session.execute(
            update(SetupLogin)
            .where(SetupLogin.digest == digest, SetupLogin.used_at.is_(None), SetupLogin.expires_at > now)
            .values(used_at=now)
        )
        row = session.get(SetupLogin, digest)
        if row is None or spent.rowcount != 1:  # type: ignore[attr-defined]
            raise Unauthenticated(
                "this sign-in link is not valid any more; make a new one with 'entrepot user recover'"
            )
        return row.account_id


def has_second_factor(session: Session, account_id: int) -> bool:
    """Whether an account has a second factor that counts."""
    return session.scalar(select(Totp.confirmed_at).where(Totp.account_id == account_id)) is not None


def end_sessions(session: Session, account_id: int) -> int:
    """Sign all browsers of an account out, those between two steps included; returns how many were signed in."""
    session.execute(delete(PendingSignIn).where(PendingSignIn.account_id == account_id))
    gone = session.execute(delete(WebSession).where(WebSession.account_id == account_id))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def find_account(session: Session, name: str) -> Account:
    """The account of that name. Raises NotFound."""
    account = session.scalar(select(Account).where(Account.name == name))
    if account is None:
        raise NotFound("user", name)
    return account


def capped(actions: Iterable[Action], identity: Identity) -> list[str]:
    """Those of ``actions`` the identity has itself somewhere: what a token derived from it can be given."""
    return [
        action.value
        for action in actions
        if identity.could(action)
        and all(Action.ADMIN in scope.actions or action in scope.actions for scope in identity.scopes[1:])
    ]
