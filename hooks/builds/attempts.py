"""What every attempt at a build has in common, whoever runs it: the worker of this server, or a runner elsewhere.

How it begins and ends in the rows, what it is told (all of the plan but files, room and secrets), and what keeps what it
leaves. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import batch_parts
from hooks.builds.build_services import BuildServices
from hooks.builds.cache_scope import Scope, scope_of
from hooks.builds.executor import Login, Network, SourceBundle
from hooks.builds.grants import IssuedToken, PublishDoor
from hooks.builds.keeping import Keeper, NoKeeper
from hooks.builds.logs import LogStore
from hooks.builds.output_settings import OutputSettings, handed_on
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildPlan
from hooks.builds.publishing import publish_place, tokens_of, why_not
from hooks.builds.records import finish_build
from hooks.builds.references import split_variables
from hooks.builds.report_store import close_reports, drop_reports
from hooks.builds.reserved import reserved_variables
from hooks.builds.runner_leases import close_leases, lost
from hooks.builds.source import PackageSource
from hooks.builds.spec_model import BuildSpec
from hooks.builds.stored_outputs import BuildPlace, Step
from hooks.jobs.claims import EndedJob
from hooks.models.build import Build, BuildProject
from hooks.models.job import JobState
from registry.db import Database

JOB_STATES: Mapping[BuildStatus, JobState] = {
    BuildStatus.SUCCEEDED: JobState.SUCCEEDED,
    BuildStatus.FAILED: JobState.FAILED,
    BuildStatus.STOPPED: JobState.STOPPED,
    BuildStatus.TIMED_OUT: JobState.TIMED_OUT,
}
"""How the job of a build ends that ran to an end of its own."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a build needs of its project's row when it begins; ``document`` is CodeBuild's, as it is stored.

    ``part`` is the build's in its batch.
    """

    name: str
    document: Mapping[str, Any]
    part: batch_parts.Part = batch_parts.ALONE


class BuildAttempts:
    """The rows of attempts at builds. Safe for many threads."""

    def __init__(self, services: BuildServices) -> None:
        self._services = services
        self.logs = LogStore(services.sealer)

    def begin(self, session: Session, build_id: str, types: Collection[str]) -> tuple[Build, Project] | None:
        """Note that an attempt begins; None for a build that was deleted, or has ended meanwhile.

        ``types`` are those of the environments that a batch it may begin can name.
        """
        now = self._services.clock()
        statement = select(Build, BuildProject).join(BuildProject, Build.project_id == BuildProject.id)
        row = session.execute(statement.where(Build.id == build_id)).one_or_none()
        if row is None or row[0].status != BuildStatus.IN_PROGRESS:
            return None
        build = row[0]
        if build.attempt:
            line = f"[Container] {now:%Y/%m/%d %H:%M:%S} Attempt {build.attempt} broke off; the build starts anew\n"
            self.logs.append_now(session, build_id, line.encode())
            drop_reports(session, build_id)
            session.refresh(build)
        self.close(session, build_id)
        build.attempt += 1
        build.started_at, build.paused_at = build.started_at or now, None
        session.flush()
        return build, Project(row[1].name, row[1].document, batch_parts.part_of(session, build, types))

    def door(self, build: Build, project: Project, say: Callable[[str], None]) -> PublishDoor | None:
        """How the attempt publishes; None where it does not. ``say`` is told which, for the log."""
        place, services = publish_place(project.document), self._services
        if place is None or services.open_publishing is None or build.environment["network"] == Network.NONE:
            return None
        obstacle = why_not(build, place, services.protected_refs)
        say(f"Warning: {obstacle}" if obstacle else f"This build may publish to {'/'.join(place)}")
        return None if obstacle else services.open_publishing(build, place)

    def plan(self, build: Build, project: Project, token: IssuedToken | None, door: PublishDoor | None) -> BuildPlan:
        """The plan without its files, room and resolver, which are the business of who runs it."""
        services = self._services
        source, outputs = PackageSource.from_json(build.source), OutputSettings.of(project.document)
        overrides, references = split_variables({**build.environment["variables"], **build.variables})
        spec_text = build.buildspec if build.buildspec is not None else services.find_spec(source)
        return BuildPlan(
            build_id=build.id,
            source=SourceBundle(()),
            submitted_at=build.submitted_at,
            spec_text=spec_text,
            environment={**services.client_variables(source), **(door.variables if door else {})} if token else {},
            overrides=overrides,
            references=references,
            reserved={
                **reserved_variables(build, project.name, source),
                **project.part.variables,
                **self._addresses(build),
            },
            on_spec=_taking(project.part.reading),
            network=Network(build.environment["network"]),
            credentials=Login(token.login, token.token) if token else None,
            home_files=services.client_files(source, token, door.place if door else None) if token else {},
            publishing=door.publishing if door else None,
            secrets=tuple(each.token for each in (token, door.token if door else None) if each),
            project=project.name,
            outputs=handed_on(outputs) if source.outputs else outputs,
            timeout_seconds=build.timeout_minutes * 60.0,
        )

    def _addresses(self, build: Build) -> dict[str, str]:
        url = self._services.public_url
        return {"CODEBUILD_BUILD_URL": f"{url.rstrip('/')}/builds/{build.id}"} if url else {}

    def keeper(
        self, build: Build, outputs: OutputSettings, step: Step, secrets: Callable[[], Collection[str]]
    ) -> Keeper:
        """What keeps artifacts and caches; ``secrets`` is asked when an artifact is there, and must not be in it."""
        if self._services.outputs is None:
            return NoKeeper()
        shared = outputs.cache_namespace
        place = BuildPlace(
            build.id,
            build.source["domain"],
            f"shared/{shared}" if shared else f"project/{build.project_id}",
            self.scope(build),
            secrets,
        )
        return self._services.outputs.keeper(place, step)

    def scope(self, build: Build) -> Scope:
        """At which trust the build reads and writes caches."""
        return scope_of(build.source, build.webhook, self._services.protected_refs)

    def end(
        self,
        session: Session,
        build_id: str,
        status: BuildStatus,
        phases: Sequence[Mapping[str, Any]],
        exported: Mapping[str, str],
        part: batch_parts.Part = batch_parts.ALONE,
    ) -> None:
        """Write how a build that ran has ended, after what it found as the first of a batch.

        ``phases`` have the shape of ``PhaseRecord.as_json``.
        """
        close_reports(session, build_id)
        self.close(session, build_id)
        batch_parts.write_found(session, session.get_one(Build, build_id), part, status)
        finish_build(
            session,
            build_id,
            status,
            now=self._services.clock(),
            on_finished=self._services.on_finished,
            phases=phases,
            exported_variables=exported,
            message=first_fault(phases),
        )

    def settle(self, session: Session, ended: EndedJob) -> None:
        """End the build of a job that ended without anybody who runs it: stopped, timed out, or not to be run at all."""
        status = {JobState.STOPPED: BuildStatus.STOPPED, JobState.TIMED_OUT: BuildStatus.TIMED_OUT}.get(
            ended.state, BuildStatus.FAULT
        )
        build_id = ended.payload["build_id"]
        now = self._services.clock()
        message = ended.error or ""
        close_reports(session, build_id)
        self.close(session, build_id)
        if finish_build(session, build_id, status, now=now, on_finished=self._services.on_finished, message=message):
            line = f"[Container] {now:%Y/%m/%d %H:%M:%S} Build complete: {status.value} {message}".rstrip()
            self.logs.append_now(session, build_id, line.encode() + b"\n")

    def close_lost(self, db: Database) -> None:
        """Forget what attempts were given that runners have lost: whether and when another begins is not known."""
        with db.read() as session:
            if not lost(session):
                return
        with db.write() as session:
            for build_id in lost(session, locks=True):
                self.close(session, build_id)

    def close(self, session: Session, build_id: str) -> None:
        """Whatever runner had the build before has no say over it any more, and no token of it."""
        for token_id in (*close_leases(session, build_id, self._services.clock()), *tokens_of(session, build_id)):
            self._services.end_token(session, token_id)


def _taking(reading: batch_parts.Reading | None) -> Callable[[str, BuildSpec], Sequence[str]] | None:
    return None if reading is None else lambda _text, spec: reading.take(spec)


def first_fault(phases: Sequence[Mapping[str, Any]]) -> str:
    """The first message of what went wrong in ``phases``; empty if nothing did."""
    return next((str(context["message"]) for phase in phases for context in phase["contexts"]), "")
