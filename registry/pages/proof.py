"""Proving again who one is: what is dangerous asks for it when the last proof is more than ten minutes old.

A borrowed or stolen session can look around, and no more. ``proved`` stands beneath the page door; what was asked for goes
on afterwards: the form's fields wait in the page that asks, or, where they would be secrets, the form is shown again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Blueprint, Flask, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from registry import attempts, audit, second_factor
from registry.accounts import PROOF_LIFE, has_second_factor
from registry.errors import RateLimited, Unauthenticated
from registry.http import context
from registry.http.auth import CSRF_FIELD, before_second_factor, cookie_name, page
from registry.http.problems import status_of
from registry.models import Account
from registry.oidc import people
from registry.pages.appearance import keep_session
from registry.pages.links import safe_next

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

PASSWORD_FIELD = "proof_password"  # noqa: S105  (a field's name)
CODE_FIELD = "proof_code"
_DECLARATION = "entrepot_proof"
_OWN_FIELDS = frozenset({PASSWORD_FIELD, CODE_FIELD, CSRF_FIELD, "proof_user"})
_MINUTES = int(PROOF_LIFE.total_seconds()) // 60


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/account/prove", "prove", _show)
    pages.add_url_rule("/account/prove", "do_prove", _prove, methods=["POST"])


def proved(*, back: str = "") -> Callable[[View], View]:
    """Beneath the page door: only for who proved within ten minutes who they are; asks for it otherwise.

    ``back`` is the endpoint of the page that has the form: where its fields are secrets it is shown again, instead of
    keeping them.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            browser = context.browser_session()
            if browser is not None and browser.is_proved(context.services().clock()):
                return view(*args, **kwargs)
            if back or request.method != "POST":
                target = url_for(back) if back else request.full_path.rstrip("?")
                return redirect(url_for("pages.prove", next=target), 303)
            if PASSWORD_FIELD not in request.form:
                return _form(request.path, _came_from(), fields=_carried()), 403
            try:
                secret = _prove_by_password()
            except (Unauthenticated, RateLimited) as error:
                answer = _form(request.path, _came_from(), fields=_carried(), message=str(error))
                return answer, 403 if isinstance(error, Unauthenticated) else status_of(error)
            return keep_session(make_response(view(*args, **kwargs)), secret)

        setattr(wrapped, _DECLARATION, back or "asks in between")
        return cast("View", wrapped)

    return decorate


def declared(app: Flask) -> dict[str, str]:
    """Endpoint → how it asks, for all routes that want a fresh proof."""
    found = {endpoint: getattr(view, _DECLARATION, "") for endpoint, view in app.view_functions.items()}
    return {endpoint: how for endpoint, how in found.items() if how}


@page
@before_second_factor
def _show() -> ResponseReturnValue:
    target, browser = safe_next(request.args.get("next")), context.browser_session()
    if browser is not None and browser.is_proved(context.services().clock()):
        return redirect(target, 303)
    return _form(url_for("pages.prove"), target, fields=[("next", target)])


@page
@before_second_factor
def _prove() -> ResponseReturnValue:
    target = safe_next(request.form.get("next"))
    try:
        secret = _prove_by_password()
    except (Unauthenticated, RateLimited) as error:
        answer = _form(url_for("pages.prove"), target, fields=[("next", target)], message=str(error))
        return answer, 403 if isinstance(error, Unauthenticated) else status_of(error)
    return keep_session(redirect(target, 303), secret)


def _carried() -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.form.items(multi=True) if name not in _OWN_FIELDS]


def _came_from() -> str:
    """The page whose form was sent: shown again to who proves by an identity provider, which leads away from here."""
    referrer = urlsplit(request.headers.get("Referer", ""))
    return safe_next(f"{referrer.path}?{referrer.query}" if referrer.query else referrer.path)


def _prove_by_password() -> str:
    """Take password and code; returns the session's new id. Limited, and counted, as signing in is.

    Raises Unauthenticated and RateLimited.
    """
    services, who = context.services(), context.caller()
    now, address = services.clock(), request.remote_addr or "unknown"
    sealer, failed = services.stores.server_keyring(), attempts.FAILED
    if not services.accounts.sign_in_rules.passwords:
        raise Unauthenticated("passwords are switched off on this server")
    try:
        with services.db.read() as session:
            attempts.check_attempt(session, who.name, address, now)
            attempts.check_code(session, who.name, now)
            services.accounts.check_password(session, who.name, request.form.get(PASSWORD_FIELD, ""), now)
        with services.db.write() as session:
            if has_second_factor(session, who.account_id):
                failed, code = attempts.FAILED_CODE, request.form.get(CODE_FIELD, "")
                second_factor.take(session, services.accounts, who.account_id, code, sealer, now)
            secret = services.accounts.renew_session(session, request.cookies[cookie_name()], now)
            audit.record(session, now, who.name, "session.prove", f"user/{who.name}", by="password", address=address)
            browser = services.accounts.browser_session(session, secret, now)
    except Unauthenticated as error:
        with services.db.write() as session:
            attempts.note_failure(session, who.name, address, now, failed)
        raise Unauthenticated("the password or the code is wrong") from error
    context.remember(who=who, browser=browser)
    return secret


def _form(action: str, target: str, *, fields: list[tuple[str, str]], message: str = "") -> str:
    services, who = context.services(), context.caller()
    known = services.relying.providers.values()
    with services.db.read() as session:
        account = session.get_one(Account, who.account_id)
        by_password = account.password_hash is not None and services.accounts.sign_in_rules.passwords
        needs_code = has_second_factor(session, who.account_id)
        names = people.identities(session, who.account_id, {each.issuer: each.name for each in known})
    return render_template(
        "prove.html",
        action=action,
        target=target,
        fields=fields,
        message=message,
        by_password=by_password,
        needs_code=needs_code,
        providers=[services.relying.providers[name] for name in names],
        minutes=_MINUTES,
    )
