"""The second factor: asked for when somebody signs in, set up, and removed."""

from __future__ import annotations

import io
from base64 import b64encode

import segno
from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from registry import attempts, pending, second_factor, self_service
from registry.accounts import BY_LINK
from registry.errors import RateLimited, Unauthenticated
from registry.http import context
from registry.http.auth import before_second_factor, open_page, page
from registry.models import Account
from registry.pages.appearance import keep_cookie, keep_session, redirect_with
from registry.pages.proof import proved
from registry.repos import shelf

COOKIE = "entrepot_second_factor"
ISSUER = "Entrepot"
_QR_MODULE_PIXELS = 4


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/sign-in/second-factor", "sign_in_code", _show_code)
    pages.add_url_rule("/sign-in/second-factor", "do_sign_in_code", _take_code, methods=["POST"])
    pages.add_url_rule("/account/second-factor", "second_factor", _show)
    pages.add_url_rule("/account/second-factor", "set_up_second_factor", _begin, methods=["POST"])
    pages.add_url_rule("/account/second-factor/confirm", "confirm_second_factor", _confirm, methods=["POST"])
    pages.add_url_rule("/account/second-factor/codes", "new_recovery_codes", _new_codes, methods=["POST"])
    pages.add_url_rule("/account/second-factor/codes.txt", "download_codes", _download, methods=["POST"])
    pages.add_url_rule("/account/second-factor/remove", "remove_second_factor", _remove, methods=["POST"])


def browser() -> self_service.Browser:
    """Where the browser of this request is, and what it calls itself."""
    return self_service.Browser(request.remote_addr or "unknown", request.headers.get("User-Agent", ""))


def way() -> str:
    """How the session of this request was signed in, for one that takes its place; a one-time link is no way any more."""
    present = context.browser_session()
    return present.by if present is not None and not present.by.startswith(BY_LINK) else "password"


def ask_for_code(account_id: int, by: str, target: str) -> BaseResponse:
    """Go on to the second factor: the first one was right, ``by`` says which. Nothing is signed in yet."""
    services = context.services()
    with services.db.write() as session:
        secret = pending.begin(
            session,
            services.accounts,
            pending.SECOND_FACTOR,
            address=browser().address,
            target=target,
            now=services.clock(),
            account_id=account_id,
            by=by,
        )
    response = redirect(url_for("pages.sign_in_code"), 303)
    keep_cookie(response, COOKIE, secret, pending.LIFE, path=url_for("pages.sign_in"))
    return response


@open_page("asked between the first factor and being signed in; attempts are limited by account and by address")
@before_second_factor
def _show_code() -> ResponseReturnValue:
    services = context.services()
    with services.db.read() as session:
        waiting = pending.look(
            session, services.accounts, pending.SECOND_FACTOR, request.cookies.get(COOKIE, ""), services.clock()
        )
    if waiting is None:
        return redirect(url_for("pages.sign_in"), 303)
    return render_template("sign_in_code.html", message="")


@open_page("the first factor's one-time cookie and a code are the credential; attempts are limited")
@before_second_factor
def _take_code() -> ResponseReturnValue:
    services = context.services()
    now, address = services.clock(), browser().address
    name, cookie = "second factor", request.cookies.get(COOKIE, "")
    sealer = services.stores.server_keyring()
    try:
        with services.db.read() as session:
            waiting = pending.look(session, services.accounts, pending.SECOND_FACTOR, cookie, now)
            if waiting is None or waiting.account_id is None:
                return redirect(url_for("pages.sign_in"), 303)
            name = session.get_one(Account, waiting.account_id).name
            attempts.check_attempt(session, name, address, now)
            attempts.check_code(session, name, now)
        with services.db.write() as session:
            # All or nothing: a wrong code leaves the step waiting for the next one.
            step = pending.spend(session, services.accounts, pending.SECOND_FACTOR, cookie, now)
            code = request.form.get("code", "")
            kind = second_factor.take(session, services.accounts, waiting.account_id, code, sealer, now)
            by = f"{step.by} and {kind}"
            secret = self_service.sign_in(
                session, services.accounts, waiting.account_id, by, now, browser=browser(), proved_at=now
            )
    except RateLimited as error:
        page_ = render_template("sign_in_code.html", message=str(error))
        return page_, 429, {"Retry-After": str(error.retry_after_seconds)}
    except Unauthenticated as error:
        with services.db.write() as session:
            attempts.note_failure(session, name, address, now, attempts.FAILED_CODE)
        return render_template("sign_in_code.html", message=str(error)), 403
    response = keep_session(redirect(step.target, 303), secret)
    response.delete_cookie(COOKIE, path=url_for("pages.sign_in"), secure=services.cookie_secure, httponly=True)
    return response


