"""The job of kind ``build``: makes the plan from the rows, runs it, and writes down what happens as it happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.builds import batch_parts, image_pins
from hooks.builds.bundles import FetchInput, Inputs, fetches_nothing
from hooks.builds.cache_scope import PROTECTED_REFS, scope_of
from hooks.builds.executor import Executor, ExecutorError, Login, Network, RoomRequest, StopReason
from hooks.builds.grants import IssuedToken, PublishDoor, revoke
from hooks.builds.keeping import Keeper, NoKeeper
from hooks.builds.logs import MAX_LOG_BYTES, LogStore, Sealer
from hooks.builds.output_settings import OutputSettings, handed_on
from hooks.builds.phases import BuildStatus, PhaseRecord
from hooks.builds.plan import BuildOutcome, BuildPlan
from hooks.builds.publishing import publish_place, why_not
from hooks.builds.records import OnFinished, finish_build
from hooks.builds.references import Remembering, Resolver, no_store, split_variables
from hooks.builds.report_store import close_reports, drop_reports
from hooks.builds.report_writer import ReportWriter
from hooks.builds.reports.result import ReportResult
from hooks.builds.reserved import reserved_variables
from hooks.builds.run import Abandoned, run_build
from hooks.builds.source import PackageSource
from hooks.builds.stored_outputs import BuildPlace, StoredOutputs
from hooks.jobs.claims import EndedJob
from hooks.jobs.context import OUTAGES, JobContext
from hooks.models.build import Build, BuildProject
from hooks.models.job import JobState
from registry.clock import Clock
from registry.db import Database
from registry.token_finder import Mask

LOG = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5
_FLUSH_BYTES = 64 * 1024
_MAX_WAITING_BYTES = 4 * 1024 * 1024
_JOB_STATES = {
    BuildStatus.SUCCEEDED: JobState.SUCCEEDED,
    BuildStatus.FAILED: JobState.FAILED,
    BuildStatus.STOPPED: JobState.STOPPED,
    BuildStatus.TIMED_OUT: JobState.TIMED_OUT,
}
_REASONS = {"stop": StopReason.STOPPED, "timeout": StopReason.TIMED_OUT}


def _no_files(_source: PackageSource, _token: IssuedToken, _place: tuple[str, str] | None = None) -> Mapping[str, str]:
    return {}


def _no_values(_build: Build) -> Resolver:
    return no_store


def _let_pass(_tokens: Collection[str], _build_id: str) -> None:
    """Where nobody knows of tokens."""


@dataclass(frozen=True, slots=True)
class BuildServices:
    """What builds need of the rest of the server, handed in by the composition root.

    ``public_url`` is where people find the server's pages, None where nobody has said.
    ``open_asset`` raises Refused when the file is gone for good (or is not the promised one) and ExecutorError when it
    cannot be had now. ``find_spec`` may give a buildspec for a source that has none in it. ``issue_token`` gives the
    least a build of that row needs. ``client_variables`` are the environment of the format's clients, with addresses
    below ``hooks.builds.executor.REGISTRY_BASE_URL``, ``client_files`` what those of them need below the home that read
    no ``~/.netrc``. ``outputs`` keeps artifacts and caches; None where none are kept. ``protected_refs`` are the patterns
    of branches and tags whose builds share the protected caches.
    ``fetch_input`` brings what is no package's file: git sources and uploads.
    ``public_url`` is where people find the server's pages, None where nobody has said.
    ``on_tokens`` (tokens, build id) is told of tokens of this server in a log, which does not show them.
    ``resolver`` makes what gets the values of parameters and secrets that a build names. ``open_publishing`` lets an attempt
    publish to a repository; None where builds publish nowhere.
    """

    open_asset: Callable[[PackageSource, str], BinaryIO]
    find_spec: Callable[[PackageSource], str | None]
    issue_token: Callable[[Build], IssuedToken]
    client_variables: Callable[[PackageSource], Mapping[str, str]]
    on_finished: OnFinished
    sealer: Sealer
    clock: Clock
    public_url: str | None = None
    client_files: Callable[[PackageSource, IssuedToken, tuple[str, str] | None], Mapping[str, str]] = _no_files
    open_publishing: Callable[[Build, tuple[str, str]], PublishDoor] | None = None
    outputs: StoredOutputs | None = None
    protected_refs: tuple[str, ...] = PROTECTED_REFS
    on_tokens: Callable[[Collection[str], str], object] = _let_pass
    fetch_input: FetchInput = fetches_nothing
    resolver: Callable[[Build], Resolver] = _no_values


@dataclass(frozen=True, slots=True)
class _Project:
    """What a build needs of its project's row when it begins."""

    name: str
    outputs: OutputSettings
    publishes_to: tuple[str, str] | None
    part: batch_parts.Part


