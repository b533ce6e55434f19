"""A POST with an Idempotency-Key is done once, and answered the same when it comes again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from werkzeug.test import TestResponse

from tests.functional.api_world import World
from tests.harness.server import Server

TOKEN = {"name": "ci", "actions": ["read"], "ttlSeconds": 3600}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def post(world: World, path: str, body: object, key: str, as_: str = "admin") -> TestResponse:
    return world.call("POST", path, as_=as_, json=body, headers={"Idempotency-Key": key})


def tokens(world: World) -> int:
    return sum(entry["name"] == "ci" for entry in world.call("GET", "/tokens").json["items"])


def test_a_repeated_request_is_done_once_and_answered_the_same(world: World) -> None:
    first, again = (post(world, "/tokens", TOKEN, "key-1") for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert again.data == first.data  # the token as well, which is shown once otherwise
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert tokens(world) == 1
    assert post(world, "/tokens", TOKEN, "key-2").data != first.data
    assert tokens(world) == 2


def test_without_a_key_each_is_done(world: World) -> None:
    assert [world.call("POST", "/tokens", json=TOKEN).status_code for _ in range(2)] == [201, 201]
    assert tokens(world) == 2


def test_a_key_belongs_to_one_request_of_one_account(world: World) -> None:
    assert post(world, "/tokens", TOKEN, "key").status_code == 201
    other = post(world, "/tokens", {**TOKEN, "name": "other"}, "key")
    assert other.status_code == 409
    assert "another request" in other.json["detail"]
    world.tokens["bob"] = world.account("bob", "read")
    assert post(world, "/tokens", TOKEN, "key", as_="bob").status_code == 201


def test_what_was_refused_may_be_tried_again(world: World) -> None:
    assert post(world, "/groups", {"name": "NOT A NAME"}, "key").status_code == 400
    assert post(world, "/groups", {"name": "ops"}, "key").status_code == 201
    assert post(world, "/groups", {"name": "ops"}, "key").status_code == 201
    assert post(world, "/groups", {"name": "ops"}, "key-2").status_code == 409


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\u00e9"])
def test_what_is_no_key(world: World, key: str) -> None:
    answer = post(world, "/tokens", TOKEN, key)
    assert answer.status_code == 400
    assert tokens(world) == 0


def test_a_day_later_it_is_another_request(world: World) -> None:
    assert post(world, "/groups", {"name": "ops"}, "key").status_code == 201
    world.now += timedelta(days=1, minutes=1)
    assert post(world, "/groups", {"name": "ops"}, "key").status_code == 409


def test_of_many_at_once_one_is_done(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        headers = {"Authorization": f"Bearer {server.token('admin')}", "Idempotency-Key": "one"}
        url = f"{server.url}/api/v1/tokens"

        def send(_: int) -> tuple[int, str]:
            answer = requests.post(url, json=TOKEN, headers=headers, timeout=60)
            return answer.status_code, answer.text if answer.status_code == 201 else ""

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))
        assert set(Counter(status for status, _ in answers)) <= {201, 409}
        assert len({text for status, text in answers if status == 201}) == 1
        found = requests.get(url, headers=headers, timeout=60).json()["items"]
        assert sum(entry["name"] == "ci" for entry in found) == 1
    finally:
        server.kill()
