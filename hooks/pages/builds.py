"""One build: its phases, its log while it is written, and stopping it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.log_search import LONGEST_QUERY, Found, Place, search
from hooks.builds.phases import BuildStatus
from hooks.builds.project_rights import START, check_publishes, may_manage, may_publish, may_see_build
from hooks.builds.publishing import published_versions
from hooks.builds.records import get_build, request_stop_build, retry_build
from hooks.builds.source import PackageSource
from hooks.event_stream import Event, last_event_id, respond
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch
from hooks.pages.looks import look
from hooks.pages.reports import panels
from hooks.pages.terminal import PLAIN, Style, parse_style, render, render_line
from hooks.pipelines import store
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.access import Action, Identity, check
from registry.errors import Conflict, NotFound
from registry.http import context
from registry.http.auth import charge, page
from registry.http.problems import status_of
from registry.http.responses import INERT_HEADERS
from registry.pages.appearance import redirect_with
from registry.rates import CostClass

# More than this at once makes browsers slow; the rest is a click (or the raw log) away.
LOG_PAGE_BYTES = 512 * 1024
RAW_PIECE_BYTES = 1024 * 1024
MATCHES_SHOWN = 100
_PLACE = re.compile(r"([0-9]{1,18})~([0-9]{1,18})~(.{0,100})")
_EXECUTION = re.compile(r"execution:([0-9]{1,18})\Z")


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A phase as people see it; ``seconds`` None while it runs."""

    name: str
    status: str
    started_at: datetime
    seconds: float | None
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogPage:
    """A piece of a log as HTML; ``next_place`` is the query that asks for what comes after it."""

    html: Markup
    next_place: dict[str, Any]
    is_complete: bool
    skipped_bytes: int


