"""Signing in from npm: with a browser (``npm login``), with a password (older clients), and the tokens that come of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, client_login, minting
from registry.access import Action, Identity
from registry.accounts import IssuedToken, capped
from registry.errors import Denied, Invalid, NotFound, Unauthenticated
from registry.formats.npm.bodies import answer, read_object
from registry.formats.npm.elsewhere import OWNERS
from registry.formats.npm.names import FORMAT_NAME
from registry.http import auth, context
from registry.models import Account, Token
from registry.rates import CostClass
from registry.repos.admission import Credential
from registry.scopes import EVERYWHERE, Limits, checked_networks, checked_packages
from registry.services import Services
from registry.token_shape import looks_like_token

# As long as the sign-in that ``entrepot login`` writes holds by default.
LIFE = timedelta(hours=12)
CREATED_LIFE = timedelta(days=30)
_RETRY_SECONDS = 2
_SMALL_BYTES = 64 * 1024
_ACTIONS = (Action.READ, Action.PUBLISH)
# A limit that npm's tokens can have and ours cannot: better no token than one that is thought to be narrower.
_UNKNOWN_LIMITS = ("orgs",)
_MOST_LIMITS = 50
_PERMISSIONS = (None, "", "read-only", "read-write")


def begin(services: Services, base_url: str, page_url: str) -> Response:
    """``npm login``: where the person goes, and where npm asks whether they have let it in."""
    read_object(_SMALL_BYTES)
    with services.db.write() as session:
        begun = client_login.begin(
            session,
            services.accounts,
            client=request.headers.get("User-Agent", "npm"),
            address=request.remote_addr or "unknown",
            now=services.clock(),
        )
    return answer(
        {"loginUrl": f"{page_url}?code={begun.code}", "doneUrl": f"{base_url}-/v1/done?session={begun.secret}"}
    )


def collect(services: Services) -> Response:
    """202 until somebody has let the client in, then its token, once."""
    with services.db.write() as session:
        now = services.clock()
        identity = client_login.collect(session, services.accounts, request.args.get("session", ""), now)
        if identity is None:
            return answer({}, 202, Retry_After=str(_RETRY_SECONDS))
        issued = _issue(services, session, identity, "npm login", _ACTIONS, LIFE)
    return answer({"token": issued.secret})


def by_password(services: Services, domain: str, repository: str, user: str) -> Response:
    """CouchDB's way (``PUT /-/user/org.couchdb.user:NAME``): a password for a token. Attempts are limited and counted."""
    body = read_object(_SMALL_BYTES, holds_secrets=True)
    name, password = body.get("name"), body.get("password")
    if name != user or not isinstance(password, str) or not password:
        raise Invalid("send name and password of the user in the address")
    credential = Credential(user, password, request.remote_addr or "unknown")
    now = services.clock()
    admitted = services.admissions.admit(credential, Action.READ, domain, repository, lists=True, now=now)
    assert admitted.identity is not None
    secret = password
    if not looks_like_token(password):
        with services.db.write() as session:
            secret = _issue(services, session, admitted.identity, "npm login", _ACTIONS, LIFE).secret
    return answer({"ok": True, "id": f"org.couchdb.user:{admitted.identity.name}", "token": secret}, 201)


def who() -> Response:
    """``npm whoami``."""
    return answer({"username": context.caller().name})


def profile(services: Services) -> Response:
    """``npm profile get``."""
    caller = context.caller()
    with services.db.read() as session:
        account = session.get_one(Account, caller.account_id)
        created = account.created_at.isoformat()
    return answer({"name": caller.name, "email": "", "email_verified": False, "tfa": False, "created": created})


def couch_user(user: str) -> Response:
    """What ``npm owner`` asks for before it names somebody: nobody but oneself, because nobody can be named."""
    known = context.caller().name
    if user != known:
        raise Invalid(OWNERS)  # not "denied", to which npm adds guesses of its own
    return answer({"_id": f"org.couchdb.user:{known}", "name": known, "email": ""})


def sign_out(services: Services, secret: str) -> Response:
    """``npm logout``: end the token in the address, one's own."""
    with services.db.write() as session:
        row = session.scalar(select(Token).where(Token.digest == services.accounts.digest(secret)))
        _revoke(services, session, row)
    return answer({"ok": True})


def list_tokens(services: Services) -> Response:
    """``npm token list``: those that still count."""
    caller, now = context.caller(), services.clock()
    with services.db.read() as session:
        rows = session.scalars(
            select(Token)
            .where(Token.account_id == caller.account_id, Token.revoked_at.is_(None), Token.expires_at > now)
            .order_by(Token.id.desc())
            .limit(500)
        ).all()
    return answer({"objects": [_shown(row) for row in rows], "total": len(rows), "urls": {}})


