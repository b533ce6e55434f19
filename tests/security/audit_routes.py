"""How each route that changes something is asked so that it does: one sound request, with what it needs made before."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask.testing import FlaskClient

from registry import client_login
from registry.accounts import find_account
from tests.functional.api_world import PASSWORD
from tests.functional.test_hooks_api import GATED, START, Hooks, action
from tests.harness import maven, npm_packages, packages, publishing

NEW_PASSWORD = "another good one, and longer"
NPM, MAVEN, GENERIC, PYPI = (f"/{name}/<domain>/<repository>" for name in ("npm", "maven", "generic", "pypi"))
API, REPOSITORY = "/api/v1", "/api/v1/domains/<domain>/repositories/<repository>"
NPM_PACKAGE = f"{NPM}/<npm_package:name>"
TAGS = f"{NPM}/-/package/<npm_package:name>/dist-tags"
VERSION = f"{REPOSITORY}/packages/<format_name>/<name>/versions/<version>"
PAGE = "/packages/<domain>/<repository>/<format_name>/<path:name>"

# Reviewed: what these routes do is no change that anybody else could see, or never done at all.
NO_CHANGE = {
    f"POST {NPM}/-/npm/v1/security/advisories/bulk": "a question",
    f"POST {NPM}/-/npm/v1/security/audits": "a question",
    f"POST {NPM}/-/npm/v1/security/audits/quick": "a question",
    f"POST {NPM}/-/v1/login": "asks to be let in; that somebody lets it in is an entry",
    **{f"{method} {NPM}/<path:rest>": "always refused" for method in ("POST", "PUT", "PATCH", "DELETE")},
    **{f"{method} {MAVEN}/": "always refused: a repository is no file" for method in ("PUT", "DELETE")},
    "POST /account/leaks/seen": "who asks has read a notice; the leak itself is an entry",
    "POST /theme": "a cookie of the browser that asks",
}


@dataclass(frozen=True)
class Ask:
    """A request: to where, with whose credential (a token, a signed-in browser, or none), and what."""

    path: str
    token: str | None = None
    browser: FlaskClient | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Stage(Hooks):
    """The world with what drivers share: fresh names, browsers, and every secret that was ever used."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._numbers = count(1)
        self.secrets = {PASSWORD, NEW_PASSWORD, *self.tokens.values()}
        self.admin = self.tokens["admin"]

    def name(self, word: str = "thing") -> str:
        return f"{word}-{next(self._numbers)}"

    def api(self, path: str, body: object = None) -> Ask:
        return Ask(f"{API}{path}", self.admin, options={} if body is None else {"json": body})

    def package(self) -> str:
        name = self.name("lib")
        self.publish("dev", name, "1.0", canonical="1")
        return name

    def browser(self, user: str = "admin") -> FlaskClient:
        client = self.app.test_client()
        assert client.post("/sign-in", data={"user": user, "password": PASSWORD}).status_code == 303
        return client

    def form(self, path: str, user: str = "admin", **data: str) -> Ask:
        browser = self.browser(user)
        return Ask(path, browser=browser, options={"data": {"csrf_token": self.csrf(browser), **data}})

    def csrf(self, browser: FlaskClient) -> str:
        cookie = browser.get_cookie("entrepot_session")
        assert cookie is not None
        with self.db.read() as session:
            found = self.services.accounts.browser_session(session, cookie.value, self.now)
        assert found is not None
        self.secrets |= {cookie.value, found.csrf_token}
        return found.csrf_token

    def client(self, path: str, **options: Any) -> Ask:
        return Ask(path, self.admin, options=options)

    def do(self, method: str, ask: Ask) -> Any:
        headers = dict(ask.options.get("headers", {}))
        if ask.token is not None:
            headers["Authorization"] = f"Bearer {ask.token}"
        options = {**ask.options, "headers": headers}
        return (ask.browser or self.app.test_client()).open(ask.path, method=method, **options)

    def npm(self, *versions: str, tags: tuple[str, ...] = ("latest",)) -> str:
        name = self.name("mod")
        for version in versions:
            sent = npm_packages.publish_document(name, version, tags=tags)
            assert self.do("PUT", self.client(f"/npm/default/prod/{name}", json=sent)).status_code == 201
        return name

    def npm_document(self, name: str) -> dict[str, Any]:
        answer = self.do("GET", self.client(f"/npm/default/prod/{name}?write=true"))
        assert answer.status_code == 200
        return answer.json

    def generic(self, query: str = "") -> str:
        name = self.name("blob")
        sent = self.client(f"/generic/default/prod/{name}/1.0/file.bin{query}", data=b"bytes of " + name.encode())
        assert self.do("PUT", sent).status_code == 201
        return name


