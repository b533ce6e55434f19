"""Who an agent is: its private key, made here and never sent; the server that it has enrolled with; what it has accepted."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hooks.deployments.agent.settings import AgentFault
from hooks.deployments.host.state import sync_directory

IDENTITY_FILE, KEY_FILE, MEMORY_FILE = "agent.json", "agent.key", "agent-memory.json"
DEPLOYMENTS = "deployments"
"""Where the deployments of the machine lie, in the agent's directory."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An agent that has enrolled. ``server_key`` is SubjectPublicKeyInfo DER in base64."""

    url: str
    agent_id: str
    name: str
    server_key: str

    @property
    def trusted_key(self) -> Ed25519PublicKey:
        """The key that commands have to be signed with. Raises AgentFault."""
        return server_key_of(self.server_key)


def server_key_of(text: str) -> Ed25519PublicKey:
    """A server's key for commands. Raises AgentFault."""
    try:
        key = serialization.load_der_public_key(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise AgentFault("the server's key cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AgentFault("the server's key is no Ed25519 key")
    return key


def prepare(data: Path) -> None:
    """Make the agent's directory. Scripts that run as other users have to come through it, where root is the agent."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711 if os.geteuid() == 0 else 0o700)


def make_key(data: Path) -> Ed25519PrivateKey:
    """A new private key in DIR/agent.key, which only this user can read. Raises OSError."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
    write_secret(data / KEY_FILE, pem)
    return key


def public_half(key: Ed25519PrivateKey) -> str:
    """What is told of a key: 32 bytes in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def load_key(data: Path) -> Ed25519PrivateKey:
    """The private key. Raises AgentFault."""
    path = data / KEY_FILE
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise AgentFault(f"{path} cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AgentFault(f"{path} is no Ed25519 key")
    return key


def save(data: Path, identity: Identity) -> None:
    """Write who the agent is. Raises OSError."""
    told = {
        "url": identity.url,
        "agentId": identity.agent_id,
        "name": identity.name,
        "serverKey": identity.server_key,
    }
    write_secret(data / IDENTITY_FILE, json.dumps(told))


def load(data: Path) -> Identity:
    """Who the agent is. Raises AgentFault."""
    path = data / IDENTITY_FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        return Identity(*(str(found[name]) for name in ("url", "agentId", "name", "serverKey")))
    except FileNotFoundError:
        raise AgentFault(f"{path} is missing: enrol the agent first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentFault(f"{path} cannot be read: {error}") from error


class Memory:
    """What an agent must not forget: the number of the last command that it accepted, and the last session that it had.

    It belongs to one enrolment: with another the numbers begin anew. Safe for many threads.
    """

    def __init__(self, data: Path, agent_id: str) -> None:
        """Read it. Raises AgentFault for one that cannot be read: without it old commands could come again."""
        self._path = data / MEMORY_FILE
        self._lock = threading.Lock()
        self._agent_id = agent_id
        self.sequence, self.session = 0, ""
        try:
            found = json.loads(self._path.read_text("utf-8"))
            if found["agentId"] == agent_id:
                self.sequence, self.session = int(found["sequence"]), str(found["session"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AgentFault(f"{self._path} cannot be read: {error}") from error

    def accept(self, sequence: int) -> None:
        """Note a command's number; it is on the disk when this returns. Raises OSError, and nothing is noted then."""
        with self._lock:
            self._write(sequence, self.session)
            self.sequence = sequence

    def keep_session(self, credential: str) -> None:
        """Note a session. Raises OSError; it counts for this process all the same."""
        with self._lock:
            self.session = credential
            self._write(self.sequence, credential)

    def _write(self, sequence: int, session: str) -> None:
        told: Mapping[str, Any] = {"agentId": self._agent_id, "sequence": sequence, "session": session}
        write_secret(self._path, json.dumps(told))


def write_secret(path: Path, text: str) -> None:
    """Write a file that only this user can read, so that after a crash it is the old or the new one. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_directory(path.parent)
