"""Build projects: which there are, what one says, its builds, and starting one by hand."""

from __future__ import annotations

import secrets
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from hooks.builds.metrics import figures, totals
from hooks.builds.project import SourceType
from hooks.builds.project_rights import check_start, may_manage, may_see, may_start, visible_project
from hooks.builds.projects import list_projects, sources_of
from hooks.builds.publishing import publish_place
from hooks.builds.push_approvals import hooks_of
from hooks.builds.records import Options, list_builds
from hooks.builds.starting import Asked, place_of, start_project
from hooks.pages.build_batches import batches_shown
from hooks.pages.chart import draw
from hooks.pages.forms import sentence
from hooks.pages.looks import look
from hooks.pages.push_hooks import Given
from hooks.services import HookServices
from registry import audit
from registry.access import Action
from registry.errors import Conflict, Invalid
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with

BUILDS_SHOWN = 20
DURATIONS_SHOWN = 40
BATCHES_SHOWN = 10


class BuildProjectPages:
    """The pages of build projects."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/build-projects", "build_projects", page(self.list))
        pages.add_url_rule("/build-projects/<name>", "build_project", page(self.show))
        pages.add_url_rule("/build-projects/<name>/start", "start_build", page(self.start), methods=["POST"])

    def list(self) -> str:
        """All projects that somebody may see."""
        who = context.caller()
        with self._services.db.read() as session:
            found = sorted(list_projects(session), key=lambda project: project.name)
            entries = [
                (project, sources_of(project)[0], place_of(project)) for project in found if may_see(who, project)
            ]
            figures_of = totals(session, [project.id for project, _, _ in entries])
            return render_template("builds/projects.html", entries=entries, figures_of=figures_of)

    def show(self, name: str) -> str:
        """One project."""
        return self.shown(name)

    def shown(self, name: str, message: str = "", given: Given | None = None, refused: str = "") -> str:
        """The page of a project, with what went wrong or with what a hook was given; ``refused`` as in ProjectPage."""
        who = context.caller()
        with self._services.db.read() as session:
            project = visible_project(session, name, who)
            place, sources = place_of(project), sources_of(project)
            builds = [
                build
                for build, _ in list_builds(session, project=name, limit=BUILDS_SHOWN)
                if who.may(Action.READ, f"{build.source['domain']}/{build.source['repository']}")
            ]
            measured = figures(session, project.id, self._services.clock())
            shown = measured.durations[-DURATIONS_SHOWN:]
            manages = may_manage(who, project)
            can_start = place is not None and sources[0].type in {SourceType.GIT, SourceType.NO_SOURCE}
            return render_template(
                "builds/project.html",
                project=project,
                place="/".join(place) if place else "",
                sources=sources,
                builds=builds,
                figures=measured,
                chart=draw(
                    [
                        (seconds, f"build {number}: {seconds:.0f} s, {look(status).text}")
                        for number, seconds, status in shown
                    ]
                )
                if shown
                else None,
                first=-len(shown),
                publishes_to="/".join(publish_place(project.document) or ()),
                hooks=hooks_of(session, project.id) if manages else (),
                takes_hooks=manages and sources[0].type is SourceType.GIT,
                given=given,
                batches=batches_shown(session, name, BATCHES_SHOWN),
                may_start=can_start and may_start(who, project),
                message=message,
                refused=refused,
                form=request.form,
                # Sent twice (a double click, a reload), the form starts one build.
                request_token=secrets.token_urlsafe(16),
            )

    def start(self, name: str) -> ResponseReturnValue:
        """Start a build of the project's own source."""
        who = context.caller()
        try:
            with self._services.db.write() as session:
                project = visible_project(session, name, who)
                check_start(who, project)
                now = self._services.clock()
                build = start_project(session, name, self._asked(), initiator=who.name, now=now)
                audit.record(session, now, who.name, "build.start", f"build/{build.id}", project=name)
                build_id = build.id
        except (Conflict, Invalid) as error:
            return self.shown(name, sentence(error)), status_of(error)
        return redirect_with("build-started", url_for("hook_pages.build", build_id=build_id))

    @staticmethod
    def _asked() -> Asked:
        form: Any = request.form
        token = form.get("request_token", "")[:64]
        return Asked(
            source_version=form.get("source_version", "").strip() or None, options=Options(request_token=token or None)
        )
