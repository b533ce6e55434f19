"""How each route that changes something is asked so that it does: one sound request, with what it needs made before."""

from registry import client_login
from registry.accounts import find_account
from tests.functional.api_world import PASSWORD
from tests.security import (
    audit_access,
    audit_actions,
    audit_agents,
    audit_clients,
    audit_deployments,
    audit_hooks,
    audit_places,
    audit_runners,
    audit_sign_in,
)
from tests.security.audit_stage import (
    API,
    DEV,
    DRIVERS,
    NEW_PASSWORD,
    NO_CHANGE,
    PAGE,
    REPOSITORY,
    VERSION,
    Ask,
    Stage,
    drive,
    drives,
    token_id,
    unfinished,
    version,
)

__all__ = ["DRIVERS", "NO_CHANGE", "Stage"]
BY_AREA = (
    audit_access,
    audit_actions,
    audit_agents,
    audit_clients,
    audit_deployments,
    audit_hooks,
    audit_places,
    audit_runners,
    audit_sign_in,
)
"""They add their drivers as they are imported."""


def _connected(stage: Stage) -> str:
    name = stage.name("con")
    made = stage.call("POST", f"{DEV}/connections", json={"format": "pypi", "name": name})
    assert made.status_code == 201, made.text
    return f"{DEV}/connections/pypi/{name}"


drive(f"POST {API}/domains/<domain>/repositories", lambda s: s.api("/domains/default/repositories", {"name": s.name()}))
drive(f"PATCH {REPOSITORY}", lambda s: s.api(DEV, {"description": "new"}))
drive(
    f"POST {REPOSITORY}/connections", lambda s: s.api(f"{DEV}/connections", {"format": "pypi", "name": s.name("con")})
)
drive(
    f"PATCH {REPOSITORY}/connections/<format_name>/<name>",
    lambda s: s.api(
        _connected(s), {"url": "https://index.example/simple/", "credential": {"user": "robot", "password": PASSWORD}}
    ),
)
drive(f"DELETE {REPOSITORY}/connections/<format_name>/<name>", lambda s: s.api(_connected(s)))
drive(
    f"PUT {REPOSITORY}/packages/<format_name>/<name>/status",
    lambda s: s.api(f"{DEV}/packages/pypi/{s.package()}/status", {"status": "archived", "reason": "done"}),
)
drive(f"DELETE {VERSION}", lambda s: s.api(version(s)))
drive(
    f"POST {VERSION}/finish",
    lambda s: s.api(f"/domains/default/repositories/prod/packages/generic/{unfinished(s)}/versions/1.0/finish"),
)
drive(f"POST {VERSION}/promote", lambda s: s.api(f"{version(s)}/promote", {"target": "staging"}))
drive(f"POST {VERSION}/yank", lambda s: s.api(f"{version(s)}/yank", {"reason": "bad"}))


@drives(f"POST {VERSION}/unyank")
def _unyank(stage: Stage) -> Ask:
    place = version(stage)
    assert stage.call("POST", f"{place}/yank", json={"reason": "bad"}).status_code == 200
    return stage.api(f"{place}/unyank")


drive(f"POST {API}/tokens", lambda s: s.api("/tokens", {"name": "ci", "actions": ["read"], "ttlSeconds": 600}))
drive(f"POST {API}/users", lambda s: s.api("/users", {"name": s.name("u"), "actions": [], "password": NEW_PASSWORD}))
drive(f"POST {API}/users/<user>/password", lambda s: s.api("/users/stranger/password", {"password": NEW_PASSWORD}))


drive(f"DELETE {API}/tokens/<id:token_id>", lambda s: s.api(f"/tokens/{token_id(s)}"))
drive(f"DELETE {API}/tokens", lambda s: s.api("/tokens?user=approver&kind=login"))
drive(f"POST {API}/authorization-token", lambda s: s.api("/authorization-token?durationSeconds=900", {"name": "hour"}))


@drives(f"POST {API}/leaked-tokens")
def _leaked(stage: Stage) -> Ask:
    token = stage.token("reader", "read")
    stage.secrets.add(token)
    return Ask(f"{API}/leaked-tokens", options={"json": [{"token": token, "url": "https://paste.example/1"}]})


# --- pages


def _page(stage: Stage, act: str, **data: str) -> Ask:
    return stage.form(f"/packages/default/dev/pypi/{stage.package()}/-/1/{act}", **data)


drive(f"POST {PAGE}/-/<version>/yank", lambda s: _page(s, "yank", reason="bad"))
drive(f"POST {PAGE}/-/<version>/delete", lambda s: _page(s, "delete"))
drive(
    f"POST {PAGE}/status",
    lambda s: s.form(f"/packages/default/dev/pypi/{s.package()}/status", status="deprecated", reason="old"),
)


@drives(f"POST {PAGE}/-/<version>/unyank")
def _unyank_form(stage: Stage) -> Ask:
    name = stage.package()
    assert stage.call("POST", f"{DEV}/packages/pypi/{name}/versions/1.0/yank", json={"reason": "x"}).status_code == 200
    return stage.form(f"/packages/default/dev/pypi/{name}/-/1/unyank")


drive("POST /sign-in", lambda _: Ask("/sign-in", options={"data": {"user": "reader", "password": PASSWORD}}))
drive("POST /sign-out", lambda s: s.form("/sign-out", "reader"))
drive("POST /account/sign-out-everywhere", lambda s: s.form("/account/sign-out-everywhere", "reader"))
drive(
    "POST /account/tokens",
    lambda s: s.form("/account/tokens", "reader", name="laptop", actions="read", life_days="7"),
)
drive(
    "POST /account/tokens/<int:token_id>/revoke",
    lambda s: s.form(f"/account/tokens/{token_id(s, 'reader')}/revoke", "reader"),
)
drive(
    "POST /account/password",
    lambda s: s.form("/account/password", "approver", present=PASSWORD, password=NEW_PASSWORD, again=NEW_PASSWORD),
)


@drives("POST /setup")
def _setup(stage: Stage) -> Ask:
    with stage.db.write() as session:
        code = stage.services.accounts.new_setup_login(session, find_account(session, "reader").id, stage.now)
    stage.secrets.add(code)
    browser = stage.app.test_client()
    browser.get(f"/setup?code={code}")
    return Ask("/setup", browser=browser, options={"data": {"code": code}})


@drives("POST /sign-in/client")
def _let_in(stage: Stage) -> Ask:
    with stage.db.write() as session:
        begun = client_login.begin(
            session, stage.services.accounts, client="npm/11", address="127.0.0.1", now=stage.now
        )
    stage.secrets |= {begun.code, begun.secret}
    return stage.form("/sign-in/client", "reader", code=begun.code)


drive(
    "POST /account/tokens/revoke-all",
    lambda s: s.form("/account/tokens/revoke-all", "reader", kind="login"),
)