Driver = Callable[[Stage], Ask]
DRIVERS: dict[str, Driver] = {}


def drives(*routes: str) -> Callable[[Driver], Driver]:
    def note(driver: Driver) -> Driver:
        DRIVERS.update(dict.fromkeys(routes, driver))
        return driver

    return note


def drive(route: str, driver: Driver) -> None:
    DRIVERS[route] = driver


DEV = "/domains/default/repositories/dev"


def _connected(stage: Stage) -> str:
    name = stage.name("con")
    made = stage.call("POST", f"{DEV}/connections", json={"format": "pypi", "name": name})
    assert made.status_code == 201, made.text
    return f"{DEV}/connections/pypi/{name}"


def _version(stage: Stage) -> str:
    return f"{DEV}/packages/pypi/{stage.package()}/versions/1.0"


def _unfinished(stage: Stage) -> str:
    return stage.generic("?status=unfinished")


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
drive(f"DELETE {VERSION}", lambda s: s.api(_version(s)))
drive(
    f"POST {VERSION}/finish",
    lambda s: s.api(f"/domains/default/repositories/prod/packages/generic/{_unfinished(s)}/versions/1.0/finish"),
)
drive(f"POST {VERSION}/promote", lambda s: s.api(f"{_version(s)}/promote", {"target": "staging"}))
drive(f"POST {VERSION}/yank", lambda s: s.api(f"{_version(s)}/yank", {"reason": "bad"}))


@drives(f"POST {VERSION}/unyank")
def _unyank(stage: Stage) -> Ask:
    place = _version(stage)
    assert stage.call("POST", f"{place}/yank", json={"reason": "bad"}).status_code == 200
    return stage.api(f"{place}/unyank")


drive(f"POST {API}/tokens", lambda s: s.api("/tokens", {"name": "ci", "actions": ["read"], "ttlSeconds": 600}))
drive(f"POST {API}/users", lambda s: s.api("/users", {"name": s.name("u"), "actions": [], "password": NEW_PASSWORD}))
drive(f"POST {API}/users/<user>/password", lambda s: s.api("/users/stranger/password", {"password": NEW_PASSWORD}))


def _token_id(stage: Stage, user: str = "admin") -> int:
    stage.secrets.add(stage.token(user, "read"))
    listed = stage.call("GET", "/tokens", as_=user).json["items"]
    return int(listed[0]["id"])


drive(f"DELETE {API}/tokens/<id:token_id>", lambda s: s.api(f"/tokens/{_token_id(s)}"))
drive(f"DELETE {API}/tokens", lambda s: s.api("/tokens?user=approver&kind=login"))
drive(f"POST {API}/authorization-token", lambda s: s.api("/authorization-token?durationSeconds=900", {"name": "hour"}))


@drives(f"POST {API}/leaked-tokens")
def _leaked(stage: Stage) -> Ask:
    token = stage.token("reader", "read")
    stage.secrets.add(token)
    return Ask(f"{API}/leaked-tokens", options={"json": [{"token": token, "url": "https://paste.example/1"}]})


# --- pipelines and builds


def _waiting(stage: Stage) -> int:
    return int(stage.start()["id"])


