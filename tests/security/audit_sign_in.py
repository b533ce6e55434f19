"""Drivers of the routes of second factors, sessions and fresh proofs."""

import html
import re
from datetime import timedelta

from registry import self_service
from registry.accounts import find_account
from tests.functional.api_world import PASSWORD
from tests.harness.identity import Browser
from tests.security.audit_stage import API, Ask, Stage, drive, drives


def _browser(stage: Stage, user: str) -> Browser:
    browser = Browser(stage)
    assert browser.sign_in(user).status_code == 303
    return browser


def _enrolled(stage: Stage) -> tuple[str, Browser]:
    """Somebody with a second factor, signed in."""
    user = stage.person()
    browser = _browser(stage, user)
    browser.enrol()
    stage.secrets |= {browser.key, *browser.codes}
    return user, browser


def _form(stage: Stage, browser: Browser, path: str, **data: str) -> Ask:
    return Ask(path, browser=browser.http, options={"data": {"csrf_token": stage.csrf(browser.http), **data}})


@drives(f"DELETE {API}/users/<user>/second-factor")
def _reset(stage: Stage) -> Ask:
    user, _ = _enrolled(stage)
    return stage.api(f"/users/{user}/second-factor")


@drives("POST /access/users/<user>/second-factor/reset")
def _reset_by_form(stage: Stage) -> Ask:
    user, _ = _enrolled(stage)
    return stage.form(f"/access/users/{user}/second-factor/reset")


@drives("POST /account/second-factor/confirm")
def _confirm(stage: Stage) -> Ask:
    browser = _browser(stage, stage.person())
    shown = browser.post("/account/second-factor").text
    found = re.search(r'data-copy="([A-Z2-7 ]{16,})"', shown)
    assert found is not None
    browser.key = html.unescape(found[1]).replace(" ", "")
    stage.secrets.add(browser.key)
    return _form(stage, browser, "/account/second-factor/confirm", code=browser.code())


@drives("POST /sign-in/second-factor")
def _take_code(stage: Stage) -> Ask:
    user, enrolled = _enrolled(stage)
    browser = Browser(stage)
    assert browser.sign_in(user).headers["Location"] == "/sign-in/second-factor"
    return Ask("/sign-in/second-factor", browser=browser.http, options={"data": {"code": enrolled.code()}})


for _act in ("codes", "remove"):
    drive(
        f"POST /account/second-factor/{_act}",
        lambda s, act=_act: _form(s, _enrolled(s)[1], f"/account/second-factor/{act}"),
    )


@drives("POST /account/prove")
def _prove(stage: Stage) -> Ask:
    browser = _browser(stage, "reader")
    stage.now += timedelta(minutes=11)
    return _form(stage, browser, "/account/prove", next="/account", proof_password=PASSWORD)


@drives("POST /account/sessions/<handle>/end")
def _end(stage: Stage) -> Ask:
    user = stage.person()
    _browser(stage, user)
    here = _browser(stage, user)
    with stage.db.read() as session:
        account_id, accounts = find_account(session, user).id, stage.services.accounts
        found = self_service.sessions(session, accounts, account_id, here.session or "", stage.now)
    (other,) = [each.handle for each in found if not each.is_this_one]
    return _form(stage, here, f"/account/sessions/{other}/end")
