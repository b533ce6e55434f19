"""Deployments of a site (``tests.browser.site``) by the engine's own code, whose targets do what a test says."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from hooks.deployments import engine, wanted
from hooks.deployments.documents.request import ParsedRequest
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.rows import events_of, first_open, targets_of
from hooks.models.deployment import DeploymentApplication, DeploymentGroup
from registry.access import Identity
from registry.accounts import account_scope, find_account
from registry.api import coordinates

if TYPE_CHECKING:
    from tests.browser.site import Site

AT_ONCE, HALF, ONE = (f"CodeDeployDefault.{word}" for word in ("AllAtOnce", "HalfAtATime", "OneAtATime"))
EVENTS = ["ApplicationStop", "Install", "ValidateService"]
WHY = "Script at specified location: scripts/validate.sh failed with exit code 1"
LOG = "[stdout] checking http://127.0.0.1:8080\n\x1b[31m[stderr] curl: (7) refused\x1b[0m\n"


class Deployed:
    """Shorthands. ``actor`` is an account with all rights."""

    def __init__(self, site: Site, actor: str = "ada") -> None:
        self.site = site
        self.parts = site.hook_services.deployments
        with site.services.db.read() as session:
            account = find_account(session, actor)
            self.actor = Identity(account.name, account.id, (account_scope(account),), "session")

    def application(self, name: str, domain: str = "default", platform: str = "Server") -> int:
        now = self.site.clock()
        with self.site.services.db.write() as session:
            row = DeploymentApplication(
                name=name, domain=domain, compute_platform=platform, created_by="ada", created_at=now, updated_at=now
            )
            session.add(row)
            session.flush()
            return row.id

    def group(self, application_id: int, name: str, targets: Sequence[str | Mapping[str, Any]], **document: Any) -> str:
        """A group of the dummy platform; each target is an agent's of its own name, unless it says otherwise."""
        now, group_id = self.site.clock(), uuid.uuid4().hex
        plans = [{"name": each, "agent": f"agent-{each}"[:32]} if isinstance(each, str) else each for each in targets]
        with self.site.services.db.write() as session:
            session.add(
                DeploymentGroup(
                    id=group_id,
                    application_id=application_id,
                    name=name,
                    document={"dummyTargets": plans, "dummyEvents": EVENTS, **document},
                    created_by="ada",
                    created_at=now,
                    updated_at=now,
                )
            )
        return group_id

    def deploy(
        self, application: str, group: str, version: str | None = None, *, config: str = AT_ONCE,
        description: str = "", package: Mapping[str, str] = {}, **options: Any,
    ) -> str:  # fmt: skip
        """As the API makes one: of ``acme-billing``, or of the group's last good revision."""
        self.site.world.later(seconds=5)
        at = {"repository": "dev", "format": "pypi", "name": "acme-billing", "version": version, **package}
        revision = {"revisionType": "Package", "package": at} if version is not None else None
        parsed = ParsedRequest(application, group, revision, config, description, options)
        formats = self.site.services.formats

        def canonical(session: Any, who: Identity, package: Mapping[str, Any], domain: str) -> dict[str, str]:
            return coordinates.find_readable(session, formats, who, package, domain)

        with self.site.services.db.write() as session:
            return wanted.create(session, self.parts, self.actor, parsed, canonical, self.site.clock()).id

    def step(self, deployment_id: str, target: str, *, fails: bool = False, ends: bool = True, log: str = LOG) -> str:
        """Let a target do its next event; which one it was, "" where it has none to do."""
        self.site.world.later(seconds=2)
        now = self.site.clock()
        with self.site.services.db.write() as session:
            row = next(each for each in targets_of(session, deployment_id) if each.name == target)
            event = first_open(events_of(session, row.id))
            if event is None:
                return ""
            # One that is under way is ended also while its deployment is paused.
            if event.status != EventStatus.IN_PROGRESS.value and not engine.event_begun(session, event, now):
                return ""
            name = event.name
            if ends:
                result = EventResult(name, EventStatus.SUCCEEDED, log=log)
                if fails:
                    told = (ErrorCode.SCRIPT_FAILED, WHY, "scripts/validate.sh", log)
                    result = EventResult(name, EventStatus.FAILED, *told)
                engine.event_ended(session, self.parts, event, result, now + timedelta(milliseconds=700))
            return name

    def run(self, deployment_id: str, *targets: str, fails: str = "") -> int:
        """Let targets do all that there is for them now; how many events that were. ``fails`` is the one that fails."""
        done = 0
        for target in targets:
            while name := self._next(deployment_id, target):
                if not self.step(deployment_id, target, fails=name == fails):
                    break
                done += 1
        return done

    def finish(self, deployment_id: str) -> str:
        """Let all targets do everything, as their turn comes; how the deployment stands then."""
        going = [""]
        while going:
            with self.site.services.db.read() as session:
                going = [row.name for row in targets_of(session, deployment_id) if row.status == "InProgress"]
            if not self.run(deployment_id, *going):
                break
        return self.status(deployment_id)

    def _next(self, deployment_id: str, target: str) -> str:
        with self.site.services.db.read() as session:
            row = next(each for each in targets_of(session, deployment_id) if each.name == target)
            event = first_open(events_of(session, row.id))
            return event.name if event is not None and row.status == "InProgress" else ""

    def advance(self, deployment_id: str) -> None:
        """What a worker does with one whose turn has come."""
        with self.site.services.db.write() as session:
            engine.advance(session, self.parts, deployment_id, self.site.clock())

    def status(self, deployment_id: str) -> str:
        with self.site.services.db.read() as session:
            return str(session.scalar(select(engine.Deployment.status).where(engine.Deployment.id == deployment_id)))

    def target_id(self, deployment_id: str, name: str) -> int:
        with self.site.services.db.read() as session:
            return next(row.id for row in targets_of(session, deployment_id) if row.name == name)