@page
@before_second_factor
def _show() -> str:
    services = context.services()
    with services.db.read() as session:
        state = second_factor.state_of(session, context.caller().account_id)
    return render_template("second_factor.html", state=state, is_required=services.accounts.sign_in_rules.second_factor)


@page
@before_second_factor
@proved()
def _begin() -> str:
    return _set_up_page()


def _set_up_page(message: str = "") -> str:
    services, who = context.services(), context.caller()
    sealer = services.stores.server_keyring()
    # Of two first clicks at once (two tabs, a double click) one makes the seed, and the other finds it.
    seed = shelf.settle(
        services.db, lambda session: second_factor.begin(session, who.account_id, sealer, services.clock())
    )
    return render_template(
        "second_factor_set_up.html",
        message=message,
        seed=" ".join(seed[start : start + 4] for start in range(0, len(seed), 4)),
        picture=_picture(second_factor.address_of(seed, who.name, ISSUER)),
    )


def _picture(text: str) -> str:
    """A QR code as address of an image: dark on light with its margin whatever the theme, else cameras do not read it."""
    written = io.BytesIO()
    segno.make(text, micro=False).save(
        written,
        kind="svg",
        scale=_QR_MODULE_PIXELS,
        dark="#000",
        light="#fff",
        xmldecl=False,
        svgclass=None,
        lineclass=None,
    )
    return f"data:image/svg+xml;base64,{b64encode(written.getvalue()).decode()}"


@page
@before_second_factor
@proved()
def _confirm() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    now, sealer = services.clock(), services.stores.server_keyring()
    try:
        with services.db.write() as session:
            codes = second_factor.confirm(
                session, services.accounts, who.account_id, request.form.get("code", ""), sealer, now
            )
            secret = self_service.start_over(session, services.accounts, who, browser(), now, by=way())
            present = services.accounts.browser_session(session, secret, now)
    except Unauthenticated:
        return _set_up_page("the code is not the one of this moment: look at the app and try again"), 403
    # The forms of the page that follows belong to the new session already.
    context.remember(who=who, browser=present)
    return keep_session(make_response(_codes_page(codes, is_new=True)), secret)


@page
@proved()
def _new_codes() -> str:
    services = context.services()
    with services.db.write() as session:
        codes = second_factor.new_recovery_codes(
            session, services.accounts, context.caller().account_id, services.clock()
        )
    return _codes_page(codes, is_new=False)


def _codes_page(codes: list[str], *, is_new: bool) -> str:
    return render_template("recovery_codes.html", codes=codes, is_new=is_new)


@page
def _download() -> Response:
    text = second_factor.check_download(request.form.get("codes", ""))
    response = Response(
        f"Recovery codes of {context.caller().name}; each counts once.\n\n{text}", mimetype="text/plain"
    )
    response.headers["Content-Disposition"] = 'attachment; filename="entrepot-recovery-codes.txt"'
    return response


@page
@proved()
def _remove() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    now = services.clock()
    with services.db.write() as session:
        second_factor.remove(session, session.get_one(Account, who.account_id), who.name, now)
        secret = self_service.start_over(session, services.accounts, who, browser(), now, by=way())
    return keep_session(redirect_with("second-factor-removed", url_for("pages.account")), secret)
