"""A batch build: its builds in the order in which they can run, starting, stopping and retrying it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.batch_engine import groups_of
from hooks.builds.batch_plan import DOWNLOAD_SOURCE, TaskStatus
from hooks.builds.batches import (
    RetryType,
    builds_of,
    get_batch,
    list_batches,
    retry_batch,
    start_project_batch,
    stop_batch,
)
from hooks.builds.phases import BuildStatus
from hooks.builds.project_rights import START, check_publishes, check_start, may_see_build, visible_project
from hooks.builds.records import Options
from hooks.builds.source import PackageSource
from hooks.builds.starting import Asked
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from hooks.pages.builds import execution_of, phase_row
from hooks.pages.forms import sentence
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.access import Action, check
from registry.errors import Conflict, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A build of a batch as people see it. ``depth`` is how many others have to come before it, one after the other.

    ``status`` None: it has not started. ``earlier`` are its builds before the last retry.
    """

    group: BuildBatchGroup
    depth: int
    status: str | None
    build: Build | None
    earlier: Sequence[Build]
    seconds: float | None


class BatchPages:
    """The pages of batch builds."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._on_finished = partial(_finished, services)

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/build-batches/<batch_id>"
        pages.add_url_rule(one, "build_batch", page(self.show))
        pages.add_url_rule(f"{one}/live", "build_batch_live", page(self.live))
        pages.add_url_rule(f"{one}/stop", "stop_build_batch", page(self.stop), methods=["POST"])
        pages.add_url_rule(f"{one}/retry", "retry_build_batch", page(self.retry), methods=["POST"])
        pages.add_url_rule(
            "/build-projects/<name>/start-batch", "start_build_batch", page(self.start), methods=["POST"]
        )

    def show(self, batch_id: str) -> str:
        """The whole page."""
        return self._page(batch_id)

    def live(self, batch_id: str) -> str:
        """The part that changes, for a page that is open."""
        with self._services.db.read() as session:
            return render_template("builds/batch_live.html", **self._facts(session, visible_batch(session, batch_id)))

    def _page(self, batch_id: str, message: str = "") -> str:
        with self._services.db.read() as session:
            facts = self._facts(session, visible_batch(session, batch_id))
            return render_template("builds/batch.html", **facts, message=message)

    def _facts(self, session: Session, batch: BuildBatch) -> dict[str, Any]:
        source, who = PackageSource.from_json(batch.source), context.caller()
        is_running = batch.status == BuildStatus.IN_PROGRESS
        place = f"{source.domain}/{source.repository}"
        may_publish = who.may(Action.PUBLISH, place)
        rows = group_rows(groups_of(session, batch.id), builds_of(session, batch.id), self._services.clock())
        first = next(row.build for row in rows if row.group.identifier == DOWNLOAD_SOURCE)
        return {
            "batch": batch,
            "project": session.get_one(BuildProject, batch.project_id).name,
            "source": source,
            "rows": rows,
            "first": first,
            "phases": [phase_row(record) for record in batch.phases],
            "is_running": is_running,
            "may_stop": is_running and batch.ending is None and may_publish,
            "may_retry": not is_running and batch.status != BuildStatus.SUCCEEDED and may_publish,
            "has_succeeded": any(row.status == TaskStatus.SUCCEEDED for row in rows if row.build is not first),
            "artifacts": artifact_reading.of_build(session, first.id) if first is not None else [],
            "execution_id": execution_of(batch.subject),
            "took": ((batch.ended_at or self._services.clock()) - batch.submitted_at).total_seconds(),
        }

    def start(self, name: str) -> ResponseReturnValue:
        """Start a batch of the project's own source."""
        who = context.caller()
        token = request.form.get("request_token", "")[:64] or secrets.token_urlsafe(16)
        version = request.form.get("source_version", "").strip() or None
        try:
            with self._services.db.write() as session:
                check_start(who, visible_project(session, name, who))
                now = self._services.clock()
                batch = start_project_batch(
                    session,
                    name,
                    Asked(source_version=version, options=Options(request_token=token)),
                    config={},
                    initiator=who.name,
                    now=now,
                    on_finished=self._on_finished,
                )
                audit.record(session, now, who.name, "build_batch.start", f"build-batch/{batch.id}", project=name)
                batch_id = batch.id
        except (Conflict, Invalid) as error:
            shown = render_template("builds/batch_refused.html", name=name, message=sentence(error))
            return shown, status_of(error)
        return redirect_with("build-started", url_for("hook_pages.build_batch", batch_id=batch_id))

    def stop(self, batch_id: str) -> ResponseReturnValue:
        """Stop a batch. Needs the right to publish where its source is."""
        try:
            with self._services.db.write() as session:
                batch = visible_batch(session, batch_id)
                who, now = context.caller(), self._services.clock()
                check(who, Action.PUBLISH, f"{batch.source['domain']}/{batch.source['repository']}")
                stop_batch(session, batch_id, now=now, on_finished=self._on_finished)
                audit.record(session, now, who.name, "build_batch.stop", f"build-batch/{batch_id}")
        except Conflict as error:
            return self._page(batch_id, str(error)), status_of(error)
        return redirect_with("build-stopping", url_for("hook_pages.build_batch", batch_id=batch_id))

    def retry(self, batch_id: str) -> ResponseReturnValue:
        """Go on with a batch: what failed, or all of it. Needs the right to publish where its source is."""
        kind = RetryType.ALL if request.form.get("type") == RetryType.ALL else RetryType.FAILED
        try:
            with self._services.db.write() as session:
                batch = visible_batch(session, batch_id)
                who, now = context.caller(), self._services.clock()
                place = f"{batch.source['domain']}/{batch.source['repository']}"
                check(who, Action.PUBLISH, place, permission=START)
                check_publishes(who, session.get_one(BuildProject, batch.project_id))
                retry_batch(session, batch_id, kind, now=now, on_finished=self._on_finished)
                audit.record(session, now, who.name, "build_batch.retry", f"build-batch/{batch_id}", type=kind.value)
        except Conflict as error:
            return self._page(batch_id, str(error)), status_of(error)
        return redirect_with("build-started", url_for("hook_pages.build_batch", batch_id=batch_id))


