"""Agents without a process: what a machine says, in the world of one process with a clock to set."""

from __future__ import annotations

import base64
import io
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from hooks.deployments import engine
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.signed_commands import proof_text
from hooks.deployments.uploads import keep_upload
from hooks.models.deployment import Deployment, DeploymentAgent, DeploymentApplication, DeploymentEvent, DeploymentGroup
from registry.models import Domain
from storage.intake import receive
from tests.agent_bench import ALL_AT_ONCE
from tests.functional.api_world import World

FACTS = {"host": "h", "version": "1", "os": "Linux", "user": "root"}
BUNDLE = b"the bundle"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class AgentMachine:
    """A machine with a key. ``memory`` is the last session that it knows."""

    world: World
    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    agent_id: str = ""
    server_key: str = ""
    session: str = ""
    memory: str = ""
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.session if token is None else token}"}
        return self.world.http.open(f"/api/v1/agent{path}", method=method, headers=headers, json=body)

    def enrol(self, token: str) -> Any:
        told = {"protocol": 1, "publicKey": encoded(self.key.public_key().public_bytes_raw()), "facts": FACTS}
        answer = self.ask("POST", "/enrol", told, token)
        if answer.status_code == 201:
            self.agent_id, self.server_key = answer.json["agentId"], answer.json["serverKey"]
        return answer

    def challenge(self) -> str:
        return str(self.ask("POST", "/challenge", {"agentId": self.agent_id}).json["challenge"])

    def prove(self, challenge: str, **other: str) -> Any:
        nonce = uuid.uuid4().hex
        signature = self.key.sign(proof_text(self.agent_id, challenge, self.boot_id, nonce))
        told = {
            "agentId": self.agent_id,
            "challenge": challenge,
            "bootId": self.boot_id,
            "nonce": nonce,
            "signature": encoded(signature),
            "previousSession": self.memory,
        }
        return self.ask("POST", "/session", {**told, **other})

    def open(self) -> Any:
        answer = self.prove(self.challenge())
        if answer.status_code == 201:
            self.session = self.memory = answer.json["session"]
        return answer

    def poll(self, *running: int, free: int = 4) -> dict[str, Any]:
        answer = self.ask("POST", "/poll", {"running": running, "free": free})
        assert answer.status_code == 200, answer.text
        return dict(answer.json)

    def command(self) -> dict[str, Any]:
        """The command that it is offered, as it is signed."""
        return dict(json.loads(base64.b64decode(self.poll()["command"]["command"])))

    def begin(self, event: int, **more: bool) -> Any:
        return self.ask("POST", f"/events/{event}/begin", more)

    def complete(self, event: int, name: str, status: str = "Succeeded", log: str = "") -> Any:
        diagnostics = {
            "agentErrorCode": 0 if status == "Succeeded" else 4,
            "scriptName": "",
            "message": "",
            "logTail": log,
        }
        body = {"lifecycleEventName": name, "status": status, "diagnostics": diagnostics, "durationInMilliseconds": 5}
        return self.ask("POST", f"/events/{event}/complete", body)


def machine(world: World, name: str, *, is_open: bool = True) -> AgentMachine:
    """An agent that has enrolled, in a session unless ``is_open`` says otherwise."""
    answer = world.call("POST", "/agents", as_="admin", json={"name": name})
    assert answer.status_code == 201, answer.text
    made = AgentMachine(world, name)
    assert made.enrol(answer.json["enrolmentToken"]).status_code == 201
    if is_open:
        assert made.open().status_code == 201
    return made


def deploy_to(world: World, *machines: AgentMachine, **options: Any) -> str:
    """A deployment to these machines, of a group of its own; its id."""
    parts, now = world.hooks.agents.parts, world.services.clock()
    with world.db.read() as session:
        domain_id = session.scalars(select(Domain.id).where(Domain.name == "default")).one()
    handle = receive(io.BytesIO(BUNDLE), world.services.stores.of(domain_id), limit_bytes=1000).handle
    with world.db.write() as session:
        application = session.scalar(select(DeploymentApplication))
        if application is None:
            application = DeploymentApplication(
                name="shop", domain="default", compute_platform="Server", created_by="a", created_at=now, updated_at=now
            )
            session.add(application)
            session.flush()
        group_id = uuid.uuid4().hex
        document = {"targets": [each.name for each in machines]}
        about = {"created_by": "a", "created_at": now, "updated_at": now}
        session.add(
            DeploymentGroup(id=group_id, application_id=application.id, name=group_id[:8], document=document, **about)
        )
        session.flush()
        row, _ = keep_upload(session, application, domain_id, handle, "tgz", "a", now)
        revision = {"revisionType": "Upload", "upload": {"id": row.id, "sha256": row.sha256, "bundleType": "tgz"}}
        name, config = ALL_AT_ONCE
        wanted = DeploymentRequest(group_id, revision, "a", config_name=name, config=config, options=options)
        return engine.create(session, parts, wanted, now).id


def event_row(world: World, event_id: int) -> DeploymentEvent:
    with world.db.read() as session:
        return session.get_one(DeploymentEvent, event_id)


def agent_row(world: World, name: str) -> DeploymentAgent:
    with world.db.read() as session:
        return session.scalars(select(DeploymentAgent).where(DeploymentAgent.name == name)).one()


def deployment_row(world: World, deployment_id: str) -> Deployment:
    with world.db.read() as session:
        return session.get_one(Deployment, deployment_id)
