"""Signing in with an identity provider: sending the browser there, and taking it back.

The way there and back belongs to one browser (a cookie), one provider (its own return address) and one use (a row that is
deleted); anything else that comes back is refused before the provider is asked about it.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from registry import audit, pending, self_service
from registry.accounts import BY_PROVIDER, PROOF_LIFE
from registry.errors import Denied, Problem, Unauthenticated, Unavailable
from registry.http import context
from registry.http.auth import before_second_factor, cookie_name, open_page
from registry.http.problems import status_of
from registry.models import Account
from registry.oidc import id_tokens, people
from registry.oidc.provider import Provider
from registry.pages.appearance import keep_cookie, keep_session, redirect_with
from registry.pages.links import safe_next
from registry.pages.second_factor import browser

COOKIE = "entrepot_provider"
SIGN_IN, PROVE, BIND = "sign-in", "prove", "bind"
_PURPOSES = (SIGN_IN, PROVE, BIND)
_CLOCKS_DIFFER = timedelta(seconds=id_tokens.LEEWAY_SECONDS)
_ERROR_WORD = re.compile(r"[a-z_]{1,40}\Z")
_LONGEST_CODE = 2000

log = logging.getLogger("entrepot.pages")


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/sign-in/with/<provider>", "to_provider", _go)
    pages.add_url_rule("/sign-in/with/<provider>/return", "from_provider", _return)


@open_page("one has to be able to sign in; it only sends a browser to a provider that the administrator configured")
@before_second_factor
def _go(provider: str) -> ResponseReturnValue:
    services = context.services()
    known = services.relying.provider(provider)
    purpose, target = request.args.get("purpose", SIGN_IN), safe_next(request.args.get("next"))
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return redirect(url_for("pages.sign_in", next=target), 303)  # another site begins no sign-in here
    present = context.browser_session()
    if purpose not in _PURPOSES or (purpose != SIGN_IN and present is None):
        return redirect(url_for("pages.sign_in", next=target), 303)
    if purpose == BIND and present is not None and not present.is_proved(services.clock()):
        return redirect(url_for("pages.prove", next=url_for("pages.account")), 303)
    try:
        return _send_away(known, purpose, target)
    except Unavailable as error:
        return _failed(known, error)


def _send_away(provider: Provider, purpose: str, target: str) -> Response:
    services, who = context.services(), context.identity()
    with services.db.write() as session:
        secret = pending.begin(
            session,
            services.accounts,
            pending.PROVIDER,
            address=browser().address,
            target=target,
            now=services.clock(),
            account_id=who.account_id if who is not None and purpose != SIGN_IN else None,
            provider=provider.name,
            purpose=purpose,
        )
    told = {what: pending.derived(services.accounts, secret, what) for what in ("state", "nonce", "verifier")}
    response = redirect(services.relying.authorization_url(provider, **told, fresh=purpose == PROVE), 303)
    keep_cookie(response, COOKIE, secret, pending.LIFE, path="/sign-in/with")
    return response


@open_page("the cookie of the browser that was sent away, and the provider's one-time code, are the credential")
@before_second_factor
def _return(provider: str) -> ResponseReturnValue:
    services = context.services()
    known = services.relying.provider(provider)
    try:
        step, claims = _came_back(known)
        return _arrived(known, step, claims)
    except (Unauthenticated, Denied, Unavailable) as error:
        log.warning("sign-in with %s: %s", known.name, error)
        return _failed(known, error)


def _came_back(provider: Provider) -> tuple[pending.Pending, dict[str, Any]]:
    """What the provider says of whom it sent back. Raises Unauthenticated and Unavailable."""
    services, secret = context.services(), request.cookies.get(COOKIE, "")
    now, state = services.clock(), request.args.get("state", "")
    expected = pending.derived(services.accounts, secret, "state")
    if not secret or not hmac.compare_digest(state.encode(), expected.encode()):
        raise Unauthenticated("this sign-in was not begun in this browser, or took too long; begin again")
    with services.db.write() as session:
        step = pending.spend(session, services.accounts, pending.PROVIDER, secret, now)
    if step.provider != provider.name:
        raise Unauthenticated("this sign-in was begun with another identity provider")
    if "error" in request.args:
        word = request.args["error"]
        raise Unauthenticated(f"the identity provider says: {word if _ERROR_WORD.match(word) else 'no'}")
    code = request.args.get("code", "")
    if not 0 < len(code) <= _LONGEST_CODE:
        raise Unauthenticated("the identity provider's answer has no code")
    claims = services.relying.claims(
        provider,
        code,
        nonce=pending.derived(services.accounts, secret, "nonce"),
        verifier=pending.derived(services.accounts, secret, "verifier"),
        said_issuer=request.args.get("iss"),
        now=now,
    )
    return step, claims


def _arrived(provider: Provider, step: pending.Pending, claims: Mapping[str, Any]) -> Response:
    services, who = context.services(), context.identity()
    now, by = services.clock(), f"{BY_PROVIDER}{provider.name}"
    if step.purpose != SIGN_IN and (who is None or who.account_id != step.account_id):
        raise Unauthenticated("you are not signed in any more as who you were when this was begun")
    with services.db.write() as session:
        if step.purpose == BIND:
            account = session.get_one(Account, step.account_id)
            people.check_email(provider, claims)
            people.bind(session, account, provider, claims, now)
            response = redirect_with("connected", url_for("pages.account"))
        elif step.purpose == PROVE:
            proved = people.bound(session, provider, claims)
            if proved is None or proved.id != step.account_id:
                raise Denied("the identity provider named somebody else than who is signed in here")
            if not _is_fresh(provider, claims, step.created_at):
                raise Denied("the identity provider does not say that you signed in there just now")
            secret = services.accounts.renew_session(session, request.cookies[cookie_name()], now)
            audit.record(session, now, proved.name, "session.prove", f"user/{proved.name}", by=by)
            response = keep_session(redirect(step.target, 303), secret)
        else:
            account = people.arrive(session, services.accounts, provider, claims, now)
            seen = _signed_in_at(claims)
            proved_at = min(seen, now) if seen is not None and now - seen <= PROOF_LIFE else None
            secret = self_service.sign_in(
                session, services.accounts, account.id, by, now, browser=browser(), proved_at=proved_at
            )
            response = keep_session(redirect(step.target, 303), secret)
    response.delete_cookie(COOKIE, path="/sign-in/with", secure=services.cookie_secure, httponly=True)
    return response


def _signed_in_at(claims: Mapping[str, Any]) -> datetime | None:
    seconds = id_tokens.authenticated_at(claims)
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _is_fresh(provider: Provider, claims: Mapping[str, Any], since: datetime) -> bool:
    seen = _signed_in_at(claims)
    return provider.fresh_without_auth_time if seen is None else seen >= since - _CLOCKS_DIFFER


def _failed(provider: Provider, error: Problem) -> ResponseReturnValue:
    """A page that says why, and leads back. 403 where it is somebody's doing: no other header would help."""
    status = 403 if isinstance(error, Unauthenticated) else status_of(error)
    passwords = context.services().accounts.sign_in_rules.passwords
    return render_template("provider_failed.html", provider=provider, message=str(error), passwords=passwords), status
