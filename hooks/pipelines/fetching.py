"""The job of a git source action: the commit is fetched, kept as one encrypted archive, and pinned; then the action ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, Refused, StopReason
from hooks.builds.git_fetch import Fetched, GitCredential, GitFetcher
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceSettings, SourceType
from hooks.jobs.claims import EndedJob
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution
from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.actions import git
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.actions.timeouts import forget_expiry
from hooks.pipelines.engine import end_action, running_action
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import Run
from hooks.pipelines.sources.connections import locate, open_connection
from hooks.pipelines.sources.git_settings import GitSettings, settings_of
from hooks.pipelines.state import ActionStatus
from registry.db import Database
from registry.errors import Invalid, NotFound
from registry.models import Domain
from registry.repos import shelf
from registry.stores import DomainStores
from storage.errors import BodyRejected, StorageError
from storage.intake import Intake, Received

LOG = logging.getLogger(__name__)
_MAX_MESSAGE = 2000
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Fetching:
    """What fetches sources of pipelines. ``limit_bytes`` is the largest archive that is kept."""

    db: Database
    stores: DomainStores
    sealer: Sealer
    parts: Parts
    git: GitFetcher
    limit_bytes: int

    def handlers(self) -> Mapping[str, Handler]:
        """Job kind → handler."""
        return {git.JOB_KIND: self.run}

    def run(self, context: JobContext) -> None:
        """Fetch the revision of a source action, pin it and end the action.

        Running twice is harmless: pin, the action's end and the job's are one transaction, and of an earlier attempt only a
        body without a row is left, which the sweep takes. What cannot be fetched is the action's failure.
        """
        asked = self._asked(context)
        if asked is None:
            context.finish(JobState.SUCCEEDED)
            return
        try:
            fetched = self._fetch(asked, context)
            with contextlib.closing(fetched.body):
                received = self._keep(asked, fetched, context)
        except (Refused, BodyRejected, Invalid, NotFound) as refusal:
            if context.should_stop():
                return
            failed = Progress(ActionStatus.FAILED, str(refusal))
            context.finish(JobState.SUCCEEDED, lambda session: self._end(session, context, failed))
            return
        is_used = [False]
        try:
            context.finish(
                JobState.SUCCEEDED,
                lambda session: self._pin(session, context, asked, fetched, received, is_used),
            )
        finally:
            if not is_used[0]:
                with contextlib.suppress(StorageError):
                    self.stores.of(asked.domain_id).delete(received.handle.locator)

    def settle(self, session: Session, ended: EndedJob) -> None:
        """End the action of a job that could not be run, or took too long."""
        found = running_action(session, ended.payload["action_execution_id"])
        if found is not None:
            forget_expiry(session, found[1].id)
            told = f"the source could not be fetched: {ended.error or ended.state}"
            end_action(session, self.parts, *found, Progress(ActionStatus.FAILED, told), now=self.parts.clock())

    def _asked(self, context: JobContext) -> _Asked | None:
        """What to fetch; None when nobody waits for it any more. Raises ExecutorError while its credential does not open."""
        payload = context.payload
        with self.db.read() as session:
            row = session.get(SourceRevision, (payload["execution_id"], payload["action"]))
            action = session.get(ActionExecution, payload["action_execution_id"])
            if row is None or action is None or not ActionStatus(action.status).is_running:
                return None
            settings = settings_of(action.configuration)
            try:
                located = locate(session, settings)
                credential = open_connection(session, self.sealer, settings)
            except StorageError as error:
                raise ExecutorError(f"the credential of {settings.connection} does not open now: {error}") from error
            except (NotFound, Invalid) as error:
                return _Asked(row, settings, "", None, 0, str(error))
            domain = session.query(Domain.id).filter(Domain.name == located.domain).scalar()
            # It goes to where it was when the execution started, and to no other address with the credential of now.
            fault = "" if located.url == row.location else f"the source has moved to {located.url} since"
            return _Asked(row, settings, located.commits, credential, domain, fault)

    def _fetch(self, asked: _Asked, context: JobContext) -> Fetched:
        if asked.fault:
            raise Refused(asked.fault)
        row, settings = asked.row, asked.settings
        source = SourceSettings(
            SourceType.GIT,
            row.location,
            row.revision if row.revision and not row.wanted.endswith("}") else row.wanted,
            depth=0 if settings.with_history else 1,
            submodules=settings.submodules,
        )

        def interrupt() -> StopReason | None:
            return None if context.stop_reason() is None else StopReason.STOPPED

        return self.git.fetch(
            source, asked.credential, interrupt, is_described=True, with_history=settings.with_history
        )

    def _keep(self, asked: _Asked, fetched: Fetched, context: JobContext) -> Received:
        """The archive, encrypted with the domain's key as it comes. Raises ExecutorError while nothing can be stored."""
        try:
            with Intake(self.stores.of(asked.domain_id), self.limit_bytes) as intake:
                while piece := fetched.body.read(_PIECE_BYTES):
                    if context.should_stop():
                        raise Refused("it was stopped")
                    intake.write(piece)
                return intake.finish()
        except BodyRejected:
            raise
        except StorageError as error:
            raise ExecutorError(f"the source cannot be stored now: {error}") from error

    def _pin(
        self,
        session: Session,
        context: JobContext,
        asked: _Asked,
        fetched: Fetched,
        received: Received,
        is_used: list[bool],
    ) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is None:
            return
        run, _ = found
        now = self.parts.clock()
        row = session.get_one(SourceRevision, (run.execution.id, asked.row.action))
        if row.sha256 and row.sha256 != received.handle.digest:
            told = f"commit {row.revision} was pinned as sha256:{row.sha256}, and is another archive now"
            self._end(session, context, Progress(ActionStatus.FAILED, told))
            return
        blob, is_used[0] = shelf.ensure_blob(session, asked.domain_id, received.handle, now)
        row.blob_id, row.sha256, row.size_bytes = blob.id, blob.sha256, blob.size_bytes
        row.revision, row.facts = fetched.commit, facts_of(asked.settings, row, fetched, asked.commits)
        if run.definition.source.name == row.action and not run.definition.source.is_package_source:
            pin_execution(run, row)
        session.flush()
        run.record(
            session, now, run.subject, "source.pin", source=row.action, location=row.location, commit=row.revision,
            sha256=row.sha256,
        )  # fmt: skip
        self._end(session, context, git.ended(row))

    def _end(self, session: Session, context: JobContext, progress: Progress) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is not None:
            forget_expiry(session, found[1].id)
            end_action(session, self.parts, *found, progress, now=self.parts.clock())


