"""Builds: look, read the log by offset, stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from flask import Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from hooks.api.build_project_shapes import BuildDebugSession
from hooks.builds import log_search, tailing
from hooks.builds.log_search import LogMatch, Place
from hooks.builds.project import SourceType
from hooks.builds.project_rights import check_publishes, may_see_build
from hooks.builds.publishing import published_versions
from hooks.builds.records import request_stop_build, retry_build
from hooks.builds.source import PackageSource
from hooks.event_stream import Event, last_event_id, respond
from hooks.models.build import Build, BuildProject
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.access import Action, Identity, check
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import charge, signed_in_api
from registry.http.responses import INERT_HEADERS, disposition
from registry.rates import CostClass
from registry.repos import built

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
class ShownSource:
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
    ``retry_of`` is the build this one repeats. ``published`` are the versions with files that it published, also where they
    were promoted to since, as far as the caller may look into them.
    """

    phases: tuple[dict[str, Any], ...]
    assets: dict[str, str]
    sources: tuple[ShownSource, ...]
    resolved_source_version: str
    retry_of: str | None
    auto_retry_config: AutoRetry
    debug_session: BuildDebugSession
    queued_timeout_minutes: int
    priority: int
    exported_variables: dict[str, str]
    attempt: int
    timeout_minutes: int
    published: tuple[built.BuiltVersion, ...]


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
    """The byte to start at; or with ``download`` 1 all there is, as a file."""

    from_: Annotated[int, Between(0, 2**62)] = 0
    download: Annotated[int, Between(0, 1)] = 0


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """The byte to start at; the header ``Last-Event-ID`` wins over it."""

    from_: Annotated[int, Between(0, 2**62)] = 0


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for: a plain text, in any case of ASCII letters unless ``caseSensitive`` is 1.

    ``from``, ``line`` and ``lineOffset`` are where to go on: those of ``next``.
    """

    q: Annotated[str, Length(1, log_search.LONGEST_QUERY)]
    case_sensitive: Annotated[int, Between(0, 1)] = 0
    from_: Annotated[int, Between(0, 2**62)] = 0
    line: Annotated[int, Between(1, 2**62)] = 1
    line_offset: Annotated[int, Between(0, 2**62)] = 0
    limit: Annotated[int, Between(1, log_search.MOST_MATCHES)] = 100


@dataclass(frozen=True, slots=True)
class LogMatches:
    """Lines that have the text, in order; ``next`` is null when the whole log has been looked through."""

    items: tuple[LogMatch, ...]
    next: Place | None


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
            Route(
                "GET",
                f"{one}/log/stream",
                door,
                self.stream_build_log,
                query=StreamQuery,
                media_type="text/event-stream",
            ),
            Route("GET", f"{one}/log/search", door, self.search_build_log, query=SearchQuery, answer=LogMatches),
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
            return detail(session, *readable_build(session, build_id, context.caller()))

    def read_build_log(self, build_id: str, query: LogQuery) -> Response:
        """A piece of the log, as the build wrote it, from byte `from` on.

        `X-Next-Offset` is where to go on; `X-Build-Ended` is `true` when nothing will come after that. With `download=1`
        it is all there is by now, in one answer.
        """
        with self._services.db.read() as session:
            build, project = readable_build(session, build_id, context.caller())
            if query.download:
                return self._download(build, project)
            body, offset, has_ended = self._services.logs.read(session, build_id, query.from_, LOG_PIECE_BYTES)
        response = Response(body, content_type="text/plain; charset=utf-8")
        response.headers["X-Next-Offset"] = str(offset)
        response.headers["X-Build-Ended"] = "true" if has_ended else "false"
        response.headers["Cache-Control"] = "no-store"
        # What a build wrote is somebody else's: no browser may take it for a page of ours.
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response

    def _download(self, build: Build, project: str) -> Response:
        headers = {
            **INERT_HEADERS,
            "Cache-Control": "no-store",
            "Content-Disposition": disposition(f"{project}-{build.number}.log"),
            "Content-Length": str(build.log_bytes),
        }
        pieces = self._services.logs.pieces(self._services.db, build.id, build.log_bytes)
        return Response(pieces, headers=headers, content_type="text/plain; charset=utf-8")

    def stream_build_log(self, build_id: str, query: StreamQuery) -> Response:
        """The log while it is written, as server-sent events.

        `log` has `{"text", "offset", "next"}` (a byte that is no UTF-8 is U+DC80 plus its value less 128), `end` has
        `{"next", "status"}` and says that nothing more will come. The id of an event is the byte to go on at: send it as
        `Last-Event-ID`, or as `from`. An answer ends after half a minute at the most, also before `end`; ask again then.
        Above the number of logs that are followed at a time it is 429: read the log by offset instead.
        """
        caller, services = context.caller(), self._services
        start = _offset(last_event_id(str(query.from_)))
        with services.db.read() as session:
            readable_build(session, build_id, caller)
        leave = services.tails.enter(caller.account_id)
        return respond(self._events(build_id, start), leave)

    def _events(self, build_id: str, start: int) -> Iterator[Event]:
        services = self._services

        def read(offset: int, limit_bytes: int) -> tuple[bytes, int, bool]:
            with services.db.read() as session:
                data, position, is_last = services.logs.read(session, build_id, offset, limit_bytes)
            whole = tailing.whole_characters(data, is_last=is_last)
            return data[:whole], position - len(data) + whole, is_last

        for piece in services.tails.follow(read, start):
            if piece.data:
                text = piece.data.decode(errors="surrogateescape")
                offset = piece.end - len(piece.data)
                yield Event("log", {"text": text, "offset": offset, "next": piece.end}, str(piece.end))
            if piece.is_last:
                with services.db.read() as session:
                    status = session.scalar(select(Build.status).where(Build.id == build_id))
                yield Event("end", {"next": piece.end, "status": status}, str(piece.end))
            elif not piece.data:
                yield Event()

    def search_build_log(self, build_id: str, query: SearchQuery) -> LogMatches:
        """The lines of a log that have a text."""
        charge(CostClass.SEARCH)
        services = self._services
        with services.db.read() as session:
            readable_build(session, build_id, context.caller())

        def read(offset: int, limit_bytes: int) -> bytes:
            with services.db.read() as session:
                return services.logs.read(session, build_id, offset, limit_bytes)[0]

        at = Place(query.from_, query.line, min(query.line_offset, query.from_))
        found = log_search.search(read, query.q, ignores_case=not query.case_sensitive, at=at, limit=query.limit)
        return LogMatches(found.matches, found.next)

    def stop_build(self, build_id: str) -> BuildDetail:
        """Stop a build. Needs `publish` on the repository of the version it builds."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            build, _ = readable_build(session, build_id, caller)
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
            return detail(session, *readable_build(session, build_id, caller))

    def retry_build(self, build_id: str) -> BuildDetail:
        """Build once more what an ended build was made from: the same commits, files, variables and buildspec.

        Needs `read` and `publish` where it belongs, and `publish` where its project publishes. A pipeline's build is
        repeated without the pipeline.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            old, project = readable_build(session, build_id, caller)
            check(caller, Action.PUBLISH, _path(old), permission="entrepot:StartBuild")
            check_publishes(caller, session.get_one(BuildProject, old.project_id))
            now = services.clock()
            build = retry_build(session, build_id, initiator=caller.name, now=now)
            audit.record(session, now, caller.name, "build.retry", f"build/{build.id}", of=build_id)
            session.flush()
            return detail(session, build, project)


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


def readable_build(session: Session, build_id: str, caller: Identity) -> tuple[Build, str]:
    """A build with its project's name, for a caller who may read what it builds. Raises NotFound."""
    row = session.execute(
        select(Build, BuildProject.name)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .where(Build.id == build_id)
    ).first()
    if row is None or not _may_read(caller, row[0]):
        raise NotFound("build", build_id)
    return row[0], row[1]