class BuildPages:
    """The pages of builds."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/builds/<build_id>"
        pages.add_url_rule(one, "build", page(self.show))
        pages.add_url_rule(f"{one}/live", "build_live", page(self.live))
        pages.add_url_rule(f"{one}/log", "build_log", page(self.log))
        pages.add_url_rule(f"{one}/log/stream", "build_log_stream", page(self.stream))
        pages.add_url_rule(f"{one}/log.txt", "raw_log", page(self.raw_log))
        pages.add_url_rule(f"{one}/stop", "stop_build", page(self.stop), methods=["POST"])
        pages.add_url_rule(f"{one}/retry", "retry_build", page(self.retry), methods=["POST"])

    def show(self, build_id: str) -> ResponseReturnValue:
        """The whole page, with the end of the log, or with the part that was asked for; a batch has a page of its own."""
        with self._services.db.read() as session:
            is_batch = session.get(BuildBatch, build_id) is not None
        if is_batch:
            return redirect(url_for("hook_pages.build_batch", batch_id=build_id))
        return self._page(build_id)

    def live(self, build_id: str) -> str:
        """The part that changes, for a page that is open; the log is asked for by itself."""
        with self._services.db.read() as session:
            build = visible_build(session, build_id)
            return render_template("builds/build_live.html", **self._facts(session, build))

    def _page(self, build_id: str, message: str = "") -> str:
        with self._services.db.read() as session:
            build = visible_build(session, build_id)
            facts = self._facts(session, build)
            number = facts["execution_id"]
            pipeline = store.get_execution(session, number).summary.pipeline if number is not None else None
        start = request.args.get("from", type=int)
        query = request.args.get("q", "")[:LONGEST_QUERY]
        at = self._tail(build) if start is None else (start, request.args.get("line", 1, type=int), _style())
        return render_template(
            "builds/build.html",
            **facts,
            log=self._log_page(build_id, *at),
            message=message,
            pipeline=pipeline,
            query=query,
            show_line=render_line,
            found=self._found(build_id, query) if query.strip() else None,
        )

    def _facts(self, session: Session, build: Build) -> dict[str, Any]:
        source = PackageSource.from_json(build.source)
        who = context.caller()
        project = session.get_one(BuildProject, build.project_id)
        is_running = build.status == BuildStatus.IN_PROGRESS
        phases = [phase_row(record) for record in build.phases]
        return {
            "build": build,
            "project": project.name,
            "source": source,
            "phases": phases,
            "faults": _faults(build, phases),
            "is_running": is_running,
            "may_stop": is_running and _may_stop(who, source),
            "may_resume": build.paused_at is not None
            and may_manage(who, session.get_one(BuildProject, build.project_id)),
            "may_retry": not is_running
            and build.batch_id is None
            and _may_stop(who, source)
            and may_publish(who, project),
            "resolved": build.resolved_versions,
            "execution_id": execution_of(build.subject),
            "artifacts": artifact_reading.of_build(session, build.id),
            "published": published_versions(session, build.id, who),
            "reports": panels(session, self._services, build.id),
            "took": ((build.ended_at or self._services.clock()) - build.submitted_at).total_seconds(),
        }

    def _tail(self, build: Build) -> tuple[int, int, Style]:
        """Where the last part of a log begins: offset and line number."""
        if build.log_bytes <= LOG_PAGE_BYTES:
            return 0, 1, PLAIN
        start = build.log_bytes - LOG_PAGE_BYTES
        lines, position, piece = 1, 0, b""
        with self._services.db.read() as session:
            while position < start:
                limit_bytes = min(RAW_PIECE_BYTES, start - position)
                piece, position, _ = self._services.logs.read(session, build.id, position, limit_bytes)
                lines += piece.count(b"\n")
            if piece.endswith(b"\n"):
                return start, lines, PLAIN
            piece, _, _ = self._services.logs.read(session, build.id, start, LOG_PAGE_BYTES)
        # On to the first line that is there as a whole; in one endless line there is none.
        rest = piece.find(b"\n") + 1
        return start + rest, lines + bool(rest), PLAIN

    def _found(self, build_id: str, query: str) -> Found:
        """The first lines that have a text, wherever in the log."""
        charge(CostClass.SEARCH)

        def read(offset: int, limit_bytes: int) -> bytes:
            with self._services.db.read() as session:
                return self._services.logs.read(session, build_id, offset, limit_bytes)[0]

        ignores_case = "case" not in request.args
        return search(read, query, ignores_case=ignores_case, at=Place(), limit=MATCHES_SHOWN)

    def _whole_lines(self, build_id: str, offset: int, limit_bytes: int) -> tuple[bytes, int, bool]:
        """Lines from an offset on, where to go on, and whether that is the end for good."""
        with self._services.db.read() as session:
            data, position, is_complete = self._services.logs.read(session, build_id, offset, limit_bytes)
        if not is_complete:
            # Only whole lines, so that none is shown in two halves; but one endless line must not stop everything.
            whole = data.rfind(b"\n") + 1
            if whole or len(data) < limit_bytes:
                position -= len(data) - whole
                data = data[:whole]
        return data, position, is_complete

    def stream(self, build_id: str) -> Response:
        """What is added to the log, as server-sent events with HTML in them; they end after a while, to be asked anew."""
        with self._services.db.read() as session:
            visible_build(session, build_id)
        start = _parse_place(last_event_id("")) or (
            request.args.get("from", 0, type=int), request.args.get("line", 1, type=int), _style()
        )  # fmt: skip
        where = url_for("hook_pages.build_log", build_id=build_id)
        leave = self._services.tails.enter(context.caller().account_id)
        return respond(self._events(build_id, where, *start), leave)

    def _events(self, build_id: str, where: str, offset: int, line: int, style: Style) -> Iterator[Event]:
        def read(offset: int, limit_bytes: int) -> tuple[bytes, int, bool]:
            return self._whole_lines(build_id, offset, limit_bytes)

        for piece in self._services.tails.follow(read, max(0, offset)):
            if piece.data:
                shown = render(piece.data.decode("utf-8", "replace"), first_line=max(1, line), style=style)
                line, style = shown.next_line, shown.style
                place = urlencode({"from": piece.end, "line": line, "style": str(style)})
                yield Event("log", {"html": shown.html, "next": f"{where}?{place}"}, f"{piece.end}~{line}~{style}")
            if piece.is_last:
                yield Event("end", {})
            elif not piece.data:
                yield Event()

    def _log_page(self, build_id: str, offset: int, line: int, style: Style) -> LogPage:
        data, position, is_complete = self._whole_lines(build_id, offset, LOG_PAGE_BYTES)
        shown = render(data.decode("utf-8", "replace"), first_line=max(1, line), style=style)
        return LogPage(
            shown.html,
            {"from": position, "line": shown.next_line, "style": str(shown.style)},
            is_complete,
            max(0, offset),
        )

    def log(self, build_id: str) -> ResponseReturnValue:
        """What was added to the log behind ``from``, as HTML; where to go on is in the headers."""
        with self._services.db.read() as session:
            visible_build(session, build_id)
        start, line = request.args.get("from", 0, type=int), request.args.get("line", 1, type=int)
        part = self._log_page(build_id, start, line, _style())
        headers = {
            "X-Log-Next": url_for("hook_pages.build_log", build_id=build_id, **part.next_place),
            "X-Log-Complete": "yes" if part.is_complete else "no",
        }
        return Response(part.html, headers=headers, content_type="text/html; charset=utf-8")

    def raw_log(self, build_id: str) -> ResponseReturnValue:
        """The log as it was written, escape sequences and all, to be saved and not to be shown."""
        with self._services.db.read() as session:
            build = visible_build(session, build_id)
            project = session.get_one(BuildProject, build.project_id).name
        headers = {
            **INERT_HEADERS,
            "Content-Disposition": f'attachment; filename="{project}-{build.number}.log"',
            "Content-Length": str(build.log_bytes),
        }
        pieces = self._services.logs.pieces(self._services.db, build.id, build.log_bytes)
        return Response(pieces, headers=headers, content_type="text/plain; charset=utf-8")

    def stop(self, build_id: str) -> ResponseReturnValue:
        """Stop a build. Needs the right to publish where its source is."""
        try:
            with self._services.db.write() as session:
                build = visible_build(session, build_id)
                source = PackageSource.from_json(build.source)
                who, now = context.caller(), self._services.clock()
                check(who, Action.PUBLISH, f"{source.domain}/{source.repository}")
                _check_running(build)
                request_stop_build(session, build_id, now=now, on_finished=self._on_finished)
                audit.record(session, now, who.name, "build.stop", f"build/{build_id}")
        except Conflict as error:
            return self._page(build_id, str(error)), status_of(error)
        return redirect_with("build-stopping", url_for("hook_pages.build", build_id=build_id))

    def retry(self, build_id: str) -> ResponseReturnValue:
        """Build once more what an ended build was made from. Needs the right to publish where its source is."""
        try:
            with self._services.db.write() as session:
                build = visible_build(session, build_id)
                who, now = context.caller(), self._services.clock()
                check(who, Action.PUBLISH, f"{build.source['domain']}/{build.source['repository']}", permission=START)
                check_publishes(who, session.get_one(BuildProject, build.project_id))
                again = retry_build(session, build_id, initiator=who.name, now=now)
                audit.record(session, now, who.name, "build.retry", f"build/{again.id}", of=build_id)
                new_id = again.id
        except Conflict as error:
            return self._page(build_id, str(error)), status_of(error)
        return redirect_with("build-started", url_for("hook_pages.build", build_id=new_id))

    def _on_finished(self, session: Session, build_id: str) -> None:
        # One that still waits ends here: what waits for it, or for its batch, goes on.
        on_build_finished(session, self._services.actions, build_id)


def visible_build(session: Session, build_id: str) -> Build:
    """A build that the caller may see. Raises NotFound."""
    build = get_build(session, build_id)
    if not may_see_build(context.caller(), PackageSource.from_json(build.source)):
        raise NotFound("build", build_id)
    return build


def _check_running(build: Build) -> None:
    if build.status != BuildStatus.IN_PROGRESS:
        raise Conflict(f"Build {build.number} has ended already: {look(build.status).text}")


def _faults(build: Build, phases: Iterable[PhaseRow]) -> list[str]:
    """Why the build did not succeed: what its phases say, else what the server says of it as a whole."""
    found = [
        f"{phase.name}: {message}"
        for phase in phases
        if look(phase.status).tone == "bad"
        for message in phase.messages
        if message
    ]
    return found or [build.message] * bool(build.message and look(build.status).tone == "bad")


def _parse_place(text: str) -> tuple[int, int, Style] | None:
    """Byte, line and style out of an event's id; None for what is none."""
    match = _PLACE.fullmatch(text)
    return (int(match[1]), int(match[2]), parse_style(match[3])) if match else None


def _style() -> Style:
    return parse_style(request.args.get("style", "")[:100])


def _may_stop(who: Identity, source: PackageSource) -> bool:
    return who.may(Action.PUBLISH, f"{source.domain}/{source.repository}")


def execution_of(subject: str | None) -> int | None:
    """The number of the execution that something was started for."""
    execution = _EXECUTION.match(subject or "")
    return int(execution[1]) if execution else None


def phase_row(record: Mapping[str, Any]) -> PhaseRow:
    """A phase of a build or of a batch, as it is stored."""
    started_at = datetime.fromisoformat(record["startTime"])
    ended_at = datetime.fromisoformat(record["endTime"]) if "endTime" in record else None
    return PhaseRow(
        name=record["phaseType"].replace("_", " ").capitalize(),
        status=record.get("phaseStatus", BuildStatus.IN_PROGRESS.value),
        started_at=started_at,
        seconds=(ended_at - started_at).total_seconds() if ended_at is not None else None,
        messages=tuple(fault["message"] for fault in record.get("contexts", ())),
    )
