"""L1, L5: what strangers send is one event on one line of a log, and what they are told says nothing of the inside."""

import io
import json
import logging
import re
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from flask import request

from config import logs
from config.app import create_app
from config.logs import CONTINUED, MOST_CHARACTERS, JsonLines, TextLines
from tests.functional.api_world import World
from tests.security.attack import House

FAKE = "2026-01-01T00:00:00Z info entrepot.http: all is well"
ODD = {
    "CRLF": f"a\r\n{FAKE}",
    "line feed": f"a\n{FAKE}",
    "carriage return": f"a\r{FAKE}",
    "next line": f"a\x85{FAKE}",
    "line separator": f"a\u2028{FAKE}\u2029",
    "ANSI": f"\x1b[2K\x1b[1G{FAKE}\x1b[31m\x9b0m",
    "backspaces": "a\b\b\b\x7f" + FAKE,
    "JSON": '", "level": "info", "message": "all is well"}\n{"at": "2026"',
    "turned around": f"\u202e{FAKE[::-1]}\u202c\u2066",
    "NUL and half a character": "\x00\ud800",
}
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def written(kind: type[logging.Formatter], message: str, *arguments: object, fault: BaseException | None = None) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(kind())
    log = logging.getLogger("entrepot.odd")
    log.propagate, log.handlers[:] = False, [handler]
    log.error(message, *arguments, exc_info=fault, extra={"path": arguments[0] if arguments else "", "reference": "r"})
    return out.getvalue()


