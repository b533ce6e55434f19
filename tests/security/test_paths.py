"""A1, A4, D4, F1, F2: what stands in the request line and its headers opens nothing that the plain address would not."""

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from flask import request as flask_request
from flask import request_started

from config.app import create_app
from registry.http.guard import RequestGuard
from tests.functional.api_world import World
from tests.harness import packages
from tests.security.attack import BOUNDARY, Answer, House, exchange, request

PREFIXES = (
    "", "/pypi/default/staging", "/pypi/default/staging/simple", "/pypi/default/staging/files/demo", "/pypi/default",
    "/api/v1/domains/default/repositories", "/api/v1/domains/default/repositories/dev/packages/pypi", "/api/v1/builds",
    "/api/v1/pipelines", "/static", "/packages/default/staging/pypi", "/repositories/default", "/builds", "/pipelines",
)  # fmt: skip


@pytest.fixture(scope="module")
def canary(house: House) -> Path:
    """A file beside the data directory, which no address reaches."""
    path = house.server.data.parent / "canary.txt"
    path.write_text(secrets.token_hex(32))
    return path


@pytest.fixture(scope="module")
def cookie(house: House) -> str:
    """The cookie of a browser that the administrator is signed in with."""
    link = house.server.command("user", "login-link", "admin", "--data", str(house.server.data)).stdout.strip()
    browser = requests.Session()
    browser.get(f"{house.server.url}/setup?{link.partition('?')[2]}", timeout=10)
    browser.post(f"{house.server.url}/setup", timeout=10, allow_redirects=False)
    return f"entrepot_session={browser.cookies['entrepot_session']}"


@pytest.fixture(scope="module")
def stocked(house: House) -> House:
    """demo 1.0 in staging, which only those who may read staging may see."""
    filename, body = packages.wheel("demo", "1.0")
    (path,) = packages.save(house.clients.home / "stock", (filename, body))
    house.clients.twine(house.server.index("staging", simple=False), house.token, path).ok()
    return house


def payloads(canary: Path) -> Iterator[str]:
    climb = "../" * 12
    yield from (
        climb + str(canary).lstrip("/"),
        quote(climb, safe="").replace(".", "%2e") + "etc/passwd",
        "..%2f" * 12 + quote(str(canary), safe=""),
        "%2e%2e/" * 12 + str(canary).lstrip("/"),
        "%252e%252e%252f" * 12 + "etc%252fpasswd",
        "..%255c" * 12 + "etc/passwd",
        "..\\" * 12 + "etc\\passwd",
        "..%5c" * 12 + "etc%5cpasswd",
        "..;/" * 12 + "etc/passwd",
        "%c0%ae%c0%ae/" * 12 + "etc/passwd",
        "%c0%ae%c0%ae%c0%af" * 12 + "etc/passwd",
        "%ef%bc%8f" * 3 + "etc/passwd",
        "demo%00.txt",
        "%00",
        "./",
        "./demo",
        "demo/./x",
        "demo/..",
        "C:%5cWindows",
        "C:/Windows/win.ini",
        quote(str(canary), safe=""),
        "%2F%2F%2F%2F%2F%2F%2F" + "..%2F" * 7 + "etc%2Fpasswd",
        str(canary),
        "file:" + str(canary),
        "demo%0d%0aSet-Cookie:%20a=b",
        "looking/normal/" + climb + "etc/shadow",
        "../" * 2700,
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_path_leads_out(stocked: House, canary: Path, cookie: str, prefix: str) -> None:
    """As administrator, at both doors: not because of a missing right."""
    secret = canary.read_bytes()
    for payload in payloads(canary):
        for method in ("GET", "POST"):
            answer = exchange(
                stocked.server.port,
                request(method, f"{prefix}/{payload}", f"Authorization: Bearer {stocked.token}", f"Cookie: {cookie}"),
            )
            assert secret not in answer.raw
            assert b"root:" not in answer.raw
            assert "set-cookie" not in answer.headers
            # 405: an address that exists, asked in the wrong way; 414: gunicorn's limit on the line.
            assert answer.status in {400, 404, 405, 414}, (method, payload, answer)


def test_absolute_and_odd_targets(stocked: House, canary: Path) -> None:
    for target in (
        f"http://elsewhere/{'../' * 9}etc/passwd",
        f"http://elsewhere/%2e%2e{canary}",
        "*",
        "elsewhere:443",
        "",
    ):
        answer = exchange(stocked.server.port, request("GET", target, f"Authorization: Bearer {stocked.token}"))
        assert 400 <= answer.status < 500, (target, answer)
        assert canary.read_bytes() not in answer.raw


# --- other ways to the same thing (D4) -------------------------------------------------------------------------------

PROTECTED = "/pypi/default/staging/simple/demo/"
DETOURS = (
    "//pypi/default/staging/simple/demo/", "/pypi//default/staging/simple/demo/", "/pypi/default/staging//simple/demo/",
    "/pypi/default/staging/simple//demo/", "/pypi/default/staging/simple/demo//", "/PYPI/default/staging/simple/demo/",
    "/pypi/default/staging/simple/demo;.jsp", "/pypi/default/staging/simple/demo/;.css", "/pypi;a=b/default/staging/simple/demo/",
    "/static/../pypi/default/staging/simple/demo/", "/healthz/../pypi/default/staging/simple/demo/", "/pypi/default/staging/simple/demo/?.css",
    "/pypi/default/staging/simple/demo/#/static/x", "/pypi/default/staging/simple/demo", "/pypi/default/staging/+simple/demo/",
    "/pypi/default/STAGING/simple/demo/", "/pypi/default/staging%20/simple/demo/", "/pypi/default/staging/simple/demo/%20",
    "http://127.0.0.1/pypi/default/staging/simple/demo/",
)  # fmt: skip
OVERRIDES = (
    f"X-Original-URL: {PROTECTED}", f"X-Rewrite-URL: {PROTECTED}", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1",
    "X-Forwarded-User: admin", "X-Remote-User: admin", "Remote-User: admin", "X-HTTP-Method-Override: HEAD",
    "Authorization:", "X-Forwarded-Prefix: /pypi", "SCRIPT_NAME: /pypi", "PATH_INFO: /healthz", "REMOTE_USER: admin",
)  # fmt: skip


def test_a_stranger_finds_no_detour(stocked: House) -> None:
    def says_it(answer: Answer) -> bool:
        return b"demo-1.0-py3-none-any.whl" in answer.raw or answer.status == 200

    for target in (*DETOURS, PROTECTED):
        for override in ("X-Nothing: 1", *OVERRIDES):
            answer = exchange(stocked.server.port, request("GET", target, override))
            assert not says_it(answer), (target, override)
            assert answer.status < 500
    for override in OVERRIDES:
        answer = exchange(stocked.server.port, request("GET", "/healthz", override))
        assert b"demo" not in answer.raw
    # The control: the one way in.
    assert says_it(exchange(stocked.server.port, request("GET", PROTECTED, f"Authorization: Bearer {stocked.token}")))


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE"]
)
def test_a_header_does_not_change_the_method(stocked: House, name: str) -> None:
    url, headers = f"{stocked.server.url}/api/v1/tokens", {"Authorization": f"Bearer {stocked.token}"}
    mine = requests.get(url, headers=headers, timeout=10).json()
    (token_id,) = [token["id"] for token in mine["items"] if token["lastFour"] == stocked.token[-4:]]
    for method in ("GET", "POST"):
        requests.request(method, f"{url}/{token_id}?_method=DELETE", headers={**headers, name: "DELETE"}, timeout=10)
    assert requests.get(url, headers=headers, timeout=10).json() == mine


