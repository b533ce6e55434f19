"""D10, D11, F2: guessing passwords is slow at every door, tells nothing about who exists, and locks no token out."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
from argon2 import PasswordHasher
from requests.auth import _basic_auth_str
from werkzeug.test import TestResponse

from registry import accounts as accounts_module
from registry import attempts
from registry.accounts import find_account
from tests.functional.api_world import PASSWORD, World
from tests.security.attack import House, Stock, at_once
from tests.security.people import people_of

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
Door = Callable[[World, str, str], TestResponse]


def client_door(world: World, user: str, password: str) -> TestResponse:
    return world.http.get("/pypi/default/dev/simple/", auth=(user, password))


def upload_door(world: World, user: str, password: str) -> TestResponse:
    return world.http.post("/pypi/default/open/", auth=(user, password))


def api_door(world: World, user: str, password: str) -> TestResponse:
    return world.http.get("/api/v1/whoami", auth=(user, password))


def repository_door(world: World, user: str, password: str) -> TestResponse:
    return world.http.get("/api/v1/domains/default/repositories/dev", auth=(user, password))


def page_door(world: World, user: str, password: str) -> TestResponse:
    return world.http.post("/sign-in", data={"user": user, "password": password})


BASIC: dict[str, Door] = {
    "client": client_door, "upload": upload_door, "interface": api_door, "repository": repository_door,
}  # fmt: skip
DOORS: dict[str, Door] = {**BASIC, "page": page_door}


@pytest.fixture
def slow_world(tmp_path: Path) -> Iterator[World]:
    """Passwords hashed as the product does it."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def world(slow_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """All passwords are hashed cheaply: what is counted here is attempts, not seconds."""
    hashed = QUICK.hash(PASSWORD)
    monkeypatch.setattr(accounts_module, "_nobody_hash", lambda: hashed)
    with slow_world.db.write() as session:
        for name in slow_world.tokens:
            find_account(session, name).password_hash = hashed
    return slow_world


@pytest.mark.parametrize("door", BASIC)
def test_guessing_is_refused_after_the_free_failures(world: World, door: str) -> None:
    ask = BASIC[door]
    statuses = [ask(world, "reader", f"guess {number}").status_code for number in range(8)]
    assert statuses == [401] * attempts.FREE_FAILURES_OF_ACCOUNT + [429] * 3
    # Also the right one: else the guess that hits would stand out.
    refused = ask(world, "reader", PASSWORD)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    world.now += timedelta(seconds=int(refused.headers["Retry-After"]))
    assert ask(world, "reader", PASSWORD).status_code not in {401, 429}
    assert ask(world, "publisher", PASSWORD).status_code not in {401, 429}


@pytest.mark.parametrize("door", DOORS)
def test_each_door_counts_for_all_doors(world: World, door: str) -> None:
    for number in range(attempts.FREE_FAILURES_OF_ACCOUNT):
        DOORS[door](world, "reader", f"guess {number}")
    assert {other: DOORS[other](world, "reader", PASSWORD).status_code for other in DOORS} == dict.fromkeys(DOORS, 429)


def test_a_password_that_was_right_a_moment_ago_is_no_oracle_either(world: World) -> None:
    """A remembered password needs no hashing, and must not be found by guessing at full speed."""
    assert api_door(world, "reader", PASSWORD).status_code == 200
    for number in range(attempts.FREE_FAILURES_OF_ACCOUNT):
        api_door(world, "reader", f"guess {number}")
    assert api_door(world, "reader", PASSWORD).status_code == 429


def test_the_wait_grows_with_each_further_failure(world: World) -> None:
    waits = []
    for number in range(attempts.FREE_FAILURES_OF_ACCOUNT + 12):
        answer = api_door(world, "reader", f"guess {number}")
        while answer.status_code == 429:
            waits.append(int(answer.headers["Retry-After"]))
            world.now += timedelta(seconds=waits[-1])
            answer = api_door(world, "reader", f"guess {number}")
            if len(waits) > 8:
                break
    assert waits[:8] == sorted(waits[:8])
    assert waits[7] > 60


def test_tokens_of_a_locked_account_go_on(world: World) -> None:
    for number in range(8):
        api_door(world, "publisher", f"guess {number}")
    assert api_door(world, "publisher", PASSWORD).status_code == 429
    assert api_door(world, "publisher", world.tokens["publisher"]).status_code == 200
    assert client_door(world, "__token__", world.tokens["publisher"]).status_code == 200
    assert world.call("GET", "/whoami", as_="publisher").status_code == 200


def test_one_address_cannot_go_through_all_accounts(world: World) -> None:
    names = [f"nobody{number}" for number in range(attempts.FREE_FAILURES_OF_ADDRESS - 1)]
    statuses = [api_door(world, name, "Summer2026!xx").status_code for name in (*names, "reader")]
    assert set(statuses) == {401}
    # Whatever address it claims to come from.
    spoofed = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    assert api_door(world, "admin", "Summer2026!xx").status_code == 429
    assert world.http.get("/api/v1/whoami", auth=("admin", "Summer2026!xx"), headers=spoofed).status_code == 429
    elsewhere = {"REMOTE_ADDR": "203.0.113.9"}
    answer = world.http.get("/api/v1/whoami", auth=("admin", PASSWORD), environ_overrides=elsewhere)
    assert answer.status_code == 200


def test_a_mistyped_token_is_no_guess(world: World) -> None:
    """It costs no hashing and no entry, and its owner is told what is wrong."""
    before = world.audit()
    for secret in (world.tokens["reader"][:-1], world.tokens["reader"] + "x", "ent_", "x" * 5000, "ent_" + "é" * 49):
        for user in ("__token__", "", "Not A Name"):
            answer = api_door(world, user, secret)
            assert (answer.status_code, answer.json["detail"]) == (401, "the token is unknown, expired or revoked")
        assert world.http.get("/api/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert world.audit() == before


def test_without_the_limit_the_password_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    guesses = [*(f"guess {number}" for number in range(30)), PASSWORD]
    monkeypatch.setattr(attempts, "FREE_FAILURES_OF_ACCOUNT", 1000)
    monkeypatch.setattr(attempts, "FREE_FAILURES_OF_ADDRESS", 1000)
    assert [api_door(world, "reader", guess).status_code for guess in guesses] == [401] * 30 + [200]


# --- who exists ------------------------------------------------------------------------------------------------------


def _said(answer: TestResponse, name: str) -> tuple[object, ...]:
    headers = {key: value for key, value in answer.headers.items() if key not in {"Date", "Set-Cookie"}}
    return answer.status, answer.get_data(as_text=True).replace(name, "NAME"), headers


@pytest.mark.parametrize("door", DOORS)
def test_unknown_wrong_disabled_and_passwordless_sound_the_same(world: World, door: str) -> None:
    world.account("silent", "read", repositories=["default/dev"])
    with world.db.write() as session:
        find_account(session, "promoter").is_disabled = True
    cases = {"reader": "wrong", "nobody": "wrong", "promoter": PASSWORD, "silent": "wrong"}
    for _ in range(3):
        answers = {name: _said(DOORS[door](world, name, password), name) for name, password in cases.items()}
        padded = {name: (status, body) for name, (status, body, _) in answers.items()}
        assert len(set(padded.values())) == 1, padded


def test_each_refusal_costs_one_hash(slow_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stopwatch would measure, without one: 135 ms of Argon2 each, whoever is asked for."""
    world = slow_world
    hashed: list[str] = []
    verify = PasswordHasher.verify

    def counted(hasher: PasswordHasher, stored: str, password: str) -> bool:
        hashed.append(stored)
        return verify(hasher, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    world.account("silent", "read")
    with world.db.write() as session:
        find_account(session, "promoter").is_disabled = True
    costs = set()
    for name in ("reader", "nobody", "silent"):
        hashed.clear()
        assert api_door(world, name, "wrong").status_code == 401
        assert len(hashed) == 1, name
        costs.add(hashed[0].rsplit("$", 2)[0])
    hashed.clear()
    assert api_door(world, "promoter", PASSWORD).status_code == 401
    assert len(hashed) == 1
    assert len(costs) == 1, costs


# --- several processes -----------------------------------------------------------------------------------------------


def test_all_processes_count_together(house: House) -> None:
    """Two processes and many threads: what slips through is what was on its way, and the page knows of it at once."""
    with people_of(house.server.data) as people:
        people.add("victim", "read", password=PASSWORD)
        people.change("victim", password_hash=QUICK.hash(PASSWORD))

    def ask(method: str, path: str, body: str = "", **headers: str) -> int:
        # From an address of its own, so that the other tests on this server have theirs.
        connection = HTTPConnection("127.0.0.1", house.server.port, timeout=60, source_address=("127.0.0.77", 0))
        with closing(connection):
            connection.request(method, path, body, headers)
            return connection.getresponse().status

    def guess(number: int) -> Callable[[], int]:
        return lambda: ask("GET", "/api/v1/whoami", Authorization=_basic_auth_str("victim", f"guess {number}"))

    statuses = [status for start in range(0, 48, 16) for status in at_once(*map(guess, range(start, start + 16)))]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 16 + attempts.FREE_FAILURES_OF_ACCOUNT
    form = urlencode({"user": "victim", "password": PASSWORD})
    assert ask("POST", "/sign-in", form, **{"Content-Type": "application/x-www-form-urlencoded"}) == 429
    # Refusals are not written down: somebody who knocks for ever does not fill the disk.
    before = Stock.of(house.server.data)
    assert set(at_once(*map(guess, range(16)))) == {429}
    assert Stock.of(house.server.data) == before
