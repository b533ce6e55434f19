"""One's own account: rights, password, browsers, access tokens."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from registry import attempts, minting, second_factor, self_service
from registry.access import Action
from registry.accounts import PASSWORD_MINIMUM_CHARACTERS, IssuedToken
from registry.errors import Denied, Invalid, NotFound, Problem, RateLimited, Unauthenticated
from registry.http import context
from registry.http.auth import before_second_factor, charge, cookie_name, page
from registry.http.problems import status_of
from registry.oidc import people
from registry.pages.appearance import keep_session, redirect_with
from registry.pages.entrance import without_session
from registry.pages.proof import proved
from registry.pages.second_factor import browser, way
from registry.pages.token_parts import PRESETS, TokenForm, after_ending, owner_shown, owners, preset_form, tokens_of
from registry.rates import CostClass
from registry.scopes import checked_networks, checked_packages

MEANINGS = {
    Action.READ: "download and look around",
    Action.PUBLISH: "upload packages",
    Action.PROMOTE: "copy versions to other repositories",
    Action.APPROVE: "answer approvals",
    Action.ADMIN: "everything",
}
KINDS = minting.KINDS
LIVES = ((1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "1 year"))
_USUAL_LIFE_DAYS = TokenForm().life_days


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/account", "account", _account)
    pages.add_url_rule("/account/sign-out-everywhere", "sign_out_everywhere", _sign_out_everywhere, methods=["POST"])
    pages.add_url_rule("/account/sessions/<handle>/end", "end_session", _end_session, methods=["POST"])
    pages.add_url_rule("/account/password", "password", _show_password)
    pages.add_url_rule("/account/password", "set_password", _set_password, methods=["POST"])
    pages.add_url_rule("/account/tokens", "tokens", _tokens)
    pages.add_url_rule("/account/tokens", "create_token", _create_token, methods=["POST"])
    pages.add_url_rule("/account/tokens/<int:token_id>/revoke", "revoke_token", _revoke_token, methods=["POST"])


@page
def _account() -> str:
    services, who = context.services(), context.caller()
    scope = who.scopes[0]
    with services.db.read() as session:
        sessions = self_service.sessions(session, services.accounts, who.account_id, _secret(), services.clock())
        state = second_factor.state_of(session, who.account_id)
        known = services.relying.providers.values()
        connected = people.identities(session, who.account_id, {each.issuer: each.name for each in known})
    return render_template(
        "account.html",
        actions=sorted(scope.actions),
        meanings=MEANINGS,
        repositories=scope.repositories,
        sessions=sessions,
        second_factor=state,
        providers=known,
        connected=connected,
    )


def _secret() -> str:
    return request.cookies[cookie_name()]


@page
def _sign_out_everywhere() -> ResponseReturnValue:
    services = context.services()
    with services.db.write() as session:
        self_service.sign_out_everywhere(session, context.caller(), services.clock())
    return without_session(redirect_with("signed-out-everywhere", url_for("pages.sign_in")))


@page
def _end_session(handle: str) -> ResponseReturnValue:
    services = context.services()
    with services.db.write() as session:
        self_service.sign_out_other(session, context.caller(), handle, services.clock())
    return redirect_with("session-ended", url_for("pages.account"))


@page
@before_second_factor
def _show_password() -> str:
    return _password_form(needs_present=_needs_present())


def _needs_present() -> bool:
    services = context.services()
    with services.db.read() as session:
        return self_service.needs_present_password(
            session, services.accounts, context.caller().account_id, _secret(), services.clock()
        )


def _password_form(*, needs_present: bool, message: str = "") -> str:
    return render_template(
        "password.html", needs_present=needs_present, message=message, minimum=PASSWORD_MINIMUM_CHARACTERS
    )


@page
@before_second_factor
@proved(back="pages.password")
def _set_password() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    now = services.clock()
    needs_present = _needs_present()
    try:
        hashed = _hash_of_new_password()
        if needs_present:
            _check_present_password()
    except Unauthenticated:
        return _password_form(needs_present=needs_present, message="the present password is wrong"), 403
    except (Invalid, RateLimited) as error:
        return _password_form(needs_present=needs_present, message=str(error)), status_of(error)
    with services.db.write() as session:
        self_service.change_password(session, who, hashed, now)
        secret = self_service.start_over(session, services.accounts, who, browser(), now, by=way())
    return keep_session(redirect_with("password-set", url_for("pages.account")), secret)


def _hash_of_new_password() -> str:
    new = request.form.get("password", "")
    if new != request.form.get("again", ""):
        raise Invalid("the two new passwords differ")
    return context.services().accounts.hash_password(new)


def _check_present_password() -> None:
    """Raise Unauthenticated for a wrong one. Limited as signing in is: a borrowed browser must not guess for ever."""
    services, who = context.services(), context.caller()
    now, address = services.clock(), request.remote_addr or "unknown"
    try:
        with services.db.read() as session:
            attempts.check_attempt(session, who.name, address, now)
            services.accounts.check_password(session, who.name, request.form.get("present", ""), now)
    except Unauthenticated:
        with services.db.write() as session:
            attempts.note_failure(session, who.name, address, now)
        raise


@page
def _tokens() -> str:
    return _tokens_page(preset_form())


def _tokens_page(form: TokenForm, *, message: str = "", issued: IssuedToken | None = None) -> str:
    who = context.caller()
    owner = owner_shown(who)
    return render_template(
        "tokens.html",
        tokens=tokens_of(owner),
        owner=owner,
        owners=owners(who),
        kinds=KINDS,
        presets=PRESETS,
        form=form,
        message=message,
        issued=issued,
        choices=[(action.value, MEANINGS[action]) for action in self_service.grantable(who)],
        lives=LIVES,
    )


@page
@proved()
def _create_token() -> ResponseReturnValue:
    charge(CostClass.MINT)
    services, who = context.services(), context.caller()
    form = TokenForm(
        name=request.form.get("name", "")[:100],
        actions=tuple(request.form.getlist("actions")),
        repositories=request.form.get("repositories", ""),
        packages=request.form.get("packages", ""),
        networks=request.form.get("networks", ""),
        life_days=_life_days(request.form.get("life_days", "")),
    )
    try:
        patterns = self_service.repository_patterns(form.repositories)
        packages = checked_packages(self_service.words(form.packages), services.formats)
        networks = checked_networks(self_service.words(form.networks))
        with services.db.write() as session:
            minting.check_there(session, who, patterns)
            issued = self_service.create_token(
                session,
                services.accounts,
                who,
                form.name,
                actions=form.actions,
                repositories=patterns,
                packages=packages,
                networks=networks,
                life=timedelta(days=form.life_days),
                now=services.clock(),
            )
    except (Invalid, Denied, NotFound) as error:
        return _tokens_page(form, message=_sentence(error)), status_of(error)
    return _tokens_page(TokenForm(), issued=issued)


def _life_days(text: str) -> int:
    return next((days for days, _ in LIVES if str(days) == text), _USUAL_LIFE_DAYS)


def _sentence(error: Problem) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


@page
def _revoke_token(token_id: int) -> ResponseReturnValue:
    services = context.services()
    with services.db.write() as session:
        self_service.revoke_token(session, services.accounts, context.caller(), token_id, services.clock())
    return after_ending(context.caller(), "token-revoked")
