"""kill -9 between a delivery and its record: it comes again, under the same webhook-id, and is never lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from standardwebhooks import Webhook

from tests.fakes.receiver import Got, Receiver
from tests.harness import publishing
from tests.harness.server import Server

OPEN = {
    "ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true",
    "ENTREPOT_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
    "ENTREPOT_WORKER_LEASE_SECONDS": "2",
}


class Api:
    """The management interface of a running server, as its administrator."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._token = server.token()

    def __call__(self, method: str, path: str, **options: object) -> dict:
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = requests.request(method, f"{self._server.url}/api/v1{path}", headers=headers, timeout=30, **options)
        assert answer.ok, answer.text
        return answer.json()

    def publish(self, name: str, version: str) -> None:
        answer = publishing.publish(self._server, self._token, name, version)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as running:
        yield running


def test_a_server_killed_before_it_recorded_an_answer_delivers_again(tmp_path: Path, receiver: Receiver) -> None:
    server = Server(tmp_path / "data", environment=OPEN, web_processes=1).start()
    try:
        api = Api(server)
        made = api("POST", "/webhooks", json={"url": receiver.url("/hold"), "domain": "default", "kinds": ["asset.*"]})
        webhook, secret = made["webhook"]["id"], made["secret"]
        for number in range(3):
            api.publish("acme", f"1.{number}")
        receiver.wait(lambda got: len({entry.id for entry in got}) == 3)
        server.kill()  # all three are with the receiver, none is recorded
        receiver.release.touch()
        server.start()
        got = receiver.wait(lambda got: _twice(got) == 3)
        for entry in got:
            Webhook(secret).verify(entry.body, dict(entry.headers))
        assert len({entry.id for entry in got}) == 3
        assert sorted(entry.event["data"]["version"] for entry in got[:3]) == ["1.0", "1.1", "1.2"]
        deadline = time.monotonic() + 60
        while {entry["state"] for entry in api("GET", f"/webhooks/{webhook}/deliveries")["items"]} != {"Succeeded"}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.fsck() == ""
    finally:
        server.kill()


def _twice(got: list[Got]) -> int:
    return sum(1 for one in {entry.id for entry in got} if sum(entry.id == one for entry in got) >= 2)
