"""Debug sessions of builds: letting one go on that stands at a breakpoint."""

from __future__ import annotations

from hooks.api.builds import BuildDetail, detail, readable_build
from hooks.builds.debug_rows import resume
from hooks.builds.project_rights import check_manage
from hooks.builds.starting import place_of
from hooks.models.build import BuildProject
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route
from registry.http import context
from registry.http.auth import signed_in_api


class DebugViews:
    """The operations on debug sessions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        return (Route("POST", "/builds/<build_id>/resume", signed_in_api, self.resume_build, answer=BuildDetail),)

    def resume_build(self, build_id: str) -> BuildDetail:
        """Let a build go on that stands at a breakpoint. Needs what changing its project needs."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            build, project = readable_build(session, build_id, caller)
            check_manage(caller, place_of(session.get_one(BuildProject, build.project_id)))
            resume(session, build)
            audit.record(session, services.clock(), caller.name, "build.resume", f"build/{build_id}", project=project)
            session.flush()
            return detail(session, *readable_build(session, build_id, caller))
