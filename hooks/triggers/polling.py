"""Asking git sources for news: one job for all of them, a bounded number of sources and of news each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, Interrupt, Refused, StopReason
from hooks.builds.git_fetch import GitCredential, GitFetcher
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceSettings, SourceType
from hooks.builds.push_filters import PUSH, Happening
from hooks.builds.push_payloads import Told
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline_source import PipelineLocation, SourceWatch
from hooks.pipelines import watches
from hooks.pipelines.current import current_definition
from hooks.pipelines.locations import ask_for_definition
from hooks.pipelines.parts import Parts
from hooks.pipelines.sources.connections import locate, open_connection
from hooks.pipelines.sources.git_settings import GitSettings, settings_of
from hooks.pipelines.sources.triggers import Trigger, looks_at_files
from hooks.triggers.pushes import hear
from registry.db import Database
from registry.errors import Invalid, NotFound
from storage.errors import StorageError

MOST_SOURCES = 50
"""So many are asked by one job; the others by the next."""
MOST_NEWS = 20
"""So many references of a source are told of at a time; the others at the next."""
ACTOR = "poll"


@dataclass(frozen=True, slots=True)
class _Asked:
    watch_id: int
    settings: GitSettings
    location: str
    credential: GitCredential | None
    triggers: tuple[Trigger, ...]
    heads: Mapping[str, str]
    is_first: bool

    @property
    def source(self) -> SourceSettings:
        return SourceSettings(SourceType.GIT, self.location)

    @property
    def own(self) -> str:
        return f"refs/heads/{self.settings.branch}"


@dataclass(frozen=True, slots=True)
class Polling:
    """What asks git sources."""

    db: Database
    sealer: Sealer
    parts: Parts
    git: GitFetcher

    def handlers(self) -> Mapping[str, Handler]:
        """Job kind → handler."""
        return {watches.JOB_KIND: self.run}

    def round(self) -> None:
        """Put the job in when there is something to ask."""
        now = self.parts.clock()
        with self.db.read() as session:
            is_due = session.scalar(select(SourceWatch.id).where(watches.due(now)).limit(1)) is not None
        if is_due or self._definitions_due():
            self.db.retry(watches.enqueue_due)

    def run(self, context: JobContext) -> None:
        """Ask all sources that are due, and start what their news start.

        Running twice is harmless: what was seen of a source and the starts for it are one transaction, and the same push
        never starts a second execution.
        """
        for watch_id in self._due():
            if context.should_stop():
                return
            self._ask(context, watch_id)
        for name in self._definitions_due():
            if context.should_stop():
                return
            self._ask_for_definition(context, name)
        context.finish(JobState.SUCCEEDED)

    def _due(self) -> Sequence[int]:
        now = self.parts.clock()
        wanted = select(SourceWatch.id).where(watches.due(now))
        with self.db.read() as session:
            return session.scalars(wanted.order_by(SourceWatch.asked_at, SourceWatch.id).limit(MOST_SOURCES)).all()

    def _definitions_due(self) -> Sequence[str]:
        before = self.parts.clock() - watches.EVERY
        with self.db.read() as session:
            rows = session.scalars(select(PipelineLocation).order_by(PipelineLocation.asked_at, PipelineLocation.name))
            polled = [row for row in rows if settings_of(row.source).polls]
            return [row.name for row in polled if row.asked_at is None or row.asked_at <= before][:MOST_SOURCES]

    def _ask_for_definition(self, context: JobContext, name: str) -> None:
        """Have a definition fetched where its branch has moved."""

        def unit(session: Session, head: str, fault: str) -> None:
            row = session.get(PipelineLocation, name)
            if row is None:
                return
            row.asked_at, row.fault = self.parts.clock(), fault or row.fault
            if head and head != row.seen_commit:
                ask_for_definition(session, name)

        head = fault = ""
        try:
            with self.db.read() as session:
                row = session.get(PipelineLocation, name)
                if row is None:
                    return
                settings = settings_of(row.source)
                source = SourceSettings(SourceType.GIT, locate(session, settings).url)
                credential = open_connection(session, self.sealer, settings)
            reference = f"refs/heads/{settings.branch}"
            head = self.git.heads(source, (reference,), credential, _interrupt(context)).get(reference, "")
        except (Refused, Invalid, NotFound, ExecutorError, StorageError) as error:
            fault = str(error)[:1000]
        if not context.should_stop():
            context.step(lambda session: unit(session, head, fault))

    def _ask(self, context: JobContext, watch_id: int) -> None:
        now, interrupt = self.parts.clock(), _interrupt(context)
        try:
            asked = self._asked(watch_id)
            if asked is None:
                return
            patterns = ("refs/heads/*", "refs/tags/*") if asked.triggers else (asked.own,)
            heads = self.git.heads(asked.source, patterns, asked.credential, interrupt)
            news = [] if asked.is_first else self._news(asked, heads, interrupt)
        except (Refused, Invalid, NotFound, ExecutorError, StorageError) as error:
            if not context.should_stop():
                fault = str(error)[:1000]
                context.step(lambda session: _note(session, watch_id, now, fault=fault))
            return
        context.step(lambda session: self._tell(session, asked, heads, news, now))

    def _asked(self, watch_id: int) -> _Asked | None:
        with self.db.read() as session:
            row = session.get(SourceWatch, watch_id)
            if row is None:
                return None
            _, definition = current_definition(session, row.pipeline_id)
            action = next((each for each in definition.sources if each.name == row.action), None)
            if action is None:
                return None
            settings = settings_of(action.configuration)
            located = locate(session, settings)
            triggers = tuple(each for each in definition.triggers if each.action == row.action)
            credential = open_connection(session, self.sealer, settings)
            return _Asked(row.id, settings, located.url, credential, triggers, dict(row.heads), row.is_first)

    def _news(self, asked: _Asked, heads: Mapping[str, str], interrupt: Interrupt) -> list[tuple[str, str, Told]]:
        """(reference, commit, what to tell) of what has changed."""
        found = []
        changed = [(name, commit) for name, commit in sorted(heads.items()) if asked.heads.get(name) != commit]
        for reference, commit in changed[:MOST_NEWS]:
            before = asked.heads.get(reference, "")
            files: tuple[str, ...] | None = None
            is_branch = reference.startswith("refs/heads/")
            # A branch that is new is judged on what it has over the source's own.
            base = before or (heads.get(asked.own, "") if is_branch else "")
            if is_branch and base and looks_at_files(asked.triggers):
                files = self.git.changed(asked.source, base, commit, asked.credential, interrupt)
            found.append((reference, commit, _told(reference, before, commit, files)))
        return found

    def _tell(
        self,
        session: Session,
        asked: _Asked,
        heads: Mapping[str, str],
        news: Sequence[tuple[str, str, Told]],
        now: datetime,
    ) -> None:
        row = session.get(SourceWatch, asked.watch_id, with_for_update=True, populate_existing=True)
        if row is None or dict(row.heads) != dict(asked.heads) or row.is_first != asked.is_first:
            return  # the definition has changed, or another has asked meanwhile
        if asked.is_first:
            row.heads = dict(heads)
        else:
            seen = {name: commit for name, commit in asked.heads.items() if name in heads}
            row.heads = seen | {reference: commit for reference, commit, _ in news}
        row.is_first, row.fault, row.asked_at = False, "", now
        session.flush()
        for _, _, told in news:
            hear(session, self.parts, row.pipeline_id, row.action, told, actor=ACTOR, now=now)


def _interrupt(context: JobContext) -> Interrupt:
    return lambda: None if context.stop_reason() is None else StopReason.STOPPED


def _told(reference: str, before: str, commit: str, files: tuple[str, ...] | None) -> Told:
    kind, _, name = reference.removeprefix("refs/").partition("/")
    return Told(
        Happening(PUSH, ACTOR, head_ref=reference, files=files, tag_name=name if kind == "tags" else None),
        version=f"{reference}^{{{commit}}}",
        trigger=f"{'tag' if kind == 'tags' else 'branch'}/{name}",
        commit=commit,
        previous_commit=before,
    )


def _note(session: Session, watch_id: int, now: datetime, *, fault: str) -> None:
    row = session.get(SourceWatch, watch_id)
    if row is not None:
        row.fault, row.asked_at = fault, now