def _stopped(stage: Stage) -> int:
    number = _waiting(stage)
    rejected = stage.answer({"id": number}, verdict="Rejected")
    assert rejected.status_code == 200, rejected.text
    return number


def _build(stage: Stage) -> str:
    return str(action(stage.start("built"), "Test", "Unit")["buildId"])


drive(
    f"PUT {API}/pipelines",
    lambda s: s.api("/pipelines", {"document": GATED.replace("name: release", f"name: {s.name('pipe')}")}),
)
drive(f"POST {API}/pipelines/<pipeline>/executions", lambda s: s.api("/pipelines/release/executions", START))
drive(
    f"POST {API}/executions/<id:execution_id>/approval",
    lambda s: s.api(f"/executions/{_waiting(s)}/approval", {"stage": "Gate", "action": "Ask", "verdict": "Approved"}),
)
drive(
    f"POST {API}/executions/<id:execution_id>/retry",
    lambda s: s.api(f"/executions/{_stopped(s)}/retry", {"stage": "Gate"}),
)
drive(f"POST {API}/executions/<id:execution_id>/stop", lambda s: s.api(f"/executions/{_waiting(s)}/stop", {}))
drive(f"POST {API}/builds/<build_id>/stop", lambda s: s.api(f"/builds/{_build(s)}/stop"))
drive("POST /builds/<build_id>/stop", lambda s: s.form(f"/builds/{_build(s)}/stop"))
drive("POST /executions/<int:execution_id>/stop", lambda s: s.form(f"/executions/{_waiting(s)}/stop", reason="wrong"))
drive(
    "POST /executions/<int:execution_id>/retry",
    lambda s: s.form(f"/executions/{_stopped(s)}/retry", stage="Gate", mode="FAILED_ACTIONS"),
)


@drives("POST /executions/<int:execution_id>/approval")
def _approve_form(stage: Stage) -> Ask:
    execution = stage.start()
    token = action(stage.call("GET", f"/executions/{execution['id']}").json, "Gate", "Ask").get("token", "")
    return stage.form(
        f"/executions/{execution['id']}/approval", stage="Gate", action="Ask", verdict="Approved", token=token or ""
    )


