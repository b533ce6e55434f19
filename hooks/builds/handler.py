"""The job of kind ``build``: makes the plan from the rows, runs it, and writes down what happens as it happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import update
from sqlalchemy.orm import Session

from hooks.builds import batch_parts, image_pins
from hooks.builds.attempts import JOB_STATES, BuildAttempts, Project, first_fault
from hooks.builds.build_services import BuildServices
from hooks.builds.bundles import Inputs
from hooks.builds.debug_rows import StoredSession
from hooks.builds.executor import Executor, ExecutorError, Network, RoomRequest, StopReason
from hooks.builds.grants import IssuedToken, PublishDoor, revoke
from hooks.builds.keeping import Keeper, NoKeeper
from hooks.builds.local_caches import LocalCaches, LocalUse, place_of
from hooks.builds.log_size import MAX_LOG_BYTES
from hooks.builds.logs import LogStore
from hooks.builds.output_settings import OutputSettings
from hooks.builds.phases import PhaseRecord
from hooks.builds.plan import BuildOutcome, BuildPlan
from hooks.builds.references import Remembering
from hooks.builds.report_writer import ReportWriter
from hooks.builds.reports.result import ReportResult
from hooks.builds.run import Abandoned, run_build
from hooks.builds.source import PackageSource
from hooks.jobs.claims import EndedJob
from hooks.jobs.context import OUTAGES, JobContext
from hooks.models.build import Build
from registry.db import Database
from registry.token_finder import Mask

__all__ = ["BuildHandler", "BuildServices", "IssuedToken"]

LOG = logging.getLogger(__name__)

_FLUSH_SECONDS, _MAX_FLUSH_SECONDS = 0.5, 10.0
_SHARE = 4
_FLUSH_BYTES = 64 * 1024
_MAX_WAITING_BYTES = 4 * 1024 * 1024
Granted = tuple[IssuedToken | None, PublishDoor | None]
_REASONS = {"stop": StopReason.STOPPED, "timeout": StopReason.TIMED_OUT}


class BuildHandler:
    """Runs builds, and settles those whose job ended without a handler (``settle`` goes to the worker as well).

    Running one twice is harmless: every attempt has a fresh sandbox, phases and log are written under the job's fence,
    and the final status is one fenced update. A killed worker's attempt is begun anew, and the log says so.
    """

    def __init__(
        self,
        db: Database,
        executors: Mapping[str, Executor],
        services: BuildServices,
        local: LocalCaches | None = None,
    ) -> None:
        """``executors`` by the type of environment whose builds each runs; ``local`` are the caches of this machine."""
        self._db = db
        self._local = local
        self._executors = executors
        self._services = services
        self._attempts = BuildAttempts(services)

    def __call__(self, job: JobContext) -> None:
        """Run the build of ``job.payload["build_id"]``. Raises ExecutorError to be tried again, and LeaseLost."""
        found = job.step(lambda session: self._attempts.begin(session, job.payload["build_id"], self._executors))
        if found is None:
            return
        build, project = found
        reporter = _Reporter(job, build, self._attempts.logs, self._services)
        token: IssuedToken | None = None
        door: PublishDoor | None = None
        try:
            executor = self._executor(build)
            if build.environment["network"] != Network.NONE:
                token = self._services.issue_token(build)
                door = self._attempts.door(build, project, reporter.say)
            resolver = Remembering(self._services.resolver(build))
            plan = replace(self._plan(build, project, (token, door), reporter), resolver=resolver)
            # The secrets are asked for when an artifact is there: by then they are known.
            secrets = lambda: (*plan.secrets, *resolver.secrets)  # noqa: E731
            keeper = self._attempts.keeper(build, plan.outputs, job.step, secrets)
            reporter.keeper = self._here(build, project, plan.outputs).keeper(keeper)
            outcome = run_build(plan, executor, reporter, reporter.interrupt, self._services.clock)
        except Abandoned:
            LOG.info("build %s was broken off; it starts anew", build.id)
            return
        except ExecutorError as error:
            reporter.say(f"The build could not be run: {error}")
            reporter.close()
            raise
        finally:
            revoke(door.token if door else None, token)
        self._finish(job, build, outcome, reporter, project.part)

    def settle(self, session: Session, ended: EndedJob) -> None:
        """End the build of a job that ended without its handler: stopped, timed out, or not to be run at all."""
        self._attempts.settle(session, ended)

    def _executor(self, build: Build) -> Executor:
        executor = self._executors.get(build.environment["type"])
        if executor is None:
            raise ExecutorError(f"this worker has no executor of type {build.environment['type']}")
        return executor

    def _plan(self, build: Build, project: Project, granted: Granted, reporter: _Reporter) -> BuildPlan:
        services = self._services
        source = PackageSource.from_json(build.source)
        plan = self._attempts.plan(build, project, *granted)
        kept = self._here(build, project, plan.outputs).sources
        inputs = Inputs(build.project_id, source, services.fetch_input, reporter.interrupt, reporter.resolved, kept)
        return replace(
            plan,
            source=inputs.bundle(services.open_asset),
            debug=reporter.debug_session(self._db) if build.debug_session else None,
            room=reporter.room(build, project.name),
        )

    def _here(self, build: Build, project: Project, outputs: OutputSettings) -> LocalUse:
        source = PackageSource.from_json(build.source)
        return LocalUse(self._local, outputs, place_of(source, project.name, self._attempts.scope(build)))

    def _finish(
        self, job: JobContext, build: Build, outcome: BuildOutcome, reporter: _Reporter, part: batch_parts.Part
    ) -> None:
        reporter.report_tokens()
        phases = [record.as_json() for record in outcome.phases]
        message = first_fault(phases)

        def unit(session: Session) -> None:
            reporter.write(session)
            self._attempts.end(session, build.id, outcome.status, phases, outcome.exported, part)

        job.finish(JOB_STATES[outcome.status], unit, error=message or None)


class _Reporter:
    """Writes a running build's log and phases under the job's fence. All in the handler's thread."""

    def __init__(self, job: JobContext, build: Build, logs: LogStore, services: BuildServices) -> None:
        self._job = job
        self._build_id = build.id
        self._logs = logs
        self._services = services
        self._reports = ReportWriter(job, build.id, services.sealer, services.clock)
        self._end = build.log_bytes
        self._waiting = bytearray()
        self._mask = Mask()
        self._flush_at = time.monotonic() + _FLUSH_SECONDS
        self.keeper: Keeper = NoKeeper()

    def log(self, data: bytes) -> None:
        """Keep for the next write: at once when there is much, else within half a second."""
        if self._end >= MAX_LOG_BYTES:
            return  # nothing more is kept: a flood must not cost a transaction for each piece
        self._waiting += self._mask.feed(data)
        while len(self._waiting) >= _FLUSH_BYTES:
            self.flush()
            if len(self._waiting) < _MAX_WAITING_BYTES:
                return
            # The database is away: the build waits with it, rather than the log growing in memory.
            if self._job.stop_reason() == "lost":
                raise Abandoned(self._build_id)
            time.sleep(_FLUSH_SECONDS)

    def say(self, text: str) -> None:
        """Log an agent's line outside of the run."""
        self.log(f"[Container] {self._services.clock():%Y/%m/%d %H:%M:%S} {text}\n".encode(errors="replace"))

    def interrupt(self) -> StopReason | None:
        """Asked several times a second: the beat at which a quiet build's last lines become visible."""
        if self._waiting and time.monotonic() >= self._flush_at:
            self.flush()
        reason = self._job.stop_reason()
        return None if reason is None else _REASONS.get(reason, StopReason.LOST)

    def flush(self) -> None:
        """Write what waits. While the database is away it goes on waiting. Raises LeaseLost."""
        began = time.monotonic()
        self._flush_at = began + _FLUSH_SECONDS
        self.report_tokens()
        if not self._waiting:
            return
        try:
            self._end = self._job.step(self._append)
        except OUTAGES as error:
            LOG.warning("the log of build %s has to wait: %s", self._build_id, error)
        else:
            self._waiting.clear()
        # Where many builds write to a slow database, each leaves it to the others, and to people, for the most of the time.
        now = time.monotonic()
        self._flush_at = now + min(max(_FLUSH_SECONDS, _SHARE * (now - began)), _MAX_FLUSH_SECONDS)

    def report_tokens(self) -> None:
        """Tell of tokens that were printed. While the database is away they wait for the next time."""
        if not self._mask.found:
            return
        try:
            self._services.on_tokens(frozenset(self._mask.found), self._build_id)
        except OUTAGES as error:
            LOG.warning("tokens in the log of build %s cannot be judged now: %s", self._build_id, error)
        else:
            self._mask.found.clear()

    def write(self, session: Session) -> None:
        """Write what waits in a transaction that ends the job (and may be tried again: nothing is forgotten here)."""
        self._waiting += self._mask.flush()
        if self._waiting:
            self._append(session)

    def close(self) -> None:
        """Write all that waits, at an end that is no build's own."""
        self._waiting += self._mask.flush()
        self.flush()

    def phases(self, records: Sequence[PhaseRecord]) -> None:
        """Write the phases so far; when the database is away the next phase brings them along."""
        values = {"phase": records[-1].phase.value, "phases": [record.as_json() for record in records]}

        def unit(session: Session) -> None:
            session.execute(
                update(Build).where(Build.id == self._build_id).values(**values),
                execution_options={"synchronize_session": False},
            )

        self.flush()
        try:
            self._job.step(unit)
        except OUTAGES as error:
            LOG.warning("a phase of build %s cannot be written now: %s", self._build_id, error)

    def resolved(self, identifier: str, commit: str) -> None:
        """Keep which commit a source is: a retry builds the same. Raises ExecutorError while the database is away."""
        self.say(f"Source {identifier or 'version'} is commit {commit}")

        def unit(session: Session) -> None:
            build = session.get_one(Build, self._build_id)
            build.resolved_versions = {**build.resolved_versions, identifier: commit}

        try:
            self._job.step(unit)
        except OUTAGES as error:
            raise ExecutorError(f"the source's commit cannot be written now: {error}") from error

    def room(self, build: Build, project: str) -> RoomRequest:
        """What the build's environment asks of its sandbox; the image it gets is written down here."""
        return image_pins.room_of(self._job, build, project, self._services.clock)

    def debug_session(self, db: Database) -> StoredSession:
        """What the build's breakpoints are told to."""
        return StoredSession(db, self._stepped, self._build_id, self._services.clock)

    def _stepped(self, unit: Callable[[Session], object]) -> object:
        self.flush()
        return self._job.step(unit)

    def found(self, tokens: Collection[str]) -> None:
        """Tell of these with those of the log."""
        self._mask.found |= set(tokens)

    def report(self, report: ReportResult) -> str:
        """Keep a report."""
        self.flush()
        return self._reports.write(report)

    def _append(self, session: Session) -> int:
        return self._logs.append(session, self._build_id, self._end, bytes(self._waiting))