def _finished(services: HookServices, session: Session, build_id: str) -> None:
    on_build_finished(session, services.actions, build_id)


def visible_batch(session: Session, batch_id: str) -> BuildBatch:
    """A batch that the caller may see. Raises NotFound."""
    batch = get_batch(session, batch_id)
    if not may_see_build(context.caller(), PackageSource.from_json(batch.source)):
        raise NotFound("build batch", batch_id)
    return batch


def batches_shown(session: Session, project: str, most: int) -> list[BuildBatch]:
    """The newest batches of a project that the caller may see."""
    who = context.caller()
    found = [batch for batch, _ in list_batches(session, project=project, limit=most)]
    return [batch for batch in found if may_see_build(who, PackageSource.from_json(batch.source))]


def group_rows(
    groups: Sequence[BuildBatchGroup], builds: Mapping[str, Sequence[Build]], now: datetime
) -> list[GroupRow]:
    """The builds of a batch in an order in which they could run one by one."""
    depths = _depths(groups)
    rows = []
    for group in sorted(groups, key=lambda group: (depths[group.identifier], group.position)):
        mine = builds.get(group.identifier, ())
        build = next((each for each in mine if each.id == group.build_id), None)
        seconds = None
        if build is not None and build.started_at is not None:
            seconds = ((build.ended_at or now) - build.started_at).total_seconds()
        status = None if group.status == TaskStatus.PENDING else group.status
        earlier = [each for each in mine if each is not build]
        rows.append(GroupRow(group, depths[group.identifier], status, build, earlier, seconds))
    return rows


def _depths(groups: Sequence[BuildBatchGroup]) -> dict[str, int]:
    depths = {group.identifier: 0 if group.identifier == DOWNLOAD_SOURCE else 1 for group in groups}
    for _ in groups:  # as often as the longest chain can be
        for group in groups:
            for name in group.depends_on:
                depths[group.identifier] = max(depths[group.identifier], depths[name] + 1)
    return depths