@dataclass(frozen=True, slots=True)
class _Asked:
    row: SourceRevision
    settings: GitSettings
    commits: str
    credential: GitCredential | None
    domain_id: int
    fault: str = ""


def pin_execution(run: Run, row: SourceRevision) -> None:
    """What the execution is about is known now."""
    execution = run.execution
    execution.version, execution.digest = row.revision, row.sha256
    execution.assets = {row.filename: row.sha256}


def facts_of(settings: GitSettings, row: SourceRevision, fetched: Fetched, commits: str) -> dict[str, Any]:
    """The variables of the action. What is not known is empty, so that nothing that names it fails."""
    name = settings.full_name
    return {
        "AuthorDate": fetched.author_date,
        # Of a pull request or a tag its name: that is what took the branch's place.
        "BranchName": row.trigger.removeprefix("branch/") or settings.branch,
        "CommitId": fetched.commit,
        "CommitMessage": fetched.message[:_MAX_MESSAGE],
        "CommitUrl": f"{commits}{fetched.commit}" if commits else "",
        "CommitterDate": fetched.committer_date,
        "ConnectionArn": settings.connection,
        "Digest": f"sha256:{row.sha256}",
        "FullRepositoryName": name,
        "RepositoryName": name.rpartition("/")[2],
    }
