"""Builds: look, read the log by offset, stop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from flask import Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from hooks.builds.records import request_stop_build, retry_build
from hooks.builds.source import PackageSource
from hooks.models.build import Build, BuildProject
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.access import Action, Identity, check
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api

LOG_PIECE_BYTES = 1024 * 1024
MOST_LOOKED_AT = 2000
_PAGE = 200


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """A build in a list. ``domain`` and ``repository`` are where it belongs.

    The package version it builds is named by format, namespace, name and version; without a package those are empty, and
    ``version`` is the source version that was asked for.
    """

    id: str
    project: str
    number: int
    status: str
    phase: str
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    initiator: str
    subject: str | None
    message: str
    log_bytes: int
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class BuiltSource:
    """A source of a build; ``source_identifier`` is empty for the primary one, ``location`` an upload's id or a URL."""

    source_identifier: str
    type: str
    location: str
    source_version: str
    resolved_source_version: str


@dataclass(frozen=True, slots=True)
class AutoRetry:
    """How often the project's builds are repeated by themselves, and the how manieth repetition this is."""

    auto_retry_limit: int
    auto_retry_number: int


@dataclass(frozen=True, slots=True)
class BuildDetail(BuildSummary):
    """A build with its phases (CodeBuild's shape); ``assets`` are the package's files, name → SHA-256.

    ``sources`` are what was fetched beside or instead of them, with the commit of each as soon as it is known.
    ``retry_of`` is the build this one repeats.
    """

    phases: tuple[dict[str, Any], ...]
    assets: dict[str, str]
    sources: tuple[BuiltSource, ...]
    resolved_source_version: str
    retry_of: str | None
    auto_retry_config: AutoRetry
    queued_timeout_minutes: int
    priority: int
    exported_variables: dict[str, str]
    attempt: int
    timeout_minutes: int


