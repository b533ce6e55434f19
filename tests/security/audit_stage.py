"""The world in which every route that changes something is asked, and the list of how each one is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from registry.accounts import find_account
from tests.functional.api_world import PASSWORD
from tests.functional.test_hooks_api import Hooks
from tests.harness import npm_packages

NEW_PASSWORD = "another good one, and longer"
NPM, MAVEN, GENERIC, PYPI = (f"/{name}/<domain>/<repository>" for name in ("npm", "maven", "generic", "pypi"))
API, REPOSITORY = "/api/v1", "/api/v1/domains/<domain>/repositories/<repository>"
NPM_PACKAGE = f"{NPM}/<npm_package:name>"
TAGS = f"{NPM}/-/package/<npm_package:name>/dist-tags"
VERSION = f"{REPOSITORY}/packages/<format_name>/<name>/versions/<version>"
PAGE = "/packages/<domain>/<repository>/<format_name>/<path:name>"

# Reviewed: what these routes do is no change that anybody else could see, or never done at all.
NO_CHANGE = {
    f"POST {API}/pipelines/lint": "a question",
    f"POST {NPM}/-/npm/v1/security/advisories/bulk": "a question",
    f"POST {NPM}/-/npm/v1/security/audits": "a question",
    f"POST {NPM}/-/npm/v1/security/audits/quick": "a question",
    f"POST {NPM}/-/v1/login": "asks to be let in; that somebody lets it in is an entry",
    **{f"{method} {NPM}/<path:rest>": "always refused" for method in ("POST", "PUT", "PATCH", "DELETE")},
    **{f"{method} {MAVEN}/": "always refused: a repository is no file" for method in ("PUT", "DELETE")},
    **{
        f"POST {API}/domains/<domain>{rest}/permissions/policy/preview": "a question"
        for rest in ("", "/repositories/<repository>")
    },
    f"POST {API}/deployments/preview": "a question",
    f"POST {API}/deployments/batch": "a question",
    "POST /audit/verify": "a question",
    "POST /keys/server/verify": "a question",
    "POST /keys/domains/<domain>/verify": "a question",
    "POST /account/leaks/seen": "who asks has read a notice; the leak itself is an entry",
    "POST /theme": "a cookie of the browser that asks",
    "POST /account/second-factor": "shows a seed, which counts once its first code confirms it: that is an entry",
    "POST /account/second-factor/codes.txt": "gives what the browser sent back as a file",
}


MAIL = {"ENTREPOT_MAIL_HOST": "mail.example", "ENTREPOT_MAIL_SENDER": "entrepot@packages.example"}


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
        super().__init__(folder, MAIL)
        self._numbers = count(1)
        self.secrets = {PASSWORD, NEW_PASSWORD, *self.tokens.values()}
        self.admin = self.tokens["admin"]

    def name(self, word: str = "thing") -> str:
        return f"{word}-{next(self._numbers)}"

    def api(self, path: str, body: object = None) -> Ask:
        return Ask(f"{API}{path}", self.admin, options={} if body is None else {"json": body})

    def done(self, method: str, path: str, body: object = None) -> Any:
        """Make by the API what a driver needs; gives the answer's document."""
        answer = self.do(method, self.api(path, body))
        assert answer.status_code < 400, answer.text
        return answer.json

    def domain(self) -> str:
        name = self.name("dom")
        self.done("POST", "/domains", {"name": name})
        return name

    def repository(self) -> str:
        name = self.name("repo")
        self.done("POST", "/domains/default/repositories", {"name": name})
        return name

    def group(self, *members: str) -> str:
        name = self.name("group")
        self.done("POST", "/groups", {"name": name})
        for user in members:
            self.done("PUT", f"/groups/{name}/members/{user}")
        return name

    def person(self) -> str:
        """A fresh account that may read, with the password of all others (one hash for all spares time)."""
        name = self.name("person")
        with self.db.write() as session:
            made = self.services.accounts.create(session, name, actions=["read"], now=self.now)
            made.password_hash = find_account(session, "reader").password_hash
        return name

    def package(self) -> str:
        name = self.name("lib")
        self.publish("dev", name, "1.0", canonical="1")
        return name

    def browser(self, user: str = "admin") -> FlaskClient:
        client = self.app.test_client()
        assert client.post("/sign-in", data={"user": user, "password": PASSWORD}).status_code == 303
        return client

    def form(self, path: str, user: str = "admin", /, **data: str) -> Ask:
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


def version(stage: Stage) -> str:
    return f"{DEV}/packages/pypi/{stage.package()}/versions/1.0"


def token_id(stage: Stage, user: str = "admin") -> int:
    stage.secrets.add(stage.token(user, "read"))
    listed = stage.call("GET", "/tokens", as_=user).json["items"]
    return int(listed[0]["id"])


def unfinished(stage: Stage) -> str:
    return stage.generic("?status=unfinished")
