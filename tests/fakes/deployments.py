"""A database with an application, a group and the dummy platform, and a worker that is driven by hand."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, update

from hooks.deployments import engine, jobs
from hooks.deployments.ending import STEP_KIND
from hooks.deployments.health.alarms import Poll, PollFailed
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.targets import QUEUE
from hooks.jobs import claims
from hooks.jobs.claims import Claimed
from hooks.jobs.context import Handler, JobContext
from hooks.jobs.lease import Lease
from hooks.jobs.retry import Retry
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentAlarm,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
)
from hooks.models.job import Job, JobState
from registry.db import Base, Database
from registry.models import AuditEntry, Event
from tests.job_bench import fresh_url

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL_AT_ONCE = ("CodeDeployDefault.AllAtOnce", {"minimumHealthyHosts": {"type": "HOST_COUNT", "value": 0}})
HALF = ("CodeDeployDefault.HalfAtATime", {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 50}})
ONE = ("CodeDeployDefault.OneAtATime", {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 99}})
SHORT = ["Install", "AllowTraffic", "BlockTraffic"]


class PlainSealer:
    """Marks what it is given; the real seal has tests of its own."""

    def seal(self, data: bytes, context: str) -> bytes:
        return b"sealed:" + context.encode() + b":" + data

    def unseal(self, sealed: bytes, context: str) -> bytes:
        return sealed.removeprefix(b"sealed:" + context.encode() + b":")


class World:
    """One group and its deployments. ``now`` is the clock: it stands until it is moved."""

    def __init__(self, database: Database) -> None:
        self.db = database
        self.now = NOW
        self.platform = DummyPlatform()
        self.silent: set[str] = set()
        """The agents that do not ask, whatever time passes."""
        self.polls: list[Poll] = []
        """What alarms that are outside answer, one after the other; then nobody answers."""
        self.parts = Parts(
            {"Server": self.platform},
            lambda: self.now,
            PlainSealer(),
            lambda _: self.polls.pop(0) if self.polls else PollFailed("nobody answers"),
        )
        with database.read() as session:
            self.audit_start = session.scalar(select(func.max(AuditEntry.seq))) or 0
        self.group_id = self.new_group("web")

    def new_group(self, name: str, **document: Any) -> str:
        group_id = uuid.uuid4().hex
        with self.db.write() as session:
            application = session.scalar(select(DeploymentApplication))
            if application is None:
                application = DeploymentApplication(
                    name="shop",
                    domain="default",
                    compute_platform="Server",
                    created_by="ada",
                    created_at=self.now,
                    updated_at=self.now,
                )
                session.add(application)
                session.flush()
            session.add(
                DeploymentGroup(
                    id=group_id,
                    application_id=application.id,
                    name=name,
                    document=document,
                    created_by="ada",
                    created_at=self.now,
                    updated_at=self.now,
                )
            )
        return group_id

    def configure(self, targets: Sequence[str | Mapping[str, Any]], **document: Any) -> None:
        """Set the group's document; by ``dummyEvents`` without most of the usual events, which cost time."""
        whole = {"dummyTargets": list(targets), "dummyEvents": SHORT, **document}
        with self.db.write() as session:
            session.get_one(DeploymentGroup, self.group_id).document = whole

    def deploy(self, version: str, config: tuple[str, Mapping[str, Any]] = ALL_AT_ONCE, **options: Any) -> str:
        wanted = DeploymentRequest(
            self.group_id,
            {
                "revisionType": "Upload",
                "upload": {"id": version, "sha256": hashlib.sha256(version.encode()).hexdigest()},
            },
            "ada",
            config_name=config[0],
            config=config[1],
            options=options,
        )
        return self.create(wanted)

    def create(self, wanted: DeploymentRequest) -> str:
        self.now += timedelta(seconds=1)
        with self.db.write() as session:
            return engine.create(session, self.parts, wanted, self.now).id

    def do(self, steer: Any, deployment_id: str, *more: Any, **named: Any) -> Any:
        """A function of the engine that steers, as ``joe``."""
        with self.db.write() as session:
            return steer(session, self.parts, deployment_id, *more, self.now, actor="joe", **named)

    def advance(self, deployment_id: str, *, was_away: bool = False, **later: float) -> Deployment:
        """Time passes: agents ask, but for those in ``silent``; workers look, unless the server ``was_away``."""
        self.now += timedelta(**later)
        with self.db.write() as session:
            if not was_away:
                heard = update(DeploymentAgent).where(DeploymentAgent.id.not_in(self.silent))
                session.execute(heard.values(seen_at=self.now))
            row = session.get_one(Deployment, deployment_id)
            if "lookedAt" in row.details and not was_away and not row.is_paused:
                row.details = {**row.details, "lookedAt": self.now.isoformat()}
            return engine.advance(session, self.parts, deployment_id, self.now)

    def deployment(self, deployment_id: str) -> Deployment:
        with self.db.read() as session:
            return session.get_one(Deployment, deployment_id)

    def status(self, deployment_id: str) -> str:
        return self.deployment(deployment_id).status

    def group(self) -> DeploymentGroup:
        with self.db.read() as session:
            return session.get_one(DeploymentGroup, self.group_id)

    def targets(self, deployment_id: str) -> dict[str, str]:
        with self.db.read() as session:
            rows = session.scalars(select(DeploymentTarget).where(DeploymentTarget.deployment_id == deployment_id))
            return {row.name: row.status for row in sorted(rows, key=lambda row: row.position)}

    def events(self, deployment_id: str, target: str) -> dict[str, str]:
        with self.db.read() as session:
            rows = session.scalars(
                select(DeploymentEvent)
                .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
                .where(DeploymentTarget.deployment_id == deployment_id, DeploymentTarget.name == target)
                .order_by(DeploymentEvent.position)
            )
            return {row.name: row.status for row in rows}

    def installed(self) -> dict[str, tuple[str, bool]]:
        with self.db.read() as session:
            rows = session.scalars(select(DeploymentInstallation)).all()
            return {row.target: (row.revision.get("upload", {}).get("id", ""), row.is_healthy) for row in rows}

    def told(self) -> list[str]:
        with self.db.read() as session:
            return list(session.scalars(select(Event.kind).order_by(Event.id)))

    def audited(self) -> list[str]:
        with self.db.read() as session:
            entries = select(AuditEntry.action).where(AuditEntry.seq > self.audit_start)
            return list(session.scalars(entries.order_by(AuditEntry.seq)))

    # --- agents

    def agent(self, name: str) -> str:
        agent_id = uuid.uuid4().hex
        with self.db.write() as session:
            session.add(
                DeploymentAgent(
                    id=agent_id, name=name, tags=[], domains=[], created_by="ada", created_at=self.now, seen_at=self.now
                )
            )
        return agent_id

    def next_for(self, agent_id: str) -> str | None:
        with self.db.read() as session:
            found = engine.next_for_agent(session, agent_id, self.now)
            return None if found is None else found[2].name

    def begin(self, agent_id: str) -> DeploymentEvent | None:
        with self.db.write() as session:
            found = engine.next_for_agent(session, agent_id, self.now)
            assert found is not None
            return found[2] if engine.event_begun(session, found[2], self.now) else None

    def end(self, event: DeploymentEvent, status: EventStatus = EventStatus.SUCCEEDED, **more: Any) -> bool:
        code = ErrorCode.SUCCESS if status is EventStatus.SUCCEEDED else ErrorCode.SCRIPT_FAILED
        result = replace(EventResult(event.name, status, code), **more)
        with self.db.write() as session:
            return engine.event_ended(session, self.parts, event, result, self.now)

    def begin_late(self, event: DeploymentEvent) -> bool:
        with self.db.write() as session:
            return engine.event_begun(session, event, self.now)

    def answer(self, deployment_id: str, target: str, answer: engine.Answer) -> None:
        self.do(engine.answer_failure, deployment_id, target, answer)

    def do_continue(self, deployment_id: str, wait: engine.WaitType) -> None:
        self.do(engine.continue_deployment, deployment_id, wait)

    def alarm(self, name: str, state: str) -> None:
        """Tell the state of an alarm from outside."""
        with self.db.write() as session:
            row = session.scalar(select(DeploymentAlarm).where(DeploymentAlarm.name == name))
            if row is None:
                row = DeploymentAlarm(domain="default", name=name, created_by="ada", created_at=self.now)
                session.add(row)
            row.state, row.updated_at = state, self.now

    # --- jobs

    def queued(self, *kinds: str) -> list[Job]:
        with self.db.read() as session:
            statement = select(Job).where(Job.state == JobState.QUEUED).order_by(Job.run_after, Job.id)
            return [job for job in session.scalars(statement) if not kinds or job.kind in kinds]

    def work(self, *, at_most: int = 1000) -> int:
        """Do the jobs that are due, one after the other, as a worker does; those of looking at time-outs are let be."""
        table = jobs.handlers(self.parts)
        done = 0
        while done < at_most:
            with self.db.write() as session:
                claimed = claims.claim(
                    session,
                    owner="hand",
                    queues=(QUEUE,),
                    kinds=tuple(table),
                    free=min(8, at_most - done),
                    lease_seconds=60.0,
                )
            if not claimed:
                return done
            for each in claimed:
                done += 1
                self._run(table, each)
        return done

    def _run(self, table: Mapping[str, Handler], claimed: Claimed) -> None:
        lease = Lease(claimed, lease_seconds=60.0)
        try:
            table[claimed.kind](JobContext(self.db, claimed, lease))
        except Retry as again:
            after = again.after_seconds
            with self.db.write() as session:
                claims.give_back(session, lease.hold, after_seconds=after, error=str(again), counts=True)

    def hasten(self) -> None:
        """Let every queued job be due now, except for the looks at time-outs."""
        with self.db.write() as session:
            session.execute(update(Job).where(Job.kind != STEP_KIND).values(run_after=0))


@contextmanager
def new_world(backend: str, folder: Path) -> Iterator[World]:
    with fresh_url(backend, folder) as url:
        database = Database(url)
        try:
            Base.metadata.create_all(database.engine)
            yield World(database)
        finally:
            database.close()


def wipe(world: World) -> None:
    """Empty all tables but the application's, for the next test: much cheaper than a new database."""
    with world.db.write() as session:
        for table in (DeploymentEvent, DeploymentTarget, DeploymentInstallation, Deployment, DeploymentAgent, DeploymentAlarm,
            DeploymentGroup,
            Event, Job,
        ):  # fmt: skip
            session.execute(delete(table))
    world.__init__(world.db)  # type: ignore[misc]