def _shown(row: Token) -> dict[str, Any]:
    return {
        "key": str(row.id),
        "token": f"…{row.last_four}",
        "name": row.name,
        "created": row.created_at.isoformat(),
        "updated": (row.last_used_at or row.created_at).isoformat(),
        "expires": row.expires_at.isoformat(),
        "readonly": row.actions == [Action.READ.value],
        "cidr_whitelist": row.networks,
        "packages": row.packages,
    }


def create_token(services: Services) -> Response:
    """``npm token create``: with the password again where the account has one, and never more than the caller has."""
    caller, body = context.caller(), read_object(_SMALL_BYTES, holds_secrets=True)
    _check_password(services, caller, body.get("password"))
    if limited := [name for name in _UNKNOWN_LIMITS if body.get(name)]:
        raise Invalid(f"tokens cannot be limited by {', '.join(limited)} here; make one on the page of your account")
    days = body.get("expires", CREATED_LIFE.days)
    if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= 366:
        raise Invalid("a token expires after 1 to 366 days")
    permission = body.get("packages_and_scopes_permission")
    if permission not in _PERMISSIONS:
        raise Invalid("a token is read-only or read-write here")
    readonly = bool(body.get("readonly")) or permission == "read-only"
    name = body.get("name")
    with services.db.write() as session:
        issued = _issue(
            services,
            session,
            caller,
            name[:100] if isinstance(name, str) and name.strip() else "npm token",
            _ACTIONS[:1] if readonly else _ACTIONS,
            timedelta(days=days),
            limits=_limits(services, body),
            kind=minting.PERSONAL,
        )
        shown = _shown(session.get_one(Token, issued.id))
    return answer({**shown, "token": issued.secret}, 201)


def _limits(services: Services, body: dict[str, Any]) -> Limits:
    """What npm calls a token's packages, scopes and CIDR whitelist."""
    packages = [f"{FORMAT_NAME}/{name}" for name in _texts(body, "packages")]
    packages += [f"{FORMAT_NAME}/{scope.removeprefix('@')}/*" for scope in _texts(body, "scopes")]
    networks = _texts(body, "cidr_whitelist")
    return Limits(None, checked_packages(packages or None, services.formats), checked_networks(networks or None))


def _texts(body: dict[str, Any], name: str) -> list[str]:
    said = body.get(name) or []
    if not isinstance(said, list) or len(said) > _MOST_LIMITS or any(not isinstance(each, str) for each in said):
        raise Invalid(f"{name} is a list of at most {_MOST_LIMITS} texts")
    return said


def _check_password(services: Services, caller: Identity, password: object) -> None:
    with services.db.read() as session:
        has_password = session.get_one(Account, caller.account_id).password_hash is not None
    if not has_password:
        return
    # Not as "unauthenticated", of which npm says that the token is invalid.
    if not isinstance(password, str) or looks_like_token(password):
        raise Invalid("the password is wrong")
    credential = Credential(caller.name, password, request.remote_addr or "unknown")
    try:
        services.admissions.identify(credential, services.clock())
    except Unauthenticated as error:
        raise Invalid("the password is wrong") from error


def delete_token(services: Services, key: str) -> Response:
    """``npm token revoke``: by the key that the list shows."""
    with services.db.write() as session:
        row = session.get(Token, int(key)) if key.isascii() and key.isdigit() and len(key) < 16 else None
        _revoke(services, session, row)
    return Response(status=204)


def _revoke(services: Services, session: Session, row: Token | None) -> None:
    caller, now = context.caller(), services.clock()
    if row is None or row.account_id != caller.account_id:
        raise NotFound("token", "of yours")
    services.accounts.revoke_token(session, row.id, now)
    audit.record(session, now, caller.name, "token.revoke", f"user/{caller.name}/token/{row.id}", name=row.name)


def _issue(
    services: Services,
    session: Session,
    identity: Identity,
    name: str,
    actions: tuple[Action, ...],
    life: timedelta,
    *,
    limits: Limits = EVERYWHERE,
    kind: str = minting.LOGIN,
) -> IssuedToken:
    """A token that may what the maker may, as far as package clients need it, and ends with the maker's own."""
    auth.charge(CostClass.MINT)
    now = services.clock()
    audit.proved_by(identity.via)
    words = capped(actions, identity)
    if not words:
        raise Denied(f"{identity.name} may neither read nor publish packages")
    wanted = minting.Wanted(name, [Action(word) for word in words], limits, life, kind)
    return minting.mint(session, services.accounts, identity, wanted, now=now).issued
