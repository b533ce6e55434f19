"""What a runner does about a build it holds: told, brought, and written under the lease, or refused.

Every change is made in a transaction that first makes sure that the lease still holds its job. What comes from a runner is
read as a stranger's: bounded, masked again, and never more than its own build's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hooks.builds import batch_parts, image_pins
from hooks.builds.attempts import JOB_STATES, BuildAttempts, first_fault
from hooks.builds.build_services import BuildServices
from hooks.builds.executor import ExecutorError, Refused, StopReason
from hooks.builds.keeping import PRIMARY, ArtifactName, CacheKey, FoundCache, Incoming, Keeper, Kept
from hooks.builds.output_settings import OutputSettings, is_identifier
from hooks.builds.phases import BuildStatus
from hooks.builds.project import STORED, SourceType
from hooks.builds.references import Reference, Remembering, Resolved
from hooks.builds.report_lines import read_lines
from hooks.builds.report_writer import ReportWriter
from hooks.builds.run import Abandoned
from hooks.builds.runner_leases import Secrets, find_lease, remember, require_held, secrets_of
from hooks.builds.runners import Digest
from hooks.builds.source import PackageSource
from hooks.builds.spec import parse_buildspec
from hooks.builds.spec_model import BuildSpec
from hooks.errors import LeaseLost
from hooks.jobs import claims, remote
from hooks.models.build import Build, BuildProject
from hooks.models.build_output import BuildArtifact
from hooks.models.runner import BuildLease, BuildRunner
from registry import audit
from registry.db import Database
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound, Unavailable

_MOST_ARTIFACTS = 64
_OVERTIME_SECONDS = 60.0
"""A lease of a build whose time is over is renewed for so long, in which the runner ends it; then it is taken away."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """Who asks about which lease: the runner is authenticated already; ``token`` has to be the lease's."""

    runner: BuildRunner
    lease_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a build ended on a runner; ``phases`` have the shape of ``PhaseRecord.as_json``, ``log_bytes`` is the log's end.

    ``batch_document`` is the buildspec that the first build of a batch has read.
    """

    status: BuildStatus
    phases: Sequence[Mapping[str, Any]]
    exported: Mapping[str, str]
    log_bytes: int
    batch_document: str | None = None


class RunnerWork:
    """The runner's side of builds on the server. Safe for many threads.

    Each method raises LeaseLost when the lease holds nothing any more and Denied when it is another's; then nothing was
    changed. What the database raises while it is away is for the runner to come again.
    """

    def __init__(
        self, db: Database, services: BuildServices, attempts: BuildAttempts, *, digest: Digest, lease_seconds: float
    ) -> None:
        self._db = db
        self._services = services
        self._attempts = attempts
        self._digest = digest
        self.lease_seconds = lease_seconds

    # --- while it runs

    def renew(self, claim: Claim) -> StopReason | None:
        """Prolong the lease; why the build has to end, if it has to."""
        with self._db.write() as session:
            lease = self._lease(session, claim)
            hold = (lease.job_id, lease.fence)
            beats = claims.renew(session, owner=claim.runner.id, holds=[hold], lease_seconds=self.lease_seconds)
            beat = beats.get(hold)
            left = beat.deadline_in_seconds if beat is not None else None
            if beat is None or (left is not None and left < -_OVERTIME_SECONDS):
                raise LeaseLost(*hold)
            if beat.stop_requested:
                return StopReason.STOPPED
            return StopReason.TIMED_OUT if left is not None and left <= 0 else None

    def log(self, claim: Claim, offset: int, data: bytes) -> int:
        """Add to the log what comes at ``offset`` of all that this attempt sends; where it ends now.

        What came before is not added again. Raises Conflict for an offset beyond the end.
        """
        with self._db.write() as session:
            lease = self._held(session, claim)
            if offset > lease.log_bytes:
                raise Conflict(f"the log ends at {lease.log_bytes}, not at {offset}")
            fresh = data[lease.log_bytes - offset :]
            found = self._append(session, lease, fresh, is_last=False) if fresh else set()
            end, build_id = lease.log_bytes, lease.build_id
        if found:
            self._services.on_tokens(frozenset(found), build_id)
        return end

    def _append(self, session: Session, lease: BuildLease, data: bytes, *, is_last: bool) -> set[str]:
        before = secrets_of(self._services.sealer, lease)
        shown, found, after = before.feed(data, is_last=is_last)
        if shown:
            self._attempts.logs.append_now(session, lease.build_id, shown)
        if after != before and not is_last:
            remember(self._services.sealer, lease, after)
        lease.log_bytes += len(data)
        return found

    def phases(self, claim: Claim, phases: Sequence[Mapping[str, Any]]) -> None:
        """Write the phases so far."""
        with self._db.write() as session:
            lease = self._held(session, claim)
            hidden = _hidden(phases, secrets_of(self._services.sealer, lease).hider())
            session.execute(
                update(Build).where(Build.id == lease.build_id).values(phase=hidden[-1]["phaseType"], phases=hidden),
                execution_options={"synchronize_session": False},
            )

    def resolved(self, claim: Claim, identifier: str, commit: str) -> None:
        """Keep which commit a git source of the build is. Raises Invalid."""
        with self._db.write() as session:
            build = session.get_one(Build, self._held(session, claim).build_id)
            known = {each.identifier: each.type for each in PackageSource.from_json(build.source).inputs}
            if known.get(identifier) is not SourceType.GIT or not _COMMIT.match(commit):
                raise Invalid("the build has no git source of that identifier, or that is no commit")
            build.resolved_versions = {**build.resolved_versions, identifier: commit}

    def image(self, claim: Claim, digest: str) -> None:
        """Record what the image of the build's environment is now. Raises Invalid."""
        if not _DIGEST.match(digest):
            raise Invalid("that is no digest of an image")
        with self._db.write() as session:
            build = session.get_one(Build, self._held(session, claim).build_id)
            project = session.get_one(BuildProject, build.project_id).name
            image = build.environment.get("image", "")
            image_pins.record(session, build.project_id, project, image, digest, self._services.clock())

    def pauses(self, claim: Claim, *, stands: bool) -> None:
        """Write that a build with a debug session stands at a breakpoint, or goes on by itself. Raises Invalid."""
        with self._db.write() as session:
            build = session.get_one(Build, self._held(session, claim).build_id)
            if not build.debug_session:
                raise Invalid("the build has no debug session")
            build.paused_at = self._services.clock() if stands else None

    def stands(self, claim: Claim) -> bool:
        """Whether the build stands at a breakpoint, and nobody has resumed it."""
        return self._build(claim).paused_at is not None

    def read_batch(self, claim: Claim, document: str) -> Sequence[str]:
        """What is wrong with the buildspec that the first build of a batch has read. Raises Invalid."""
        spec = _spec_of(document)
        with self._db.read() as session:
            build = session.get_one(Build, self._readable(session, claim).build_id)
            return self._reading(session, build, spec)[1]

    def _reading(
        self, session: Session, build: Build, spec: BuildSpec | None
    ) -> tuple[batch_parts.Part, Sequence[str]]:
        """A build's part in its batch, with what the document says of it; and what is wrong with that."""
        part = batch_parts.part_of(session, build, self._services.environment_types)
        if part.reading is None:
            if spec is not None:
                raise Invalid("the build is not the first one of a batch")
            return part, ()
        return part, ("the document of the batch is missing",) if spec is None else part.reading.take(spec)

    def leaked(self, claim: Claim, tokens: Collection[str]) -> None:
        """Tell of tokens of this server that the build showed, which the runner has masked."""
        with self._db.write() as session:
            build_id = self._held(session, claim).build_id
        self._services.on_tokens(frozenset(tokens), build_id)

    # --- what it is given

    def open_source(self, claim: Claim, name: str | None, identifier: str | None) -> BinaryIO:
        """A file of the package, or a source of the store. Raises NotFound, Invalid for one that is gone, Unavailable."""
        build = self._build(claim)
        source = PackageSource.from_json(build.source)
        try:
            if name is not None:
                if all(asset.filename != name for asset in source.assets):
                    raise NotFound("file of the build's source", name)
                return self._services.open_asset(source, name)
            for wanted in source.inputs:
                if wanted.type in STORED and wanted.identifier == (identifier or ""):
                    return self._services.fetch_input(build.project_id, source, wanted, lambda: None, None).body
        except Refused as error:
            raise Invalid(str(error)) from error
        except ExecutorError as error:
            raise Unavailable(str(error)) from error
        raise NotFound("stored source", identifier or "(primary)")

    def values(self, claim: Claim, references: Sequence[Reference]) -> Sequence[Resolved]:
        """The values that the build names; from now on they are masked. Raises Unresolved, Unavailable."""
        resolver = Remembering(self._services.resolver(self._build(claim)))
        try:
            found = resolver(references)
        except ExecutorError as error:
            raise Unavailable(str(error)) from error
        if resolver.secrets:
            with self._db.write() as session:
                lease = self._held(session, claim)
                known = secrets_of(self._services.sealer, lease)
                texts = dict.fromkeys((*known.texts, *resolver.secrets))
                remember(self._services.sealer, lease, replace(known, texts=tuple(texts)))
        return found

    # --- what it leaves

    def artifact(self, claim: Claim, name: ArtifactName, files: int, body: IO[bytes]) -> Kept | None:
        """Keep an artifact; None where none are kept. Raises Invalid, Unavailable."""
        if name.identifier != PRIMARY and not is_identifier(name.identifier):
            raise Invalid("an artifact's identifier has letters, digits, '_' and '-'")
        if not name.name or not name.name.isprintable() or name.packaging not in {"ZIP", "NONE"}:
            raise Invalid("the artifact's name or packaging is none")
        keeper, secrets = self._keeper(claim, name.identifier)
        named = replace(name, name=secrets.hider()(name.name)[:500])
        with _told():
            return _keep(keeper.begin_artifact(named), files, body)

    def find_cache(self, claim: Claim, wanted: CacheKey) -> tuple[FoundCache, Iterator[bytes]] | None:
        """A cache that the build may restore, opened. Raises Unavailable."""
        keeper, _ = self._keeper(claim)
        with _told():
            found = keeper.find_cache(wanted)
            return None if found is None else (found, found.open())

    def cache(self, claim: Claim, wanted: CacheKey, files: int, body: IO[bytes]) -> Kept | None:
        """Keep a cache; None when it is there already. Raises Invalid, Unavailable."""
        keeper, _ = self._keeper(claim)
        with _told():
            return _keep(keeper.begin_cache(wanted), files, body)

    def report(self, claim: Claim, body: IO[bytes]) -> str:
        """Keep a report (``hooks.builds.report_lines``); why it is not taken, else empty. Raises Invalid, Unavailable."""
        with self._db.read() as session:
            lease = self._readable(session, claim)
            hide = secrets_of(self._services.sealer, lease).hider()
        job = remote.context_of(self._db, (lease.job_id, lease.fence))
        writer = ReportWriter(job, lease.build_id, self._services.sealer, self._services.clock)
        try:
            return writer.write(read_lines(body, hide))
        except Abandoned as error:
            raise Unavailable("the report cannot be kept now") from error

    def finish(self, claim: Claim, ending: Ending) -> None:
        """Write how the build ended: job, build and what follows in one transaction. Saying it again changes nothing.

        Raises Conflict when the log has not all arrived, and Invalid for a batch's first build without a document that is one.
        """
        spec = None if ending.batch_document is None else _spec_of(ending.batch_document)
        with self._db.write() as session:
            lease = self._lease(session, claim)
            hold, state = (lease.job_id, lease.fence), JOB_STATES[ending.status]
            if not claims.is_held(session, hold):
                if claims.was_ended(session, hold, state):
                    return
                raise LeaseLost(*hold)
            session.refresh(lease)
            if lease.log_bytes != ending.log_bytes:
                raise Conflict(f"the log ends at {lease.log_bytes}, not at {ending.log_bytes}: send the rest of it")
            part, faults = self._reading(session, session.get_one(Build, lease.build_id), spec)
            if faults and ending.status is BuildStatus.SUCCEEDED:
                raise Invalid("; ".join(faults)[:1000])
            hide = secrets_of(self._services.sealer, lease).hider()
            found, build_id = self._append(session, lease, b"", is_last=True), lease.build_id
            phases = _hidden(ending.phases, hide)
            exported = {name: hide(value) for name, value in ending.exported.items()}
            claims.end(session, hold, state, first_fault(phases) or None)
            about = {"status": ending.status.value, "attempt": lease.attempt}
            actor, now = f"runner/{claim.runner.name}", self._services.clock()
            audit.record(session, now, actor, "build.finish", f"build/{build_id}", **about)
            self._attempts.end(session, build_id, ending.status, phases, exported, part)
        if found:
            self._services.on_tokens(frozenset(found), build_id)

    def give_back(self, claim: Claim, error: str | None) -> None:
        """The build could not be run there (``error`` says why), or its runner leaves in order (None)."""
        with self._db.write() as session:
            lease = self._held(session, claim)
            hold = (lease.job_id, lease.fence)
            text = None
            if error is not None:
                text = " ".join(secrets_of(self._services.sealer, lease).hider()(error).split())[:500]
                line = f"[Container] {self._services.clock():%Y/%m/%d %H:%M:%S} The build could not be run: {text}\n"
                self._attempts.logs.append_now(session, lease.build_id, line.encode())
            about = {"reason": text or "the runner leaves", "attempt": lease.attempt}
            actor, now = f"runner/{claim.runner.name}", self._services.clock()
            audit.record(session, now, actor, "build.give_back", f"build/{lease.build_id}", **about)
            remote.give_back(session, hold, self._attempts.settle, error=text, counts=error is not None)
            self._attempts.close(session, lease.build_id)

    def end_token(self, session: Session, token_id: int) -> None:
        """End a token of a build's."""
        self._services.end_token(session, token_id)

    def close_lost(self) -> None:
        """End what builds were given that their runners have lost. A round of the worker's."""
        self._attempts.close_lost(self._db)

    # --- the lease

    def _lease(self, session: Session, claim: Claim) -> BuildLease:
        return find_lease(session, claim.lease_id, claim.token, claim.runner.id, self._digest)

    def _held(self, session: Session, claim: Claim) -> BuildLease:
        """The lease, held until the transaction ends."""
        lease = self._lease(session, claim)
        require_held(session, lease)
        session.refresh(lease)
        return lease

    def _readable(self, session: Session, claim: Claim) -> BuildLease:
        """The lease, held at this moment."""
        lease = self._lease(session, claim)
        if not remote.is_held(session, (lease.job_id, lease.fence)):
            raise LeaseLost(lease.job_id, lease.fence)
        return lease

    def _build(self, claim: Claim) -> Build:
        with self._db.read() as session:
            return session.get_one(Build, self._readable(session, claim).build_id)

    def _keeper(self, claim: Claim, artifact: str | None = None) -> tuple[Keeper, Secrets]:
        """What keeps what the build leaves; ``artifact`` is the identifier of one that is to be kept. Raises Conflict."""
        with self._db.read() as session:
            lease = self._readable(session, claim)
            build = session.get_one(Build, lease.build_id)
            document = session.get_one(BuildProject, build.project_id).document
            others = (BuildArtifact.build_id == build.id) & (BuildArtifact.identifier != artifact)
            count = select(func.count()).select_from(BuildArtifact).where(others)
            if artifact is not None and (session.scalar(count) or 0) >= _MOST_ARTIFACTS:
                raise Conflict(f"a build has at most {_MOST_ARTIFACTS} artifacts")
            secrets = secrets_of(self._services.sealer, lease)
        job = remote.context_of(self._db, (lease.job_id, lease.fence))
        keeper = self._attempts.keeper(build, OutputSettings.of(document), job.step, lambda: secrets.texts)
        return keeper, secrets


def _spec_of(document: str) -> BuildSpec:
    try:
        return parse_buildspec(document)
    except InvalidDocument as error:
        raise Invalid(str(error)[:1000]) from error


def _hidden(phases: Sequence[Mapping[str, Any]], hide: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {
            **phase,
            "contexts": [{**each, "message": hide(each["message"])} for each in phase["contexts"]],
        }
        for phase in phases
    ]


def _keep(incoming: Incoming | None, files: int, body: IO[bytes]) -> Kept | None:
    if incoming is None:
        return None
    try:
        while piece := body.read(_READ_BYTES):
            incoming.write(piece)
        return incoming.keep(files)
    finally:
        incoming.abort()


@contextmanager
def _told() -> Iterator[None]:
    """Turns what keepers raise into what the interface says."""
    try:
        yield
    except Refused as error:
        raise Invalid(str(error)) from error
    except ExecutorError as error:
        raise Unavailable(str(error)) from error
