"""A server that deploys, real ``entrepot agent`` processes beside it without SQLAlchemy, and bundles for them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
from sqlalchemy import select

from config import deploying, wiring
from config.settings import load
from hooks.deployments import engine
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.revisions import pin
from hooks.deployments.targets import log_context
from hooks.deployments.uploads import keep_upload
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
)
from registry.clock import system_clock
from registry.models import Domain
from storage.intake import receive
from tests.build_bench import eventually
from tests.deploying import HEAD
from tests.harness.server import ROOT, Server

# What serves has them; what only deploys must do without.
COMMAND = (
    "import sys; sys.modules['sqlalchemy'] = sys.modules['flask'] = None; from config.cli.main import main; main()"
)
Config = tuple[str, Mapping[str, Any]]
ALL_AT_ONCE: Config = ("CodeDeployDefault.AllAtOnce", {"minimumHealthyHosts": {"type": "HOST_COUNT", "value": 0}})


def tgz(files: Mapping[str, str | bytes]) -> bytes:
    """A bundle; scripts are what begins with ``#!``."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000
            member.mode = 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(member, io.BytesIO(data))
    return body.getvalue()


def release(destination: Path, version: str, *, hooks: str = "", files: int = 3, **more: str) -> bytes:
    """A bundle with files that all say ``version``; ``more`` are further files, with ``_sh`` for ``.sh``."""
    content: dict[str, str | bytes] = {
        "appspec.yml": f"{HEAD}files:\n  - source: app\n    destination: {destination}\n{hooks}"
    }
    content |= {f"app/{number}.txt": f"{version}\n" * (number + 1) for number in range(files)}
    return tgz(content | {name.replace("_sh", ".sh"): text for name, text in more.items()})


class Middle(ThreadingHTTPServer):
    """Somebody between an agent and its server. ``change``: (path, the answer's body) → another body."""

    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Between)
        self.server, self.change = server, lambda _path, body: body
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Between(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        middle: Any = self.server
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        answer = requests.request(
            self.command, f"{middle.server.url}{self.path}", data=sent, headers=kept, timeout=30, allow_redirects=False
        )
        body = middle.change(self.path, answer.content)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        if answer.status_code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _pass_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Crew:
    """A server without a worker, an application, and agents."""

    server: Server
    place: Path
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token = self.server.token()
        self.settings = load(self.server.data, self.server.child_environment())
        self.services = wiring.services(self.settings)
        self.db = self.services.db
        self.parts = deploying.parts(self.settings, self.services)
        with self.db.write() as session:
            now = system_clock()
            row = DeploymentApplication(
                name="shop",
                domain="default",
                compute_platform="Server",
                created_by="ada",
                created_at=now,
                updated_at=now,
            )
            session.add(row)
            session.flush()
            self.application_id = row.id

    def close(self) -> None:
        for process in self.agents.values():
            if process.poll() is None:
                process.kill()
            process.wait(20)
        self.db.close()

    # --- the interface

    def call(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.server.url}/api/v1{path}", headers=headers, timeout=30, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def agent(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/agents/{name}"))

    # --- agents

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", COMMAND, "agent", *arguments]

    def home(self, name: str) -> Path:
        return self.place / name

    def enrol(
        self, name: str, token: str | None = None, *options: str, url: str = ""
    ) -> subprocess.CompletedProcess[str]:
        if token is None:
            token = self.call("POST", "/agents", 201, json={"name": name})["enrolmentToken"]
        place = str(self.home(name))
        return subprocess.run(
            self.command("enrol", "--url", url or self.server.url, "--data", place, "--token", "-", *options),
            cwd=ROOT,
            input=token,
            env=self.server.child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def run(
        self, name: str, prefix: tuple[str, ...] = (), environment: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[bytes]:
        with (self.place / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *self.command("run", "--data", str(self.home(name)))],
                cwd=ROOT,
                env={**self.server.child_environment(), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.agents[name] = process
        return process

    def kill(self, name: str) -> None:
        """kill -9 of the agent alone; what it runs has to end by itself."""
        process = self.agents[name]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)

    def log(self, name: str) -> str:
        return (self.place / f"{name}.log").read_text()

    # --- deployments

    def group(self, name: str, *agents: str, **document: Any) -> str:
        """A deployment group of these agents; its id."""
        with self.db.write() as session:
            group_id, now = uuid.uuid4().hex, system_clock()
            session.add(
                DeploymentGroup(
                    id=group_id,
                    application_id=self.application_id,
                    name=name,
                    document={"targets": list(agents), **document},
                    created_by="ada",
                    created_at=now,
                    updated_at=now,
                )
            )
        return group_id

    def deploy(
        self, group_id: str, bundle: bytes, *, sha256: str = "", config: Config = ALL_AT_ONCE, **options: Any
    ) -> str:
        """Deploy a bundle; with ``sha256`` under the name of another one. The deployment's id."""
        now = system_clock()
        with self.db.read() as session:
            domain_id = session.scalars(select(Domain.id).where(Domain.name == "default")).one()
        handle = receive(io.BytesIO(bundle), self.services.stores.of(domain_id), limit_bytes=2**30).handle
        with self.db.write() as session:
            application = session.get_one(DeploymentApplication, self.application_id)
            row, _ = keep_upload(session, application, domain_id, handle, "tgz", "ada", now)
            revision = {
                "revisionType": "Upload",
                "upload": {"id": row.id, "sha256": sha256 or row.sha256, "bundleType": "tgz"},
            }
        return self.deploy_revision(group_id, revision, config=config, **options)

    def deploy_revision(
        self, group_id: str, revision: Mapping[str, Any], *, config: Config = ALL_AT_ONCE, **options: Any
    ) -> str:
        """Deploy what a revision's document, pinned already or of a package, names. The deployment's id."""
        now, (name, document) = system_clock(), config
        with self.db.write() as session:
            if revision["revisionType"] == "Package":
                application = session.get_one(DeploymentApplication, self.application_id)
                revision = pin(session, revision, application, now)
            wanted = DeploymentRequest(group_id, revision, "ada", config_name=name, config=document, options=options)
            return engine.create(session, self.parts, wanted, now).id

    def steer(self, what: Any, deployment_id: str, *more: Any, **named: Any) -> None:
        with self.db.write() as session:
            what(session, self.parts, deployment_id, *more, system_clock(), actor="ada", **named)

    def status(self, deployment_id: str) -> str:
        with self.db.read() as session:
            return session.get_one(Deployment, deployment_id).status

    def ended(self, deployment_id: str) -> str:
        """A deployment's status when it has ended."""
        eventually(lambda: self.deployment(deployment_id).completed_at, f"{deployment_id} does not end")
        return self.status(deployment_id)

    def deployment(self, deployment_id: str) -> Deployment:
        with self.db.read() as session:
            return session.get_one(Deployment, deployment_id)

    def events(self, deployment_id: str) -> dict[str, DeploymentEvent]:
        """The events of a deployment with one target, by name."""
        with self.db.read() as session:
            rows = session.scalars(
                select(DeploymentEvent)
                .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
                .where(DeploymentTarget.deployment_id == deployment_id)
                .order_by(DeploymentEvent.position)
            )
            return {row.name: row for row in rows}

    def tail(self, event: DeploymentEvent) -> str:
        sealed = event.sealed_log or b""
        return self.services.stores.server_keyring().unseal(sealed, log_context(event.id)).decode() if sealed else ""

    def found(self, group_id: str, name: str) -> dict[str, Any]:
        with self.db.read() as session:
            row = session.get(DeploymentInstallation, (group_id, name))
            return dict(row.found or {}) if row is not None else {}
