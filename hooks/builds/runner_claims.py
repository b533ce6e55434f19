"""What a runner is given: a build that it may have, under a lease, with all that it needs to run it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import image_pins, runners
from hooks.builds.attempts import BuildAttempts, Project
from hooks.builds.build_services import BuildServices
from hooks.builds.cache_scope import Scope
from hooks.builds.executor import ExecutorError, Network, RoomRequest
from hooks.builds.git_fetch import GitCredential
from hooks.builds.grants import IssuedToken, PublishDoor, revoke
from hooks.builds.plan import BuildPlan
from hooks.builds.project import SourceType
from hooks.builds.records import JOB_KIND, QUEUE
from hooks.builds.runner_leases import Secrets, open_lease
from hooks.builds.runners import Digest, Introduction, Limits
from hooks.builds.source import PackageSource
from hooks.errors import LeaseLost
from hooks.jobs import claims, remote
from hooks.jobs.claims import Claimed
from hooks.models.build import Build
from hooks.models.job import Job, JobState
from hooks.models.runner import BuildLease, BuildRunner
from registry import audit
from registry.db import Database
from registry.errors import Problem, Unavailable
from storage.errors import StorageError

LOG = logging.getLogger(__name__)
POLL_SECONDS, LONGEST_POLL_SECONDS = 1.0, 5.0
POLLS_PER_SECOND = 10
"""What all runners together may ask for in a second, as long as that leaves none waiting for too long."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A build for a runner. ``token`` proves the lease; ``plan`` is without files, which are asked for by their names.

    ``git_credentials`` are by identifier of the source. ``document`` is the project's, for what becomes of its outputs;
    ``scope`` is at which trust the build reads and writes caches. With ``debug_session`` it stands at breakpoints.
    """

    lease_id: str
    token: str = field(repr=False)
    attempt: int
    number: int
    environment: str
    source: PackageSource
    plan: BuildPlan
    document: Mapping[str, object]
    scope: Scope
    debug_session: bool
    git_credentials: Mapping[str, GitCredential] = field(default_factory=dict, repr=False)


class RunnerClaims:
    """Gives builds to runners: the transaction in which a worker claims, and the worker's limits. Safe for many threads."""

    def __init__(
        self,
        db: Database,
        services: BuildServices,
        attempts: BuildAttempts,
        *,
        digest: Digest,
        lease_seconds: float,
    ) -> None:
        self._db = db
        self._services = services
        self._attempts = attempts
        self._digest = digest
        self._lease_seconds = lease_seconds
        self._online = 0

    @property
    def poll_seconds(self) -> float:
        """When a runner that was given nothing asks again: many runners ask less often each."""
        return min(max(POLL_SECONDS, self._online / POLLS_PER_SECOND), LONGEST_POLL_SECONDS)

    def claim(self, runner: BuildRunner, said: Introduction, held: Sequence[str]) -> Assignment | None:
        """The most urgent build that ``runner`` may have; None when there is none, or when it asks for none.

        ``held`` are the leases it works on: what else it holds was given to it in an answer that got lost, or before it
        died, and goes to others. Raises Unavailable when the build cannot be handed out now, and what the database does.
        """
        said.check()
        if self._is_idle(runner, said, held):
            return None
        remote.reap(self._db, {JOB_KIND}, self._attempts.settle)
        self._look_after(runner, said, held)
        if len(held) >= said.slots or not said.environments:
            return None
        claimed, build, project = self._take(runner, said)
        if claimed is None or build is None or project is None:
            return None
        try:
            return self._assign(runner, claimed, build, project)
        except (ExecutorError, StorageError, Problem) as error:
            reason = f"the build could not be handed to runner {runner.name}: {error}"
            LOG.warning("build %s: %s", build.id, reason)
            hold = (claimed.job_id, claimed.fence)
            with self._db.write() as session:
                remote.give_back(session, hold, self._attempts.settle, error=reason, counts=True)
            raise Unavailable("a build could not be handed out now") from error

    def _is_idle(self, runner: BuildRunner, said: Introduction, held: Sequence[str]) -> bool:
        """Whether there is nothing at all to do or to note: what idle runners hear, from one read and without a write."""
        if held or not runners.is_seen_lately(runner, said, self._services.clock()):
            return False
        with self._db.read() as session:
            if claims.expired(session, {JOB_KIND}) or remote.holds_any(session, runner.id):
                return False
            return not claims.anything_due(session, (QUEUE,), {JOB_KIND}, only=_jobs_for(runner, said))

    def _look_after(self, runner: BuildRunner, said: Introduction, held: Sequence[str]) -> None:
        now = self._services.clock()
        with self._db.read() as session:
            leases = select(BuildLease.job_id, BuildLease.fence)
            mine = leases.where(BuildLease.runner_id == runner.id, BuildLease.id.in_(held))
            holds = {(job_id, fence) for job_id, fence in session.execute(mine)}
            running = session.execute(
                select(Job.id, Job.fence).where(Job.owner == runner.id, Job.state == JobState.RUNNING)
            )
            is_lost = any((job_id, fence) not in holds for job_id, fence in running)
        if not is_lost and runners.is_seen_lately(runner, said, now):
            return
        with self._db.write() as session:
            runners.see(session, runner.id, said, now)
            self._online = runners.count_online(session, now)
            if is_lost:
                remote.forsake(session, owner=runner.id, held=sorted(holds))
        if is_lost:
            remote.reap(self._db, {JOB_KIND}, self._attempts.settle)

    def _take(self, runner: BuildRunner, said: Introduction) -> tuple[Claimed | None, Build | None, Project | None]:
        only = _jobs_for(runner, said)
        with self._db.read() as session:
            if not claims.anything_due(session, (QUEUE,), {JOB_KIND}, only=only):
                return None, None, None
        with self._db.write() as session:
            taken = claims.claim(
                session,
                owner=runner.id,
                queues=(QUEUE,),
                kinds={JOB_KIND},
                free=1,
                lease_seconds=self._lease_seconds,
                only=only,
            )
            if not taken:
                return None, None, None
            (claimed,) = taken
            build_id = claimed.payload["build_id"]
            found = self._attempts.begin(session, build_id, self._services.environment_types)
            if found is None:
                claims.end(session, (claimed.job_id, claimed.fence), JobState.SUCCEEDED, None)
                return claimed, None, None
            self._note(session, runner, build_id, claimed.attempt)
            session.refresh(found[0])
            session.expunge(found[0])
            return claimed, *found

    def _note(self, session: Session, runner: BuildRunner, build_id: str, attempt: int) -> None:
        now = self._services.clock()
        self._say(session, build_id, [f"Running on runner {runner.name}"])
        audit.record(session, now, f"runner/{runner.name}", "build.claim", f"build/{build_id}", attempt=attempt)

    def _say(self, session: Session, build_id: str, lines: Iterable[str]) -> None:
        for line in lines:
            told = f"[Container] {self._services.clock():%Y/%m/%d %H:%M:%S} {line}\n"
            self._attempts.logs.append_now(session, build_id, told.encode())

    def _assign(self, runner: BuildRunner, claimed: Claimed, build: Build, project: Project) -> Assignment:
        services, source = self._services, PackageSource.from_json(build.source)
        credentials = {}
        for wanted in source.inputs:
            if wanted.type is SourceType.GIT:
                credential = services.git_credential(build.project_id, wanted)
                if credential is not None:
                    credentials[wanted.identifier] = credential
        token: IssuedToken | None = None
        door: PublishDoor | None = None
        said: list[str] = []
        try:
            if build.environment["network"] != Network.NONE:
                token = services.issue_token(build)
                door = self._attempts.door(build, project, said.append)
            plan = self._attempts.plan(build, project, token, door)
            texts = (*plan.secrets, *(each.secret for each in credentials.values()))

            def unit(session: Session) -> tuple[str, str, RoomRequest]:
                # The job first, as everywhere: the lease's row refers to the runner's, which may be deleted meanwhile.
                _require_held(session, claimed)
                token_id = token.id if token is not None and token.id else None
                lease, secret = open_lease(
                    session,
                    claimed,
                    runner.id,
                    token_id,
                    Secrets(texts),
                    sealer=services.sealer,
                    digest=self._digest,
                    now=services.clock(),
                )
                self._say(session, build.id, said)
                return lease.id, secret, _room(session, build)

            lease_id, secret, room = self._db.retry(unit)
        except BaseException:
            revoke(token, door.token if door else None)
            raise
        return Assignment(
            lease_id,
            secret,
            claimed.attempt,
            build.number,
            build.environment["type"],
            source,
            replace(plan, room=room),
            project.document,
            self._attempts.scope(build),
            build.debug_session,
            credentials,
        )


def _jobs_for(runner: BuildRunner, said: Introduction) -> runners.JobsFor:
    return runners.JobsFor(said.environments, Limits(tuple(runner.projects), tuple(runner.domains)))


def _require_held(session: Session, claimed: Claimed) -> None:
    if not claims.is_held(session, (claimed.job_id, claimed.fence)):
        raise LeaseLost(claimed.job_id, claimed.fence)


def _room(session: Session, build: Build) -> RoomRequest:
    environment = build.environment
    image = environment.get("image", "")
    return RoomRequest(
        image=image,
        pinned_digest=image_pins.pinned(session, build.project_id, image),
        compute_type=environment.get("computeType", ""),
        is_privileged=bool(environment.get("privilegedMode", False)),
    )
