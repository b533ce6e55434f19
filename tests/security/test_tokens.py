"""Design 4.2, D9, E8, A13: what a token looks like, where it is taken from, and that it stands nowhere but with its owner."""

import base64
import hashlib
import hmac
import io
import json
import logging
import random
import re
import sqlite3
import string
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest
import requests

from config.logs import JsonLines, TextLines
from registry.token_shape import looks_like_token, new_token
from tests.functional.api_world import World
from tests.harness import packages, processes
from tests.security.attack import House, exchange, request, words

SHAPE = re.compile(r"ent_[0-9A-Za-z]{49}")
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, remainder = divmod(number, 62)
        digits += ALPHABET[remainder]
    return digits


def test_a_tokens_shape_is_what_scanners_are_told() -> None:
    tokens = {new_token() for _ in range(500)}
    assert len(tokens) == 500
    for token in tokens:
        assert SHAPE.fullmatch(token)
        assert token[-6:] == checksum(token[:-6])
        assert looks_like_token(token)
    used = {character for token in tokens for character in token[4:-6]}
    assert used == set(ALPHABET)  # 62^43 is 256 bit only if all are drawn


def test_every_small_mistake_is_seen_without_a_database() -> None:
    chosen = random.Random(7)
    token = new_token()
    for position in range(4, len(token)):
        other = chosen.choice(ALPHABET.replace(token[position], ""))
        assert not looks_like_token(token[:position] + other + token[position + 1 :])
    for mistake in (
        token[:-1],
        token + "0",
        token.lower(),
        token.upper(),
        " " + token,
        token + "\n",
        f"{token} ",
        "",
        "ent_",
    ):
        assert not looks_like_token(mistake)


def test_what_is_kept_is_a_digest_under_the_pepper(house: House) -> None:
    pepper = (house.server.data / "keys" / "token-pepper").read_bytes()
    database = house.server.data / "entrepot.db"
    digest = hmac.new(pepper, house.token.encode(), hashlib.sha256).hexdigest()
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT last_four FROM token WHERE digest = ?", (digest,)).fetchall()
    assert rows == [(house.token[-4:],)]
    assert house.token.encode() not in database.read_bytes()
    assert house.token[4:-6].encode() not in database.read_bytes()
    # A copy of the database alone opens nothing: neither the digest nor the token's own hash is a credential.
    for secret in (digest, hashlib.sha256(house.token.encode()).hexdigest()):
        assert requests.get(f"{house.server.url}/api/v1/whoami", auth=("admin", secret), timeout=20).status_code == 401


def test_sessions_and_one_time_links_are_kept_as_digests(house: House) -> None:
    link = house.server.command("user", "login-link", "admin", "--data", str(house.server.data)).stdout.strip()
    code = link.rpartition("code=")[2]
    browser = requests.Session()
    browser.get(f"{house.server.url}/setup?code={code}", timeout=10)
    browser.post(f"{house.server.url}/setup", timeout=10, allow_redirects=False)
    cookie = browser.cookies["entrepot_session"]
    stored = (house.server.data / "entrepot.db").read_bytes()
    assert code.encode() not in stored
    assert cookie.encode() not in stored
    assert browser.get(f"{house.server.url}/account", timeout=10).status_code == 200


# --- where it is taken from ------------------------------------------------------------------------------------------


def test_a_token_in_an_address_is_none(house: House) -> None:
    for target in ("/api/v1/whoami", "/pypi/default/dev/simple/", "/account"):
        for name in ("token", "access_token", "api_key", "key", "auth", "private_token", "Authorization"):
            answer = exchange(house.server.port, request("GET", f"{target}?{name}={house.token}"))
            assert answer.status in {303, 400, 401}, (target, name)
        for header in (
            "X-API-Key",
            "X-Auth-Token",
            "Private-Token",
            "X-NuGet-ApiKey",
            "Proxy-Authorization",
            "Cookie: token=",
        ):
            line = f"{header}{house.token}" if header.endswith("=") else f"{header}: {house.token}"
            assert exchange(house.server.port, request("GET", target, line)).status in {303, 401}
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = exchange(house.server.port, request("GET", "/api/v1/whoami", f"Authorization: {scheme} {house.token}"))
        assert answer.status == 200


def test_pages_take_no_token_and_the_interface_no_cookie(house: House) -> None:
    bearer = {"Authorization": f"Bearer {house.token}"}
    answer = requests.get(f"{house.server.url}/account", headers=bearer, timeout=10, allow_redirects=False)
    assert answer.status_code == 303
    cookies = {"entrepot_session": house.token}
    for path in ("/account", "/api/v1/whoami"):
        answer = requests.get(f"{house.server.url}{path}", cookies=cookies, timeout=10, allow_redirects=False)
        assert answer.status_code in {303, 401}


