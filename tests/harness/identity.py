"""People and identity providers in tests: a browser that signs in, an authenticator app, an issuer's process."""

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyotp
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.functional.api_world import PASSWORD, World

ISSUER = Path(__file__).resolve().parents[1] / "fakes/issuer.py"
SECRET = "the client's: secret"


class Browser:
    """A browser at a world's pages; ``key`` is the seed of its owner's authenticator app."""

    def __init__(self, world: World, address: str = "127.0.0.1") -> None:
        self.world = world
        self.http: FlaskClient = world.app.test_client()
        self.key = ""
        self.codes: list[str] = []
        self.address = {"REMOTE_ADDR": address}

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.http.get(path, environ_overrides=self.address, **options)

    def post(self, path: str, *, headers: dict | None = None, **data: Any) -> TestResponse:
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/account/second-factor").text)
        if token is not None:
            data.setdefault("csrf_token", token[1])
        return self.http.post(path, data=data, headers=headers, environ_overrides=self.address)

    def sign_in(self, user: str, password: str = PASSWORD, **data: str) -> TestResponse:
        return self.post("/sign-in", user=user, password=password, **data)

    def code(self, *, steps: int = 0) -> str:
        """What the app shows now, or so many steps later."""
        return pyotp.TOTP(self.key).at(int(self.world.now.timestamp()) + 30 * steps)

    def enrol(self) -> TestResponse:
        """Set the second factor up. The code that is used for it is spent: the clock is moved on."""
        page = self.post("/account/second-factor").text
        self.key = html.unescape(re.search(r'data-copy="([A-Z2-7 ]{16,})"', page)[1]).replace(" ", "")
        answer = self.post("/account/second-factor/confirm", code=self.code())
        assert answer.status_code == 200, answer.text
        self.codes = re.search(r'name="codes" value="([^"]+)"', answer.text)[1].split()
        from datetime import timedelta

        self.world.now += timedelta(seconds=30)
        return answer

    @property
    def session(self) -> str | None:
        cookie = self.http.get_cookie("entrepot_session")
        return cookie.value if cookie else None

    @property
    def is_in(self) -> bool:
        return self.get("/account").status_code == 200


class Issuers:
    """The process of ``tests/fakes/issuer.py``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def control(self, name: str, **wished: Any) -> dict:
        return requests.post(f"{self.url}/{name}/control", json=wished, timeout=10).json()


@contextmanager
def issuers() -> Iterator[Issuers]:
    with subprocess.Popen([sys.executable, str(ISSUER)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield Issuers(int(process.stdout.readline()))
        finally:
            process.terminate()


def settings_for(url: str, **changes: dict[str, Any]) -> str:
    """``entrepot.toml`` with a provider for each keyword, its settings changed as the value says."""
    lines = []
    for name, wished in changes.items():
        values = {
            "issuer": f"{url}/{name}", "client_id": "entrepot", "label": name.title(), "allowed_networks": ["127.0.0.0/8"],
        } | wished  # fmt: skip
        groups = values.pop("groups", {})
        lines += [f"[oidc.{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        lines += [f"[oidc.{name}.groups]", *(f'"{key}" = "{value}"' for key, value in groups.items())] if groups else []
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value)) if isinstance(value, list | tuple) else f'"{value}"'


def secrets_for(*names: str) -> dict[str, str]:
    return {f"ENTREPOT_OIDC_{name.upper()}_CLIENT_SECRET": SECRET for name in names}


def through(browser: Browser, provider: str, **question: str) -> TestResponse:
    """Sign in with a provider: there and back again."""
    return come_back(browser, go(browser, provider, **question))


def go(browser: Browser, provider: str, **question: str) -> str:
    """Go to the provider and sign in there; returns where it sends the browser."""
    answer = browser.get(f"/sign-in/with/{provider}", query_string=question)
    assert answer.status_code == 303, answer.text
    there = requests.get(answer.headers["Location"], allow_redirects=False, timeout=10)
    assert there.status_code == 303, there.text
    return there.headers["Location"]


def come_back(browser: Browser, location: str, *, path: str = "") -> TestResponse:
    parts = urlsplit(location)
    return browser.get(f"{path or parts.path}?{parts.query}")
