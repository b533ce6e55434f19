"""A server in this process with a forge beside it, for tests of what pipelines take from git repositories."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from config import wiring
from hooks.builds.access import ACCOUNT
from hooks.builds.records import QUEUE as BUILDS
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.pipelines.actions.git import QUEUE as SOURCES
from hooks.pipelines.locations import ask_for_definition
from registry.access import Action
from tests.build_bench import work_directory
from tests.build_outputs import OutputWorld
from tests.fakes.forge import Forge, Repository, forge

SOURCE = """
- name: Source
  actions:
  - name: App
    namespace: src
    actionTypeId: {{category: Source, owner: Entrepot, provider: Git, version: "1"}}
    configuration: {{Connection: forge, FullRepositoryId: {repository}, BranchName: main{more}}}
    outputArtifacts: [{{name: App}}]
"""
LOOK = """
- name: Look
  actions:
  - name: Look
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    inputArtifacts: [{name: App}]
    outputVariables: [TEXT]
    commands: ["export TEXT=$(cat text)"]
"""


class SourceWorld(OutputWorld):
    """``forge`` serves ``code``, its repository ``app``; ``answers`` counts deliveries."""

    forge: Forge
    code: Repository
    count = 0

    def apply(self, name: str, more: str = "", stages: str = LOOK, triggers: str = "", repository: str = "app") -> None:
        document = f"name: {name}\n{triggers}\nstages:{SOURCE.format(repository=repository, more=more)}{stages}"
        done = self.call("PUT", "/pipelines", json={"document": document})
        assert done.status_code == 200, done.text

    def hook(self, pipeline: str) -> dict[str, Any]:
        made = self.call("POST", f"/pipelines/{pipeline}/webhooks", json={"provider": "github"})
        assert made.status_code == 201, made.text
        return made.json

    def tell(self, hook: dict[str, Any], payload: Any, event: str = "push", **headers: str) -> Any:
        body = json.dumps(payload).encode()
        self.count += 1
        signed = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": f"delivery-{self.count}",
            "X-Hub-Signature-256": "sha256=" + hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest(),
        }
        return self.http.post(f"/hooks/v1/pipelines/{hook['id']}", data=body, headers=signed | headers)

    def work(self, *, builds: bool = True) -> None:
        """Do what waits, of pipelines and sources (and builds), until there is nothing."""
        sources, _ = wiring.source_jobs(self.settings, self.services, self.hooks.actions)
        tables = [wiring.general_jobs(self.hooks.actions), sources, wiring.deployment_jobs(self.hooks.deployments)]
        if builds:
            tables.append(wiring.build_jobs(self.settings, self.services, self.hooks.actions))
        handlers = {kind: handler for table in tables for kind, handler in table.handlers.items()}
        settle = {kind: ends for table in tables for kind, ends in table.settle.items()}
        queues = [SOURCES, "default", "deployments", *([BUILDS] if builds else [])]
        while True:
            with self.db.write() as session:
                jobs = claims.claim(session, owner="w", queues=queues, kinds=list(handlers), free=1, lease_seconds=600)
            if not jobs:
                return
            for job in jobs:
                Attempt(
                    self.db, job, handler=handlers[job.kind], settle=settle.get(job.kind), lease_seconds=600,
                    first_retry_seconds=600,
                ).run()  # fmt: skip

    def poll(self) -> None:
        """A minute later: ask the sources, and do what follows."""
        self.now += timedelta(seconds=61)
        _, polling = wiring.source_jobs(self.settings, self.services, self.hooks.actions)
        polling.round()
        self.work()

    def poll_definition(self, name: str) -> None:
        """Have a definition that comes from its source looked at again, as after a push."""
        with self.db.write() as session:
            ask_for_definition(session, name)
        self.work(builds=False)

    def executions(self, pipeline: str) -> list[dict[str, Any]]:
        """Oldest first, with everything."""
        found = self.call("GET", f"/pipelines/{pipeline}/executions").json["items"]
        return [self.call("GET", f"/executions/{each['id']}").json for each in reversed(found)]

    def start(self, pipeline: str, as_: str = "admin", **body: Any) -> Any:
        return self.call("POST", f"/pipelines/{pipeline}/executions", as_=as_, json=body)


Made = TypeVar("Made", bound=SourceWorld)


def action(execution: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for stage in execution["stages"] for each in stage["actions"] if each["name"] == name)


@contextmanager
def source_world(folder: Path, kind: type[Made] = SourceWorld) -> Iterator[Made]:
    with work_directory() as work:
        root = work.parent / "repositories"
        root.mkdir()
        root.chmod(0o755)
        app = Repository(root, "app")
        environment = {
            "ENTREPOT_BUILDS_WORKSPACE_PATH": str(work),
            "ENTREPOT_UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        with forge(root) as running:
            world = kind(folder, environment)
            world.forge, world.code = running, app
            try:
                with world.db.write() as session:  # as the first start makes it
                    world.services.accounts.create(
                        session, ACCOUNT, actions=[Action.READ, Action.PUBLISH], is_service=True, now=world.now
                    )
                made = world.call(
                    "PUT",
                    "/git-connections/forge",
                    json={"url": running.url, "repository": "dev", "provider": "github"},
                )
                assert made.status_code == 200, made.text
                yield world
            finally:
                world.close()
