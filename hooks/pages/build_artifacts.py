"""Artifacts of a build: the panel on its page, what is in one, and the download."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from hooks.builds import artifact_reading as reading
from hooks.builds.source import PackageSource
from hooks.models import BuildProject
from hooks.pages.builds import visible_build
from hooks.services import HookServices
from registry.http.auth import page
from registry.http.responses import send_file

MEMBERS_PER_PAGE = 500


class ArtifactPages:
    """The pages of artifacts."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/builds/<build_id>/artifacts/<artifact_identifier>"
        pages.add_url_rule(one, "artifact", page(self.show))
        pages.add_url_rule(f"{one}/download", "artifact_download", page(self.download))

    def show(self, build_id: str, artifact_identifier: str) -> str:
        """An artifact with the files in it."""
        with self._services.db.read() as session:
            build = visible_build(session, build_id)
            project = session.get_one(BuildProject, build.project_id).name
            artifact, blob = reading.find(session, build_id, artifact_identifier)
        start = max(0, request.args.get("from", 0, type=int))
        members, problem = [], ""
        try:
            members = reading.members_of(self._services.stores, blob)
        except reading.Unreadable as error:
            problem = f"It cannot be looked into: {error}"
        end = start + MEMBERS_PER_PAGE
        return render_template(
            "builds/artifact.html",
            build=build,
            project=project,
            source=PackageSource.from_json(build.source),
            artifact=artifact,
            members=members[start:end],
            count=len(members),
            unpacked_bytes=sum(member.size for member in members),
            start=start,
            next_start=end if end < len(members) else None,
            problem=problem,
        )

    def download(self, build_id: str, artifact_identifier: str) -> ResponseReturnValue:
        """The zip."""
        with self._services.db.read() as session:
            visible_build(session, build_id)
            artifact, blob = reading.find(session, build_id, artifact_identifier)
        store, handle = reading.body_of(self._services.stores, blob)
        return send_file(
            lambda part: store.open(handle, part),
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            filename=reading.filename_of(artifact),
            modified=artifact.created_at,
            private=True,
            content_type="application/zip",
        )