def events(text: str) -> list[str]:
    """The lines that a reader takes for events."""
    return [line for line in re.split(r"[\r\n\x85\u2028\u2029]", text) if line and not line.startswith(CONTINUED)]


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_L1_one_event_is_one_line_in_every_log(
    kind: type[logging.Formatter], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web processes, the worker and the commands write with the same two formatters, and there is no access log."""

    def lines() -> list[str]:
        text = written(kind, "%s asked for it", ODD[what], fault=ValueError(ODD[what]))
        found = events(text)
        if kind is JsonLines:
            assert text.isascii()
            assert [json.loads(line)["level"] for line in found] == ["error"]
        assert not _RAW.search(text)
        return found

    assert len(lines()) == 1
    if kind is TextLines and what in {"line feed", "CRLF"}:
        # The control: as it is sent, it makes a line of its own.
        monkeypatch.setattr(logs, "_CONTROLS", re.compile("(?!)"))
        assert any(line.startswith(FAKE) for line in events(written(kind, "%s asked for it", ODD[what])))


@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_L1_a_megabyte_is_cut_and_no_token_is_left_at_the_cut(kind: type[logging.Formatter]) -> None:
    token = "ent_" + "x" * 49
    for start in range(MOST_CHARACTERS - 60, MOST_CHARACTERS + 10, 7):
        text = written(kind, "%s", "y" * (start - 1) + " " + token + "z" * 1024 * 1024)
        assert len(text) < 4 * MOST_CHARACTERS
        assert "ent_x" not in text
    assert len(written(kind, "broken", fault=ValueError("\n" * 1024 * 1024))) < 1024 * 1024


def test_L1_a_fault_in_a_request_is_one_event_whatever_was_asked_for(world: World) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextLines())

    def broken() -> str:
        raise RuntimeError(f"what was asked for is not there: {request.args['q']}")

    world.app.add_url_rule("/broken", "broken", broken)
    log = logging.getLogger("entrepot.http")
    log.addHandler(handler)
    try:
        agent = "x\u2028" + "A" * 1024 * 1024
        answer = world.http.get(
            "/broken", query_string={"q": f"a\n{FAKE}"}, headers={"User-Agent": agent.encode().decode("latin-1")}
        )
    finally:
        log.removeHandler(handler)
    assert answer.status_code == 500
    assert (FAKE in answer.text, "RuntimeError" in answer.text, "Traceback" in answer.text) == (False, False, False)
    assert len(events(out.getvalue())) == 1
    assert FAKE not in events(out.getvalue())


def test_L1_the_running_server_writes_no_line_that_a_stranger_made(house: House) -> None:
    start = len(house.server.log_text())
    agent = {"User-Agent": f"x\x1b[2K{FAKE}"}
    for path in (
        "/%0d%0a" + FAKE,
        f"/pypi/default/dev/simple/{FAKE}%1b[31m/",
        '/"}%0a{"x":1',
        f"/npm/default/dev/{FAKE}",
    ):
        requests.get(house.server.url + path, headers=agent, auth=(f"eve\n{FAKE}", "x\r\n"), timeout=20)
    for head in (
        f"GET /{FAKE}\r\n\r\n", f"G\x1b[2KT / HTTP/1.1\r\nHost: x\r\n{FAKE}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {'A' * 1024 * 1024}\r\n\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", house.server.port), timeout=20) as sender:
            try:
                sender.sendall(head.encode())
                sender.recv(65536)
            except OSError:
                pass  # the server hung up before it had all of it
    secret = requests.post(
        f"{house.server.url}/api/v1/tokens", json={"name": "x", "actions": ["read"]},
        headers={"Authorization": f"Bearer {house.token}"}, timeout=20,
    ).json()["secret"]  # fmt: skip
    # An event that says what a person sent: a live token in an upload, with the name that they gave it.
    leaking = requests.put(
        f"{house.server.url}/generic/default/prod/odd/1.0/a%E2%80%AE b.txt", data=f"x {secret}".encode(),
        headers={"Authorization": f"Bearer {house.token}"}, timeout=20,
    )  # fmt: skip
    assert leaking.status_code == 400
    said = house.server.log_text()[start:]
    assert secret not in said
    assert not _RAW.search(said)
    beginnings = re.compile(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?:info|warning|error) [a-z_.]+: |\[\d{4}-|" + re.escape(CONTINUED)
    )
    assert [line for line in said.splitlines() if not beginnings.match(line) or line.startswith(FAKE)] == []


# --- L5 --------------------------------------------------------------------------------------------------------------

INSIDE = (
    "/metrics", "/console", "/?__debugger__=yes&cmd=resource&f=debugger.js", "/.git/HEAD", "/.git/config", "/.env",
    "/entrepot.toml", "/entrepot.db", "/config/settings.py", "/static/entrepot.css.map", "/static/", "/server-status",
    "/debug", "/_profiler", "/trace", "/actuator/env", "/api/v1/", "/healthz", "/readyz", "/sign-in", "/nowhere",
    "/api/v1/openapi.json", "/api/v1/nowhere", "/npm/default/dev/-/ping", "/pypi/default/dev/simple/x/", "/npm/a/b/-/nothing",
)  # fmt: skip


def test_L5_strangers_find_no_debugger_no_files_and_no_versions(house: House) -> None:
    release = version("entrepot")
    inner = re.compile(
        rf"\b{re.escape(release)}\b(?!\.\d)|werkzeug|gunicorn/|python/\d|flask/|sqlalchemy|traceback|site-packages|/tmp/|ref: refs",
        re.IGNORECASE,
    )
    for path in INSIDE:
        for method in ("GET", "POST", "TRACE"):
            answer = requests.request(method, house.server.url + path, timeout=20, allow_redirects=False)
            shown = answer.text if "openapi" not in path else json.dumps(answer.json()["info"]) if answer.ok else ""
            assert not inner.search(shown.replace(path, "")), (method, path, inner.search(shown))
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            assert not re.search(
                r"(?i)^(?:server|x-powered-by|via|x-runtime|x-debug[^:]*): .*\d", head, re.MULTILINE
            ), head
            assert answer.status_code != 500, (method, path)
            if method == "TRACE":
                assert answer.status_code in {400, 401, 404, 405, 501}, (path, answer.status_code)
    for path in INSIDE[:14]:
        assert requests.get(house.server.url + path, timeout=20, allow_redirects=False).status_code in {
            303,
            401,
            404,
        }, path
    assert inner.search(f"Entrepot {release}"), "the control: the release would be seen"


def test_L5_no_environment_switches_the_debugger_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    monkeypatch.setenv("FLASK_ENV", "development")
    made = World(tmp_path)
    try:
        from flask import Flask

        assert Flask("x").debug is True, "the control: it would be on"
        app = create_app(made.settings, made.services, made.hooks)
        assert (app.debug, app.testing) == (False, False)
    finally:
        made.close()