drive(
    "POST /pipelines/<name>/start",
    lambda s: s.form("/pipelines/release/start", repository="dev", package="my-pkg", version="1.0"),
)


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
    lambda s: s.form(f"/account/tokens/{_token_id(s, 'reader')}/revoke", "reader"),
)
drive(
    "POST /account/tokens/revoke-all",
    lambda s: s.form("/account/tokens/revoke-all", "reader", kind="login"),
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


# --- package clients


def _upload(stage: Stage, rest: str) -> Ask:
    name = stage.name("wheel")
    filename, body = packages.wheel(name, "1.0")
    data: dict[str, Any] = {**publishing.form(name, "1.0", body), "content": (io.BytesIO(body), filename)}
    return stage.client(f"/pypi/default/prod/{rest}", data=data, content_type="multipart/form-data")


for _rest in ("", "legacy/", "legacy", "simple/", "simple"):
    drive(f"POST {PYPI}/{_rest}", lambda s, rest=_rest: _upload(s, rest))


drive(
    f"PUT {GENERIC}/<name>/<version>/<path:path>",
    lambda s: s.client(f"/generic/default/prod/{s.name()}/1.0/a.bin", data=b"a"),
)
drive(
    f"POST {GENERIC}/<name>/<version>/",
    lambda s: s.client(f"/generic/default/prod/{_unfinished(s)}/1.0/?status=published"),
)
drive(f"DELETE {GENERIC}/<name>/<version>/", lambda s: s.client(f"/generic/default/prod/{s.generic()}/1.0/"))


def _maven_path(name: str, suffix: str = "jar") -> str:
    return f"/maven/default/prod/com/acme/{name}/1.0/{name}-1.0.{suffix}"


drive(f"PUT {MAVEN}/<path:path>", lambda s: s.client(_maven_path(s.name("art")), data=maven.jar(**{"v.txt": "1.0"})))


@drives(f"DELETE {MAVEN}/<path:path>")
def _take_back(stage: Stage) -> Ask:
    name = stage.name("art")
    for suffix, body in (("pom", maven.pom(name, "1.0").encode()), ("jar", maven.jar(**{"v.txt": name}))):
        assert stage.do("PUT", stage.client(_maven_path(name, suffix), data=body)).status_code == 201
    return stage.client(f"/maven/default/prod/com/acme/{name}/1.0/")


@drives(f"PUT {NPM_PACKAGE}")
def _npm_publish(stage: Stage) -> Ask:
    name = stage.name("mod")
    return stage.client(f"/npm/default/prod/{name}", json=npm_packages.publish_document(name, "1.0.0"))


@drives(f"PUT {NPM_PACKAGE}/-rev/<rev>")
def _npm_unpublish_one(stage: Stage) -> Ask:
    name = stage.npm("1.0.0", "2.0.0")
    document = stage.npm_document(name)
    del document["versions"]["1.0.0"]
    return stage.client(f"/npm/default/prod/{name}/-rev/{document['_rev']}", json=document)


@drives(f"DELETE {NPM_PACKAGE}/-rev/<rev>")
def _npm_unpublish_all(stage: Stage) -> Ask:
    name = stage.npm("1.0.0")
    return stage.client(f"/npm/default/prod/{name}/-rev/{stage.npm_document(name)['_rev']}")


@drives(f"DELETE {NPM_PACKAGE}/-/<filename>/-rev/<rev>")
def _npm_delete_tarball(stage: Stage) -> Ask:
    name = stage.npm("1.0.0")
    return stage.client(f"/npm/default/prod/{name}/-/{name}-1.0.0.tgz/-rev/{stage.npm_document(name)['_rev']}")


def _tags(stage: Stage, rest: str = "", body: object = None) -> Ask:
    name = stage.npm("1.0.0", "2.0.0", tags=("latest", "beta"))
    options = {} if body is None else {"json": body}
    return stage.client(f"/npm/default/prod/-/package/{name}/dist-tags{rest}", **options)


drive(f"PUT {TAGS}", lambda s: _tags(s, body={"latest": "1.0.0"}))
drive(f"POST {TAGS}", lambda s: _tags(s, body={"latest": "1.0.0"}))
drive(f"PUT {TAGS}/<tag>", lambda s: _tags(s, "/next", "1.0.0"))
drive(f"POST {TAGS}/<tag>", lambda s: _tags(s, "/next", "1.0.0"))
drive(f"DELETE {TAGS}/<tag>", lambda s: _tags(s, "/beta"))


def _npm_login(rest: str = "") -> Ask:
    body = {"name": "reader", "password": PASSWORD}
    return Ask(f"/npm/default/dev/-/user/org.couchdb.user:reader{rest}", options={"json": body})


drive(f"PUT {NPM}/-/user/org.couchdb.user:<user>", lambda _: _npm_login())
drive(f"PUT {NPM}/-/user/org.couchdb.user:<user>/-rev/<rev>", lambda _: _npm_login("/-rev/1"))


@drives(f"DELETE {NPM}/-/user/token/<secret>")
def _npm_logout(stage: Stage) -> Ask:
    secret = stage.token("reader", "read")
    stage.secrets.add(secret)
    return Ask(f"/npm/default/dev/-/user/token/{quote(secret)}", secret)


drive(
    f"POST {NPM}/-/npm/v1/tokens",
    lambda s: Ask(
        "/npm/default/dev/-/npm/v1/tokens", s.tokens["reader"], options={"json": {"password": PASSWORD, "name": "ci"}}
    ),
)
drive(
    f"DELETE {NPM}/-/npm/v1/tokens/token/<key>",
    lambda s: Ask(f"/npm/default/dev/-/npm/v1/tokens/token/{_token_id(s, 'reader')}", s.tokens["reader"]),
)