class BuildHandler:
    """Runs builds, and settles those whose job ended without a handler (``settle`` goes to the worker as well).

    Running one twice is harmless: every attempt has a fresh sandbox, phases and log are written under the job's fence,
    and the final status is one fenced update. A killed worker's attempt is begun anew, and the log says so.
    """

    def __init__(self, db: Database, executors: Mapping[str, Executor], services: BuildServices) -> None:
        """``executors`` by the type of environment whose builds each runs."""
        self._db = db
        self._executors = executors
        self._services = services
        self._logs = LogStore(services.sealer)

    def __call__(self, job: JobContext) -> None:
        """Run the build of ``job.payload["build_id"]``. Raises ExecutorError to be tried again, and LeaseLost."""
        found = self._begin(job)
        if found is None:
            return
        build, project = found
        reporter = _Reporter(job, build, self._logs, self._services)
        token: IssuedToken | None = None
        door: PublishDoor | None = None
        try:
            executor = self._executor(build)
            if build.environment["network"] != Network.NONE:
                token = self._services.issue_token(build)
                door = self._door(build, project, reporter)
            resolver = Remembering(self._services.resolver(build))
            plan = replace(self._plan(build, project, token, door, reporter), resolver=resolver)
            reporter.keeper = self._keeper(job, build, plan, resolver)
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
        status = {JobState.STOPPED: BuildStatus.STOPPED, JobState.TIMED_OUT: BuildStatus.TIMED_OUT}.get(
            ended.state, BuildStatus.FAULT
        )
        build_id = ended.payload["build_id"]
        now = self._services.clock()
        message = ended.error or ""
        close_reports(session, build_id)
        if finish_build(session, build_id, status, now=now, on_finished=self._services.on_finished, message=message):
            line = f"[Container] {now:%Y/%m/%d %H:%M:%S} Build complete: {status.value} {message}".rstrip()
            self._logs.append_now(session, build_id, line.encode() + b"\n")

    def _begin(self, job: JobContext) -> tuple[Build, _Project] | None:
        build_id = job.payload["build_id"]
        now = self._services.clock()

        def unit(session: Session) -> tuple[Build, _Project] | None:
            statement = select(Build, BuildProject).join(BuildProject, Build.project_id == BuildProject.id)
            row = session.execute(statement.where(Build.id == build_id)).one_or_none()
            if row is None or row[0].status != BuildStatus.IN_PROGRESS:
                return None  # deleted, or settled meanwhile
            build = row[0]
            if build.attempt:
                line = f"[Container] {now:%Y/%m/%d %H:%M:%S} Attempt {build.attempt} broke off; the build starts anew\n"
                self._logs.append_now(session, build_id, line.encode())
                drop_reports(session, build_id)
                session.refresh(build)
            build.attempt += 1
            build.started_at = build.started_at or now
            session.flush()
            document = row[1].document
            part = batch_parts.part_of(session, build, self._executors)
            return build, _Project(row[1].name, OutputSettings.of(document), publish_place(document), part)

        return job.step(unit)

    def _executor(self, build: Build) -> Executor:
        executor = self._executors.get(build.environment["type"])
        if executor is None:
            raise ExecutorError(f"this worker has no executor of type {build.environment['type']}")
        return executor

    def _door(self, build: Build, project: _Project, reporter: _Reporter) -> PublishDoor | None:
        services = self._services
        if project.publishes_to is None or services.open_publishing is None:
            return None
        obstacle = why_not(build, services.protected_refs)
        reporter.say(
            f"Warning: {obstacle}" if obstacle else f"This build may publish to {'/'.join(project.publishes_to)}"
        )
        return None if obstacle else services.open_publishing(build, project.publishes_to)

    def _plan(
        self,
        build: Build,
        project: _Project,
        token: IssuedToken | None,
        door: PublishDoor | None,
        reporter: _Reporter,
    ) -> BuildPlan:
        services = self._services
        source = PackageSource.from_json(build.source)
        inputs = Inputs(build.project_id, source, services.fetch_input, reporter.interrupt, reporter.resolved)
        overrides, references = split_variables({**build.environment["variables"], **build.variables})
        spec_text = build.buildspec if build.buildspec is not None else services.find_spec(source)
        return BuildPlan(
            build_id=build.id,
            source=inputs.bundle(services.open_asset),
            submitted_at=build.submitted_at,
            spec_text=spec_text,
            environment={**services.client_variables(source), **(door.variables if door else {})} if token else {},
            overrides=overrides,
            references=references,
            reserved={**reserved_variables(build, project.name, source), **self._addresses(build, project.part)},
            on_spec=project.part.reading.take if project.part.reading is not None else None,
            network=Network(build.environment["network"]),
            room=reporter.room(build, project.name),
            credentials=Login(token.login, token.token) if token else None,
            home_files=services.client_files(source, token, door.place if door else None) if token else {},
            publishing=door.publishing if door else None,
            secrets=tuple(each.token for each in (token, door.token if door else None) if each),
            project=project.name,
            outputs=handed_on(project.outputs) if source.outputs else project.outputs,
            timeout_seconds=build.timeout_minutes * 60.0,
        )

    def _addresses(self, build: Build, part: batch_parts.Part) -> dict[str, str]:
        url = self._services.public_url
        return {**part.variables, **({"CODEBUILD_BUILD_URL": f"{url.rstrip('/')}/builds/{build.id}"} if url else {})}

    def _keeper(self, job: JobContext, build: Build, plan: BuildPlan, resolver: Remembering) -> Keeper:
        if self._services.outputs is None:
            return NoKeeper()
        shared = plan.outputs.cache_namespace
        place = BuildPlace(
            build.id,
            build.source["domain"],
            f"shared/{shared}" if shared else f"project/{build.project_id}",
            scope_of(build.source, build.webhook, self._services.protected_refs),
            lambda: (*plan.secrets, *resolver.secrets),  # asked when an artifact is there: by then they are known
        )
        return self._services.outputs.keeper(place, job.step)

    def _finish(
        self, job: JobContext, build: Build, outcome: BuildOutcome, reporter: _Reporter, part: batch_parts.Part
    ) -> None:
        reporter.report_tokens()
        now = self._services.clock()
        failed = [fault.message for record in outcome.phases for fault in record.faults]
        message = failed[0] if failed else ""

        def unit(session: Session) -> None:
            reporter.write(session)
            close_reports(session, build.id)
            batch_parts.write_found(session, build, part, outcome.status)
            finish_build(
                session,
                build.id,
                outcome.status,
                now=now,
                on_finished=self._services.on_finished,
                phases=[record.as_json() for record in outcome.phases],
                exported_variables=outcome.exported,
                message=message,
            )

        job.finish(_JOB_STATES[outcome.status], unit, error=message or None)


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
        self._flushed_at = time.monotonic()
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
        if self._waiting and time.monotonic() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()
        reason = self._job.stop_reason()
        return None if reason is None else _REASONS.get(reason, StopReason.LOST)

    def flush(self) -> None:
        """Write what waits. While the database is away it goes on waiting. Raises LeaseLost."""
        self._flushed_at = time.monotonic()
        self.report_tokens()
        if not self._waiting:
            return
        try:
            self._end = self._job.step(self._append)
        except OUTAGES as error:
            LOG.warning("the log of build %s has to wait: %s", self._build_id, error)
        else:
            self._waiting.clear()

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

    def found(self, tokens: Collection[str]) -> None:
        """Tell of these with those of the log."""
        self._mask.found |= set(tokens)

    def report(self, report: ReportResult) -> str:
        """Keep a report."""
        self.flush()
        return self._reports.write(report)

    def _append(self, session: Session) -> int:
        return self._logs.append(session, self._build_id, self._end, bytes(self._waiting))
