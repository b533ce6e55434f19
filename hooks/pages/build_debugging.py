"""Letting a build go on that stands at a breakpoint, from its page."""

from __future__ import annotations

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue

from hooks.builds.debug_rows import resume
from hooks.builds.project_rights import check_manage
from hooks.builds.starting import place_of
from hooks.models.build import BuildProject
from hooks.pages.builds import visible_build
from hooks.services import HookServices
from registry import audit
from registry.errors import Conflict
from registry.http import context
from registry.http.auth import page
from registry.pages.appearance import redirect_with


class DebugPages:
    """The forms of debug sessions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/builds/<build_id>/resume", "resume_build", page(self.resume), methods=["POST"])

    def resume(self, build_id: str) -> ResponseReturnValue:
        """Let it go on. Needs what changing its project needs. Where it goes on already, its page says so."""
        try:
            with self._services.db.write() as session:
                build = visible_build(session, build_id)
                project = session.get_one(BuildProject, build.project_id)
                who, now = context.caller(), self._services.clock()
                check_manage(who, place_of(project))
                resume(session, build)
                audit.record(session, now, who.name, "build.resume", f"build/{build_id}", project=project.name)
        except Conflict:
            return redirect(url_for("hook_pages.build", build_id=build_id), 303)
        return redirect_with("build-resumed", url_for("hook_pages.build", build_id=build_id))