# --- forwarded headers (F2) ------------------------------------------------------------------------------------------

SPOOFED = (
    "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 4443", "X-Forwarded-Prefix: /evil",
    "X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9;host=evil.example;proto=https", "X-Real-IP: 203.0.113.9",
    "X-Forwarded-Protocol: ssl", "X-Forwarded-Ssl: on", "Front-End-Https: on", "X_Forwarded_Host: evil.example",
    "X-Original-Host: evil.example", "X-Host: evil.example",
)  # fmt: skip
LINKING = (
    "/account", "/sign-in", "/", "/repositories/default/staging", "/packages/default/staging/pypi/demo",
    "/pypi/default/staging/simple/Demo", "/pypi/default/staging/simple/demo/", "/api/v1/openapi.json", "/nowhere",
)  # fmt: skip


def _same(answer: Answer) -> tuple[object, ...]:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status, answer.reason, headers, answer.body


@pytest.mark.parametrize("target", LINKING)
def test_forwarded_headers_of_strangers_change_nothing(stocked: House, cookie: str, target: str) -> None:
    for credentials in ((), (f"Authorization: Bearer {stocked.token}", f"Cookie: {cookie}")):
        plain = exchange(stocked.server.port, request("GET", target, *credentials))
        for spoofed in (*((line,) for line in SPOOFED), SPOOFED):
            answer = exchange(stocked.server.port, request("GET", target, *credentials, *spoofed))
            assert _same(answer) == _same(plain), spoofed


@pytest.mark.parametrize("prefix", ["/api", "/pypi", "/evil"])
def test_a_client_cannot_move_the_application(stocked: House, prefix: str) -> None:
    """gunicorn believes a SCRIPT_NAME header of everybody on loopback unless told otherwise."""
    plain = exchange(stocked.server.port, request("GET", "/api/v1/openapi.json"))
    answer = exchange(stocked.server.port, request("GET", "/api/v1/openapi.json", f"SCRIPT_NAME: {prefix}"))
    assert _same(answer) == _same(plain)


def test_a_configured_proxy_is_believed(tmp_path: Path) -> None:
    """The control: the same headers count once the operator says that there is a proxy."""
    world = World(tmp_path)
    try:
        settings = dataclasses.replace(
            world.settings, server=dataclasses.replace(world.settings.server, trusted_proxy_hops=1)
        )
        behind = create_app(settings, world.services, world.hooks).test_client()
        said = {"X-Forwarded-Proto": "https"}
        assert "Strict-Transport-Security" in behind.get("/sign-in", headers=said).headers
        assert "Strict-Transport-Security" not in world.http.get("/sign-in", headers=said).headers
    finally:
        world.close()


