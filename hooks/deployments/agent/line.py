"""An agent's line to its server: a session that is proved anew when it ends, bounded answers, and the server's time."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hooks.builds.remote.link import READ_SECONDS, Away, Link, Rejected, Unproved, broken_off
from hooks.deployments.agent.identity import Identity, Memory
from hooks.deployments.signed_commands import is_signed, proof_text, time_text

LOG = logging.getLogger("entrepot.agent")
MOST_ANSWER_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024


class Line:
    """One server, one agent. Safe for many threads."""

    def __init__(self, identity: Identity, key: Ed25519PrivateKey, memory: Memory) -> None:
        """Nothing is sent yet."""
        self._identity = identity
        self._key = key
        self._memory = memory
        self._server_key = identity.trusted_key
        self._link = Link(identity.url, "", "agent")
        self._boot_id = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._session = ""
        self._known_time: tuple[datetime, float] | None = None

    def ask(self, method: str, *path: str, body: Any = None, read_seconds: float = READ_SECONDS) -> Mapping[str, Any]:
        """One request; the JSON of its answer, {} for none. Raises Away, Rejected, NotAdmitted."""
        return bounded_json(self._proved(method, *path, body=body, read_seconds=read_seconds))

    def fetch(self, *path: str) -> requests.Response:
        """A body that is read piece by piece. Raises as ``ask``."""
        return self._proved("GET", *path, body=None, read_seconds=READ_SECONDS)

    def now(self) -> datetime:
        """The server's time, whatever this machine's clock says. Raises Away before the first session."""
        known = self._known_time
        if known is None:
            raise Away("the server's time is not known yet")
        moment, at = known
        return moment + timedelta(seconds=_uptime() - at)

    def _proved(self, method: str, *path: str, body: Any, read_seconds: float) -> requests.Response:
        used = self._session or self._open("")
        try:
            return self._link.ask(method, *path, json=body, is_streamed=True, read_seconds=read_seconds)
        except Unproved:
            self._open(used)
        return self._link.ask(method, *path, json=body, is_streamed=True, read_seconds=read_seconds)

    def _open(self, ended: str) -> str:
        """Open a session in the place of ``ended``, unless another thread has. Raises Away, Rejected, NotAdmitted."""
        with self._lock:
            if self._session != ended:
                return self._session
            identity = self._identity
            asked = self._link.ask("POST", "challenge", json={"agentId": identity.agent_id}, is_streamed=True)
            challenge, nonce = str(bounded_json(asked).get("challenge")), secrets.token_urlsafe(24)
            signature = self._key.sign(proof_text(identity.agent_id, challenge, self._boot_id, nonce))
            proof = {
                "agentId": identity.agent_id,
                "challenge": challenge,
                "bootId": self._boot_id,
                "nonce": nonce,
                "signature": base64.b64encode(signature).decode("ascii"),
                "previousSession": self._memory.session,
            }
            began_at = _uptime()
            told = bounded_json(self._link.ask("POST", "session", json=proof, is_streamed=True))
            self._known_time = self._signed_time(told, nonce), began_at
            try:
                self._memory.keep_session(str(told["session"]))
            except OSError as error:
                LOG.warning("the session cannot be written down: %s", error)
            self._session = str(told["session"])
            self._link.use(self._session)
            return self._session

    def _signed_time(self, told: Mapping[str, Any], nonce: str) -> datetime:
        try:
            moment = datetime.fromisoformat(told["serverTime"])
            signature = base64.b64decode(told["signature"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected("the server's answer cannot be read") from error
        message = time_text(self._identity.agent_id, nonce, moment)
        if moment.tzinfo is None or not is_signed(self._server_key, message, signature):
            raise Rejected("this is not the server that the agent has enrolled with: its time has another signature")
        return moment


def bounded_json(response: requests.Response) -> Mapping[str, Any]:
    """The JSON object of an answer, read to 1 MiB at most. Raises Away, Rejected."""
    taken = bytearray()
    with response, broken_off():
        for piece in response.iter_content(_PIECE_BYTES):
            taken += piece
            if len(taken) > MOST_ANSWER_BYTES:
                raise Rejected(f"the server's answer is longer than {MOST_ANSWER_BYTES} bytes")
    try:
        found = json.loads(taken) if taken else {}
    except (ValueError, RecursionError) as error:
        raise Rejected("the server's answer is no JSON") from error
    if not isinstance(found, dict):
        raise Rejected("the server's answer is no JSON object")
    return found


def _uptime() -> float:
    """Seconds since the start of the machine, those of its sleep as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