# --- where it must not stand -----------------------------------------------------------------------------------------

FAILING = (
    ("GET", "/pypi/default/dev/simple/absent/"), ("GET", "/pypi/default/absent/simple/"), ("GET", "/nowhere"),
    ("POST", "/pypi/default/dev/"), ("POST", "/api/v1/tokens"), ("PUT", "/api/v1/pipelines"), ("GET", "/api/v1/users?limit=x"),
    ("GET", "/api/v1/builds/absent"), ("DELETE", "/api/v1/tokens/999999"), ("BREW", "/pypi/default/dev/simple/"),
    ("GET", "/static/%ff"), ("GET", "/pypi/default/dev/files/demo/demo-1.0.tar.gz"),
)  # fmt: skip


def test_no_answer_and_no_log_line_repeats_the_token(house: House) -> None:
    basic = base64.b64encode(f"__token__:{house.token}".encode()).decode()
    for header in (
        f"Authorization: Bearer {house.token}",
        f"Authorization: Basic {basic}",
        f"Authorization: Digest {house.token}",
    ):
        for method, target in FAILING:
            answer = exchange(house.server.port, request(method, target, header, "Accept: text/html"))
            assert house.token.encode() not in answer.raw, (method, target)
            assert basic.encode() not in answer.raw
    assert house.token not in house.server.log_text()
    assert basic not in house.server.log_text()


def test_clients_are_not_told_the_token(house: House, tmp_path: Path) -> None:
    """What a client prints of the answers, and of the addresses in them."""
    indexed = house.server.index("staging", token=house.token)
    (path,) = packages.save(tmp_path, ("demo-1.0.tar.gz", b"no archive"))
    for done in (
        house.clients.pip_install(Path(sys.executable), indexed, "--dry-run", "-vv", "absent"),
        house.clients.uv_publish(house.server.index("staging", simple=False), house.token, path),
        house.clients.twine(house.server.index("staging", simple=False), house.token, path, verbose=True),
    ):
        assert done.returncode != 0
        assert house.token not in words(done.output)
    assert house.token not in house.server.log_text()


def test_no_process_shows_it(house: House) -> None:
    """Neither the arguments nor the environment of a process hold the token or the keys."""
    assert house.server.process is not None
    pepper = (house.server.data / "keys" / "token-pepper").read_bytes()
    ours = [house.server.process.pid, *processes.descendants(house.server.process.pid)]
    assert len(ours) >= 4  # supervisor, gunicorn, two of its workers
    for pid in ours:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert shown.strip(b"\0")
        assert house.token.encode() not in shown
        assert pepper not in shown
        assert pepper.hex().encode() not in shown


@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_log_lines_are_cleaned(kind: type[logging.Formatter]) -> None:
    """Should one come into a message all the same: not in the message, not in a trace, not in a URL."""
    token = new_token()

    def told(message: str, *arguments: object, broken: bool = False) -> str:
        out = io.StringIO()
        handler = logging.StreamHandler(out)
        handler.setFormatter(kind())
        log = logging.getLogger("entrepot.test")
        log.addHandler(handler)
        try:
            raise ValueError(f"with {token} in it")
        except ValueError:
            log.error(message, *arguments, exc_info=broken)
        return out.getvalue()

    for line in (
        told(f"plain {token} text"),
        told("argument %s", token),
        told("address https://alice:%s@host/simple/", token),
        told("address https://alice:hunter2secret@host/simple/"),
        told("broken", broken=True),
        told(json.dumps({"token": token})),
    ):
        assert token not in line
        assert "hunter2secret" not in line
    assert len(told("one\ntwo\r\nthree").strip().splitlines()) == 1  # L1: one event, one line
    assert "kept" in told("kept")


def test_a_new_token_is_shown_once_and_in_no_address(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        with world.db.write() as session:
            secret = world.services.accounts.open_session(session, 1, world.now, proved_at=world.now)
        world.http.set_cookie("entrepot_session", secret)
        with world.db.read() as session:
            csrf = world.services.accounts.browser_session(session, secret, world.now).csrf_token
        form = {"csrf_token": csrf, "name": "ci", "actions": "read", "life_days": "30"}
        made = world.http.post("/account/tokens", data=form)
        (shown,) = set(SHAPE.findall(made.get_data(as_text=True)))
        assert looks_like_token(shown)
        assert "Location" not in made.headers
        assert made.headers["Cache-Control"] == "no-store"
        assert made.headers["Referrer-Policy"] == "same-origin"
        for path in ("/account/tokens", "/account"):
            assert not SHAPE.search(world.http.get(path).get_data(as_text=True))
        assert shown not in str(world.audit())
        listed = world.call("GET", "/tokens", token=shown).get_data(as_text=True)
        assert not SHAPE.search(listed)
    finally:
        world.close()
