"""Agents without machines: real keys, proofs and checked signatures, the real protocol, and nothing that is installed.

Each has a connection of its own, which it keeps, as ``entrepot agent run`` does. A few threads serve them all, each agent
one request at a time. What is told of an event is what a release with three scripts would lead to: ``SCRIPTS`` and the
engine's events begin and end, the others have nothing to do.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import http.client
import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bench.load import Unusable
from hooks.deployments.agent.identity import server_key_of
from hooks.deployments.signed_commands import Command, Trust, is_signed, proof_text, time_text

FACTS = {"host": "simulated", "version": "1", "os": "Linux", "user": "nobody"}
SCRIPTS = frozenset({"ApplicationStop", "ApplicationStart", "ValidateService", "DownloadBundle", "Install"})
_SUCCESS = {"agentErrorCode": 0, "scriptName": "", "message": "", "logTail": "[stdout]done\n"}


@dataclass
class Tally:
    """What a crowd was answered: how long each request took in seconds, by its last word (``poll``, ``begin`` …)."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def count(self, word: str) -> int:
        return len(self.seconds.get(word, ()))

    def percentile_ms(self, word: str, share: float) -> float:
        """The latency that ``share`` of the requests stay below, in milliseconds."""
        found = sorted(self.seconds.get(word, ()))
        return found[min(len(found) - 1, int(len(found) * share))] * 1000 if found else 0.0


class SimulatedAgent:
    """One agent. Served by one thread at a time."""

    def __init__(self, url: str, name: str, tally: Tally) -> None:
        """Nothing is sent yet; ``url`` is the server's."""
        self.name = name
        self._tally = tally
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._key = Ed25519PrivateKey.generate()
        self._server_key: Ed25519PublicKey | None = None
        self._agent_id = self._session = ""
        self._sequence = 0
        self._boot_id = secrets.token_hex(16)

    def enrol(self, token: str) -> None:
        """Spend an enrolment token and pin the server's key. Raises Unusable."""
        public = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()
        told = self._ask("enrol", {"protocol": 1, "publicKey": public, "facts": FACTS}, token)
        self._agent_id, self._server_key = told["agentId"], server_key_of(told["serverKey"])

    def open(self) -> None:
        """Prove who it is, and have a session; the server's time has to bear its signature. Raises Unusable."""
        challenge, nonce = (
            self._ask("challenge", {"agentId": self._agent_id}, "")["challenge"],
            secrets.token_urlsafe(24),
        )
        signature = self._key.sign(proof_text(self._agent_id, challenge, self._boot_id, nonce))
        proof = {
            "agentId": self._agent_id,
            "challenge": challenge,
            "bootId": self._boot_id,
            "nonce": nonce,
            "signature": base64.b64encode(signature).decode(),
            "previousSession": self._session,
        }
        told = self._ask("session", proof, "")
        message = time_text(self._agent_id, nonce, datetime.fromisoformat(told["serverTime"]))
        assert self._server_key is not None
        if not is_signed(self._server_key, message, base64.b64decode(told["signature"])):
            raise Unusable(f"{self.name}: the server's time is not signed by its key")
        self._session = told["session"]

    def turn(self) -> float:
        """Poll once and do what it is told; how many seconds it waits before the next turn. Raises Unusable."""
        told = self._ask("poll", {"running": [], "free": 4})
        if told["command"] is None:
            return float(told["pollAfterSeconds"])
        self._carry_out(self._accepted(told["command"]))
        return 0.0  # what it did has ended, and a free agent asks at once

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _accepted(self, given: dict[str, str]) -> Command:
        assert self._server_key is not None
        trust = Trust(self.name, self._agent_id, self._server_key, self._sequence)
        payload, signature = (base64.b64decode(given[part]) for part in ("command", "signature"))
        command = trust.accept(payload, signature, datetime.now(UTC))
        self._sequence = command.sequence
        return command

    def _carry_out(self, command: Command) -> None:
        path = f"events/{command.event_id}"
        is_noop = command.event not in SCRIPTS
        begun = self._ask(f"{path}/begin", {"isNoop": is_noop})
        if is_noop or not begun["goesOn"]:
            return
        if command.event == "DownloadBundle":
            body = self._answer("GET", f"{path}/bundle", None, self._session)
            if hashlib.sha256(body).hexdigest() != command.sha256:
                raise Unusable(f"{self.name}: the bundle is another one than the signed command names")
        told = {"lifecycleEventName": command.event, "status": "Succeeded", "durationInMilliseconds": 5}
        self._ask(f"{path}/complete", {**told, "diagnostics": _SUCCESS})

    def _ask(self, path: str, body: Any, token: str | None = None) -> dict[str, Any]:
        session = self._session if token is None else token
        return dict(json.loads(self._answer("POST", path, json.dumps(body).encode(), session)))

    def _answer(self, method: str, path: str, body: bytes | None, token: str) -> bytes:
        headers = {"User-Agent": "entrepot-agent", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        began = time.perf_counter()
        self._connection.request(method, f"/api/v1/agent/{path}", body, headers)
        response = self._connection.getresponse()
        found = response.read()
        self._tally.seconds.setdefault(path.rpartition("/")[2], []).append(time.perf_counter() - began)
        if response.status >= 300:
            raise Unusable(f"{self.name}: {method} {path} was answered {response.status} {found[:300]!r}")
        return found


class Crowd:
    """Many agents, whose turns a few threads take when they are due."""

    def __init__(self, agents: Sequence[SimulatedAgent], tally: Tally, threads: int = 12) -> None:
        """They begin with ``running``; at moments spread over five seconds, as machines that were started one by one."""
        self._tally = tally
        self._agents = agents
        self._threads = threads
        self._order = itertools.count()
        self._due: list[tuple[float, int, SimulatedAgent]] = []
        self._changed = threading.Condition()
        self._is_over = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them poll until the block ends."""
        now = time.monotonic()
        self._is_over = False
        self._due = [
            (now + 5.0 * number / len(self._agents), next(self._order), agent)
            for number, agent in enumerate(self._agents)
        ]
        heapq.heapify(self._due)
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
            for thread in threads:
                thread.join(60)

    def _serve(self) -> None:
        while (agent := self._next()) is not None:
            try:
                seconds = agent.turn()
            except (Unusable, OSError, http.client.HTTPException) as error:
                self._tally.faults.append(f"{agent.name}: {error}")
                agent.close()
                seconds = 2.0
            with self._changed:
                heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), agent))
                self._changed.notify()

    def _next(self) -> SimulatedAgent | None:
        with self._changed:
            while not self._is_over:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
        return None
