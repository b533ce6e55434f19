"""Definitions that come from their source: fetched from the branch that was configured, looked at, applied; then the push."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, Refused, StopReason
from hooks.builds.git_fetch import GitCredential, GitFetcher
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceSettings, SourceType
from hooks.jobs.claims import EndedJob
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import PipelineLocation
from hooks.pipelines.applying import apply_declared, known_providers, lock_pipelines
from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.definition import PipelineDefinition
from hooks.pipelines.locations import JOB_KIND
from hooks.pipelines.parts import Parts
from hooks.pipelines.pushed_rights import faults_of
from hooks.pipelines.run import SYSTEM
from hooks.pipelines.sources.connections import Located, locate, open_connection
from hooks.pipelines.sources.git_settings import settings_of
from hooks.triggers.pushes import hear
from hooks.triggers.told import told_of
from registry import audit
from registry.access import Identity
from registry.db import Database
from registry.errors import Conflict, Denied, Invalid, InvalidDocument, NotFound
from storage.errors import StorageError

Member = Callable[[Session, str, datetime], Identity | None]
"""The account of a name by the rules of the moment; None when nobody can act under it."""
_MAX_FAULT = 4000


@dataclass(frozen=True, slots=True)
class Definitions:
    """What applies definitions that come from their source."""

    db: Database
    sealer: Sealer
    parts: Parts
    git: GitFetcher
    member: Member

    def handlers(self) -> Mapping[str, Handler]:
        """Job kind → handler."""
        return {JOB_KIND: self.run}

    def run(self, context: JobContext) -> None:
        """Apply the newest definition of a pipeline, and then start what a push starts that was told.

        Running twice is harmless: the definition, what is started and the job's end are one transaction, text that is in
        force changes nothing, and the same push starts nothing twice. A fault is kept for people, and nothing is started.
        """
        name = context.payload["name"]
        try:
            asked = self._asked(name)
            if asked is None:
                context.finish(JobState.SUCCEEDED)
                return
            source, located, path, credential = asked
            commit, text = self.git.read_file(source, path, credential, _interrupt(context))
        except (Refused, Invalid, NotFound) as error:
            if not context.should_stop():
                fault = str(error)
                context.finish(JobState.SUCCEEDED, lambda session: _note(session, name, fault, self.parts.clock()))
            return
        context.finish(JobState.SUCCEEDED, lambda session: self._apply(session, context, located, commit, text))

    def settle(self, session: Session, ended: EndedJob) -> None:
        """Say that a definition could not be fetched."""
        told = f"the definition could not be fetched: {ended.error or ended.state}"
        _note(session, ended.payload["name"], told, self.parts.clock())

    def _asked(self, name: str) -> tuple[SourceSettings, Located, str, GitCredential | None] | None:
        with self.db.read() as session:
            row = session.get(PipelineLocation, name)
            if row is None:
                return None
            settings = settings_of(row.source)
            located = locate(session, settings)
            try:
                credential = open_connection(session, self.sealer, settings)
            except StorageError as error:
                raise ExecutorError(f"the credential of {settings.connection} does not open now: {error}") from error
            # The branch by its full name: a tag that is called like it is another thing.
            source = SourceSettings(SourceType.GIT, located.url, f"refs/heads/{settings.branch}")
            return source, located, row.path, credential

    def _apply(self, session: Session, context: JobContext, located: Located, commit: str, text: str) -> None:
        now, name = self.parts.clock(), context.payload["name"]
        row = session.get(PipelineLocation, name, with_for_update=True, populate_existing=True)
        if row is None:
            return
        try:
            with session.begin_nested():
                self._apply_all(session, row, located, commit, text, now)
        except (InvalidDocument, Conflict, Denied, Invalid, NotFound) as error:
            faults = error.faults if isinstance(error, InvalidDocument) else [str(error)]
            _note(session, name, "\n".join(faults), now, commit)
            about = {"commit": commit, "faults": len(faults), "first": faults[0][:300]}
            audit.record(session, now, SYSTEM, "pipeline.refuse_definition", f"pipeline/{name}", **about)
            return
        row.commit = row.seen_commit = commit
        row.fault, row.changed_at = "", now
        session.flush()
        told = context.payload["told"]
        pipeline_id = session.scalar(select(Pipeline.id).where(Pipeline.name == name))
        if told is not None and pipeline_id is not None:
            push = told_of(told)
            hear(session, self.parts, pipeline_id, told["action"], push, actor=told["actor"], now=now, is_applied=True)

    def _apply_all(
        self, session: Session, row: PipelineLocation, located: Located, commit: str, text: str, now: datetime
    ) -> None:
        who = self.member(session, row.configured_by, now)
        if who is None:
            raise Denied(f"{row.configured_by}, who configured where it comes from, is not there or is disabled")
        found = parse_documents(text, known_providers(session), name=row.path)
        place = (located.domain, located.repository)
        declared = [each.declares for each in found]
        faults = faults_of(session, who, row.name, place, declared)
        if faults:
            raise InvalidDocument(row.path, faults)
        lock_pipelines(session, [row.name])
        # Projects first, as their pipeline starts builds of them.
        for each in sorted(found, key=lambda one: isinstance(one.declares, PipelineDefinition)):
            apply_declared(
                session,
                self.parts,
                each.declares,
                each.text,
                secrets=each.secrets,
                actor=who.name,
                now=now,
                comes_from_source=True,
            )
        if row.commit != commit:
            about = {"commit": commit, "file": row.path, "url": located.url}
            audit.record(session, now, SYSTEM, "pipeline.take_definition", f"pipeline/{row.name}", **about)


def _note(session: Session, name: str, fault: str, now: datetime, commit: str = "") -> None:
    row = session.get(PipelineLocation, name)
    if row is not None:
        row.fault, row.changed_at = fault[:_MAX_FAULT], now
        row.seen_commit = commit or row.seen_commit
        session.flush()


def _interrupt(context: JobContext) -> Callable[[], StopReason | None]:
    return lambda: None if context.stop_reason() is None else StopReason.STOPPED
