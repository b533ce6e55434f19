"""Signing in and out, and the one-time sign-in of a first start or a lost password."""

from __future__ import annotations

import logging
from datetime import timedelta

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from registry import attempts, self_service
from registry.accounts import BY_LINK, has_second_factor
from registry.errors import RateLimited, Unauthenticated, Unavailable
from registry.http import context
from registry.http.auth import before_second_factor, cookie_name, open_page, page
from registry.pages.appearance import keep_cookie, keep_session, redirect_with, viewer
from registry.pages.links import safe_next
from registry.pages.second_factor import ask_for_code, browser

SETUP_COOKIE = "entrepot_setup"
SETUP_COOKIE_LIFE = timedelta(minutes=30)
LARGEST_FORM_BYTES = 256 * 1024

log = logging.getLogger("entrepot.pages")


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/sign-in", "sign_in", _show_sign_in)
    pages.add_url_rule("/sign-in", "do_sign_in", _sign_in, methods=["POST"])
    pages.add_url_rule("/sign-out", "sign_out", _sign_out, methods=["POST"])
    pages.add_url_rule("/setup", "setup", _show_setup)
    pages.add_url_rule("/setup", "do_setup", _setup, methods=["POST"])
    pages.before_app_request(_limit_form)
    pages.after_app_request(_note_use)


def _limit_form() -> None:
    # A form is read to check its token before anybody knows who sends it; files are uploaded elsewhere.
    if request.blueprint is not None and "pages" in request.blueprint:
        request.max_content_length = LARGEST_FORM_BYTES


def _note_use(response: Response) -> Response:
    """Keep a session that is in use from ending as idle; a page left open that only polls does not count as use."""
    if context.browser_session() is None or request.headers.get("Sec-Fetch-Dest") == "empty":
        return response
    services = context.services()
    secret, now = request.cookies.get(cookie_name(), ""), services.clock()
    try:
        with services.db.read() as session:
            is_due = self_service.is_use_due(session, services.accounts, secret, now)
        if is_due:
            with services.db.write() as session:
                services.accounts.touch_session(session, secret, now)
    except Unavailable:
        log.warning("the use of a session could not be noted; the answer itself is not concerned")
    return response


@open_page("one has to be able to sign in")
@before_second_factor
def _show_sign_in() -> ResponseReturnValue:
    target = safe_next(request.args.get("next"))
    if viewer() is not None:
        return redirect(target, 303)
    return _sign_in_form(target)


def _sign_in_form(target: str, user: str = "", message: str = "") -> str:
    services = context.services()
    return render_template(
        "sign_in.html",
        next=target,
        user=user,
        message=message,
        passwords=services.accounts.sign_in_rules.passwords,
        providers=services.relying.providers.values(),
    )


@open_page("one has to be able to sign in; attempts are limited by account and by address")
@before_second_factor
def _sign_in() -> ResponseReturnValue:
    services = context.services()
    now, address = services.clock(), request.remote_addr or "unknown"
    target, user = safe_next(request.form.get("next")), request.form.get("user", "").strip()
    if not services.accounts.sign_in_rules.passwords:
        return _sign_in_form(target, user, "passwords are switched off on this server"), 403
    try:
        with services.db.read() as session:
            attempts.check_attempt(session, user, address, now)
            identity = services.accounts.check_password(session, user, request.form.get("password", ""), now)
            needs_code = has_second_factor(session, identity.account_id)
    except RateLimited as error:
        return _sign_in_form(target, user, str(error)), 429, {"Retry-After": str(error.retry_after_seconds)}
    except Unauthenticated as error:
        with services.db.write() as session:
            attempts.note_failure(session, user, address, now)
        # 403 and not 401: no Authorization header would help here, and a 401 has to ask for one (RFC 9110 §15.5.2).
        return _sign_in_form(target, user, str(error)), 403
    if needs_code:
        return ask_for_code(identity.account_id, "password", target)
    with services.db.write() as session:
        secret = self_service.sign_in(
            session, services.accounts, identity.account_id, "password", now, browser=browser(), proved_at=now
        )
    return keep_session(redirect(target, 303), secret)


@page
@before_second_factor
def _sign_out() -> ResponseReturnValue:
    services = context.services()
    with services.db.write() as session:
        self_service.sign_out(
            session, services.accounts, context.caller(), request.cookies[cookie_name()], services.clock()
        )
    return without_session(redirect_with("signed-out", url_for("pages.sign_in")))


def without_session(response: Response) -> Response:
    """Take the session's cookie back."""
    response.delete_cookie(cookie_name(), secure=context.services().cookie_secure, httponly=True, samesite="Lax")
    return response


@open_page("whoever holds the link is not signed in yet; looking spends nothing")
@before_second_factor
def _show_setup() -> ResponseReturnValue:
    code = request.args.get("code")
    if code is None:
        return _setup_form()
    # Off the address at once: it would stay in the history, be sent as a referrer, or be read over a shoulder. And
    # nothing is spent by looking: mail scanners and chat previews open every link.
    response = redirect(url_for("pages.setup"), 303)
    keep_cookie(response, SETUP_COOKIE, code[:200], SETUP_COOKIE_LIFE, path=url_for("pages.setup"))
    return response


def _setup_form(message: str = "") -> str:
    return render_template("setup.html", has_code=SETUP_COOKIE in request.cookies, message=message)


@open_page("the one-time code is the credential")
@before_second_factor
def _setup() -> ResponseReturnValue:
    services = context.services()
    now, address = services.clock(), request.remote_addr or "unknown"
    try:
        with services.db.write() as session:
            account_id = services.accounts.use_setup_login(session, request.cookies.get(SETUP_COOKIE, ""), now)
            needs_code = has_second_factor(session, account_id)
            secret = (
                ""
                if needs_code
                else self_service.sign_in(
                    session, services.accounts, account_id, BY_LINK, now, browser=browser(), proved_at=now
                )
            )
    except Unauthenticated as error:
        with services.db.write() as session:
            attempts.note_failure(session, BY_LINK, address, now)
        return _setup_form(str(error)), 403
    target = url_for("pages.password")
    response = ask_for_code(account_id, BY_LINK, target) if needs_code else keep_session(redirect(target, 303), secret)
    response.delete_cookie(SETUP_COOKIE, path=url_for("pages.setup"), secure=services.cookie_secure, httponly=True)
    return response