# --- smuggling (F1) --------------------------------------------------------------------------------------------------

SECOND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ambiguous(token: str) -> dict[str, bytes]:
    def post(*lines: str, version: str = "1.1") -> bytes:
        first = f"POST /pypi/default/staging/ HTTP/{version}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        first += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        return (first + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin-1")

    chunked = "Transfer-Encoding: chunked"
    return {
        "length and chunks": post("Content-Length: 4", chunked) + b"0\r\n\r\n" + SECOND,
        "chunks and length": post(chunked, f"Content-Length: {len(SECOND) + 5}") + b"0\r\n\r\n" + SECOND,
        "two lengths": post("Content-Length: 0", f"Content-Length: {len(SECOND)}") + SECOND,
        "the same length twice": post("Content-Length: 1", "Content-Length: 1") + b"x" + SECOND,
        "a list of lengths": post("Content-Length: 0, 0") + SECOND,
        "a length with a sign": post("Content-Length: +0") + SECOND,
        "a negative length": post("Content-Length: -1") + SECOND,
        "a length that is none": post("Content-Length: 0x0") + SECOND,
        "an unknown coding": post("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SECOND,
        "chunked twice": post("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n" + SECOND,
        "chunked and something": post("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n" + SECOND,
        "a blank before the colon": post("Transfer-Encoding : chunked") + b"0\r\n\r\n" + SECOND,
        "a folded header": post("Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n" + SECOND,
        "chunks in HTTP/1.0": post(chunked, version="1.0") + b"0\r\n\r\n" + SECOND,
        "no number": post(chunked) + b"zz\r\nabc\r\n0\r\n\r\n" + SECOND,
        "a number with a sign": post(chunked) + b"+1\r\na\r\n0\r\n\r\n" + SECOND,
        "a number with a prefix": post(chunked) + b"0x1\r\na\r\n0\r\n\r\n" + SECOND,
        "a negative number": post(chunked) + b"-1\r\na\r\n0\r\n\r\n" + SECOND,
        "a chunk too long": post(chunked) + b"1\r\nabc\r\n0\r\n\r\n" + SECOND,
        "a bare CR in an extension": post(chunked) + b"1;a\rb\r\na\r\n0\r\n\r\n" + SECOND,
        "a bare LF after the number": post(chunked) + b"1\na\r\n0\r\n\r\n" + SECOND,
        "two Hosts": post("Content-Length: 0", "Host: evil.example") + SECOND,
        "a bare LF": b"GET /healthz HTTP/1.1\nHost: localhost\n\n" + SECOND,
        "a NUL in a header": post("Content-Length: 0", "X-A: a\0b") + SECOND,
        "no version": b"GET /healthz\r\n\r\n" + SECOND,
    }


@pytest.mark.parametrize("case", ambiguous(""))
def test_ambiguous_requests_are_refused_and_end_the_connection(stocked: House, case: str) -> None:
    answer = exchange(stocked.server.port, ambiguous(stocked.token)[case])
    # 501: a transfer coding that is not implemented (RFC 9112 §6.1)
    assert 400 <= answer.status < 500 or answer.status == 501, answer
    assert answer.is_closed
    assert b" 200 " not in answer.raw


@pytest.mark.parametrize("host", ["", "Host:\r\n"])
def test_http_1_1_without_a_host_is_refused(stocked: House, host: str) -> None:
    answer = exchange(stocked.server.port, f"GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode())
    assert (answer.status, answer.reason) == (400, "the Host header is missing")
    old = exchange(stocked.server.port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert old.status == 200  # the control: HTTP/1.0 knows no Host


def test_two_honest_requests_on_one_connection_are_two(stocked: House) -> None:
    """The control: the second request would have been seen."""
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = exchange(stocked.server.port, first + SECOND)
    assert answer.status == 200
    assert answer.rest.startswith(b"HTTP/1.1 200 ")


# --- negative controls -----------------------------------------------------------------------------------------------


def test_without_the_guard_dots_reach_a_view(tmp_path: Path) -> None:
    world = World(tmp_path)
    seen: list[object] = []

    def note(*_: object, **__: object) -> None:
        seen.append(flask_request.view_args)

    path = "/packages/default/staging/pypi/../../../etc/passwd"
    try:
        with request_started.connected_to(note, world.app):
            assert isinstance(world.app.wsgi_app, RequestGuard)
            assert world.http.get(path).status_code == 400
            assert seen == []
            world.app.wsgi_app = world.app.wsgi_app._app  # type: ignore[method-assign]
            world.http.get(path)
            assert seen == [
                {"domain": "default", "repository": "staging", "format_name": "pypi", "name": "../../../etc/passwd"}
            ]
    finally:
        world.close()
