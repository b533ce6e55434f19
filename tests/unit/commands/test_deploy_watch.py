"""Waiting for a deployment's end: a server that is away for a moment does not end it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hooks.commands.deploy_watch import ended
from registry.commands.client import Client, Refused

GOING = {"deploymentId": "d-1", "status": "InProgress", "complete": False, "isPaused": False}


class Answers(ThreadingHTTPServer):
    """Says ``statuses`` one after the other when it is asked for the deployment, and then that it has succeeded."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Answers)
        is_targets = "/targets" in self.path
        status = 200 if is_targets or not self.server.statuses else self.server.statuses.pop(0)
        found = {"items": [], "next": None} if is_targets else {**GOING, "status": "Succeeded", "complete": True}
        body = json.dumps(found if status == 200 else {"error": {"code": "x", "message": "not now"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def asked() -> Iterator[Answers]:
    server = Answers()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_server_that_is_away_for_a_moment_is_waited_for(asked: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hooks.commands.deploy_watch.WAIT_SECONDS", 0.01)
    client = Client(f"http://127.0.0.1:{asked.server_port}", "ent_x")
    asked.statuses += [503, 502, 504]
    assert ended(client, GOING, watch=False)["status"] == "Succeeded"
    assert asked.statuses == []
    asked.statuses += [503, 404]
    with pytest.raises(Refused) as refused:
        ended(client, GOING, watch=False)
    assert refused.value.status == 404