def _offset(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid("Last-Event-ID is the byte to go on at")
    return int(text)


def _path(build: Build) -> str:
    return f"{build.source['domain']}/{build.source['repository']}"


def _may_read(caller: Identity, build: Build) -> bool:
    return may_see_build(caller, PackageSource.from_json(build.source))


def _facts(build: Build, project: str) -> dict[str, Any]:
    place = {key: build.source[key] for key in ("domain", "repository", "format", "namespace", "name", "version")}
    own = ("id", "number", "status", "phase", "initiator", "subject", "message", "log_bytes")
    moments = ("submitted_at", "started_at", "ended_at")
    return {"project": project, **place, **{name: getattr(build, name) for name in (*own, *moments)}}


def detail(session: Session, build: Build, project: str) -> BuildDetail:
    """A build to be answered with."""
    # Neither environment nor buildspec: their variables may hold what only the build is to know.
    source, resolved = PackageSource.from_json(build.source), build.resolved_versions
    is_revision = source.primary is not None and source.primary.type is SourceType.REVISION
    return BuildDetail(
        **_facts(build, project),
        phases=tuple(build.phases),
        assets={asset["filename"]: asset["sha256"] for asset in build.source["assets"]},
        exported_variables=build.exported_variables,
        attempt=build.attempt,
        timeout_minutes=build.timeout_minutes,
        sources=tuple(
            ShownSource(
                each.identifier, each.type.value, each.location, each.version, resolved.get(each.identifier, "")
            )
            for each in source.inputs
        ),
        resolved_source_version=resolved.get(
            "", source.version if source.primary is None or source.is_package or is_revision else ""
        ),
        retry_of=build.retry_of,
        auto_retry_config=AutoRetry(build.auto_retry_limit, build.auto_retry_number),
        debug_session=BuildDebugSession(build.debug_session, build.paused_at),
        queued_timeout_minutes=build.queued_timeout_minutes,
        priority=build.priority,
        published=tuple(published_versions(session, build.id, context.caller())),
    )