@dataclass(frozen=True, slots=True)
class BuildList:
    """Builds of versions the caller may read, newest first; ``next`` goes into ``after``, null at the end."""

    items: tuple[BuildSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class BuildQuery:
    """Of which project, and where to go on in the list."""

    project: Annotated[str, Length(1, 100)] | None = None
    after: Annotated[str, Length(1, 36)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The byte to start at."""

    from_: Annotated[int, Between(0, 2**62)] = 0


class BuildViews:
    """The operations on builds."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. Builds belong to repositories, so each operation looks at the object's own."""
        one, door = "/builds/<build_id>", signed_in_api
        return (
            Route("GET", "/builds", door, self.list_builds, query=BuildQuery, answer=BuildList),
            Route("GET", one, door, self.show_build, answer=BuildDetail),
            Route("GET", f"{one}/log", door, self.read_build_log, query=LogQuery, media_type="text/plain"),
            Route("POST", f"{one}/stop", door, self.stop_build, answer=BuildDetail),
            Route("POST", f"{one}/retry", door, self.retry_build, answer=BuildDetail, status=201),
        )

    def list_builds(self, query: BuildQuery) -> BuildList:
        """The newest builds, of versions in repositories the caller may read."""
        caller = context.caller()
        found: list[BuildSummary] = []
        place, looked_at, is_end = query.after, 0, False
        with self._services.db.read() as session:
            while len(found) <= query.limit and looked_at < MOST_LOOKED_AT and not is_end:
                page = _page(session, query.project, place)
                found += [BuildSummary(**_facts(*row)) for row in page if _may_read(caller, row[0])]
                looked_at += len(page)
                is_end = len(page) < _PAGE
                place = page[-1][0].id if page else place
        shown = tuple(found[: query.limit])
        if len(found) > len(shown):
            place, is_end = shown[-1].id, False
        return BuildList(shown, None if is_end else place)

    def show_build(self, build_id: str) -> BuildDetail:
        """A build with its phases."""
        with self._services.db.read() as session:
            return detail(*_readable(session, build_id, context.caller()))

    def read_build_log(self, build_id: str, query: LogQuery) -> Response:
        """A piece of the log, as the build wrote it, from byte `from` on.

        `X-Next-Offset` is where to go on; `X-Build-Ended` is `true` when nothing will come after that.
        """
        with self._services.db.read() as session:
            _readable(session, build_id, context.caller())
            body, offset, has_ended = self._services.logs.read(session, build_id, query.from_, LOG_PIECE_BYTES)
        response = Response(body, content_type="text/plain; charset=utf-8")
        response.headers["X-Next-Offset"] = str(offset)
        response.headers["X-Build-Ended"] = "true" if has_ended else "false"
        response.headers["Cache-Control"] = "no-store"
        # What a build wrote is somebody else's: no browser may take it for a page of ours.
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response

    def stop_build(self, build_id: str) -> BuildDetail:
        """Stop a build. Needs `publish` on the repository of the version it builds."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            build, _ = _readable(session, build_id, caller)
            check(caller, Action.PUBLISH, _path(build))
            now = services.clock()
            request_stop_build(
                session,
                build_id,
                now=now,
                on_finished=lambda session, ended: on_build_finished(session, services.actions, ended),
            )
            audit.record(session, now, caller.name, "build.stop", f"build/{build_id}")
            session.flush()
            return detail(*_readable(session, build_id, caller))

    def retry_build(self, build_id: str) -> BuildDetail:
        """Build once more what an ended build was made from: the same commits, files, variables and buildspec.

        Needs `read` and `publish` where it belongs. A pipeline's build is repeated without the pipeline.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            old, project = _readable(session, build_id, caller)
            check(caller, Action.PUBLISH, _path(old), permission="entrepot:StartBuild")
            now = services.clock()
            build = retry_build(session, build_id, initiator=caller.name, now=now)
            audit.record(session, now, caller.name, "build.retry", f"build/{build.id}", of=build_id)
            session.flush()
            return detail(build, project)


def _page(session: Session, project: str | None, after: str | None) -> list[tuple[Build, str]]:
    statement = (
        select(Build, BuildProject.name)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .order_by(Build.submitted_at.desc(), Build.id.desc())
        .limit(_PAGE)
    )
    if project is not None:
        statement = statement.where(BuildProject.name == project)
    if after is not None:
        last = session.get(Build, after)
        if last is None:
            raise Invalid("the build to go on after is not there any more; start again without it")
        statement = statement.where(tuple_(Build.submitted_at, Build.id) < (last.submitted_at, last.id))
    return [(build, name) for build, name in session.execute(statement)]


def _readable(session: Session, build_id: str, caller: Identity) -> tuple[Build, str]:
    row = session.execute(
        select(Build, BuildProject.name)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .where(Build.id == build_id)
    ).first()
    if row is None or not _may_read(caller, row[0]):
        raise NotFound("build", build_id)
    return row[0], row[1]


def _path(build: Build) -> str:
    return f"{build.source['domain']}/{build.source['repository']}"


def _may_read(caller: Identity, build: Build) -> bool:
    return caller.may(Action.READ, _path(build))


def _facts(build: Build, project: str) -> dict[str, Any]:
    place = {key: build.source[key] for key in ("domain", "repository", "format", "namespace", "name", "version")}
    own = ("id", "number", "status", "phase", "initiator", "subject", "message", "log_bytes")
    moments = ("submitted_at", "started_at", "ended_at")
    return {"project": project, **place, **{name: getattr(build, name) for name in (*own, *moments)}}


def detail(build: Build, project: str) -> BuildDetail:
    """A build to be answered with."""
    # Neither environment nor buildspec: their variables may hold what only the build is to know.
    source, resolved = PackageSource.from_json(build.source), build.resolved_versions
    return BuildDetail(
        **_facts(build, project),
        phases=tuple(build.phases),
        assets={asset["filename"]: asset["sha256"] for asset in build.source["assets"]},
        exported_variables=build.exported_variables,
        attempt=build.attempt,
        timeout_minutes=build.timeout_minutes,
        sources=tuple(
            BuiltSource(
                each.identifier, each.type.value, each.location, each.version, resolved.get(each.identifier, "")
            )
            for each in source.inputs
        ),
        resolved_source_version=resolved.get("", "" if source.primary is not None else source.version),
        retry_of=build.retry_of,
        auto_retry_config=AutoRetry(build.auto_retry_limit, build.auto_retry_number),
        queued_timeout_minutes=build.queued_timeout_minutes,
        priority=build.priority,
    )
