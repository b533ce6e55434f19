"""Artifacts of builds: which there are, what is in them, and the files themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from flask import Response

from hooks.api.builds import readable_build
from hooks.builds import artifact_reading as reading
from hooks.models import BuildArtifact
from hooks.services import HookServices
from registry.api.routes import Route
from registry.api.shapes import Between
from registry.errors import Conflict
from registry.http import context
from registry.http.auth import signed_in_api
from registry.http.responses import send_file


@dataclass(frozen=True, slots=True)
class ArtifactSummary:
    """An artifact, kept as a zip; the digests are of that.

    `artifact_identifier` is `primary`, or that of a secondary artifact, and names it in addresses; `name` may hold
    slashes. With `packaging` `NONE` its members are what counts.
    """

    artifact_identifier: str
    name: str
    packaging: str
    files: int
    size: int
    sha256sum: str
    md5sum: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactList:
    """The artifacts of a build, the primary one first."""

    items: tuple[ArtifactSummary, ...]


@dataclass(frozen=True, slots=True)
class ArtifactMember:
    """A file in an artifact, with its size unpacked; `is_link` for a symbolic link."""

    name: str
    size: int
    is_link: bool


@dataclass(frozen=True, slots=True)
class MemberList:
    """Files of an artifact in the order they are in; ``next`` goes into ``after``, null at the end."""

    items: tuple[ArtifactMember, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class MemberQuery:
    """How many to leave out, and how many to list."""

    after: Annotated[int, Between(0, reading.MAX_MEMBERS)] = 0
    limit: Annotated[int, Between(1, 5000)] = 1000


class ArtifactViews:
    """The operations on artifacts."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. They belong to builds, and those to repositories: each operation looks there."""
        many, door = "/builds/<build_id>/artifacts", signed_in_api
        one = f"{many}/<artifact_identifier>"
        return (
            Route("GET", many, door, self.list_artifacts, answer=ArtifactList),
            Route("GET", one, door, self.download_artifact, media_type="application/zip"),
            Route("GET", f"{one}/members", door, self.list_members, query=MemberQuery, answer=MemberList),
        )

    def list_artifacts(self, build_id: str) -> ArtifactList:
        """The artifacts of a build."""
        with self._services.db.read() as session:
            readable_build(session, build_id, context.caller())
            rows = reading.of_build(session, build_id)
        return ArtifactList(tuple(_summary(row) for row in rows))

    def download_artifact(self, build_id: str, artifact_identifier: str) -> Response:
        """An artifact's zip, whole or one range of it; its ETag is made of its SHA-256."""
        with self._services.db.read() as session:
            readable_build(session, build_id, context.caller())
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

    def list_members(self, build_id: str, artifact_identifier: str, query: MemberQuery) -> MemberList:
        """The files in an artifact."""
        with self._services.db.read() as session:
            readable_build(session, build_id, context.caller())
            _, blob = reading.find(session, build_id, artifact_identifier)
        try:
            members = reading.members_of(self._services.stores, blob)
        except reading.Unreadable as error:
            raise Conflict(f"artifact {artifact_identifier} cannot be looked into: {error}") from error
        shown = members[query.after : query.after + query.limit]
        end = query.after + len(shown)
        items = tuple(ArtifactMember(member.name, member.size, member.is_link) for member in shown)
        return MemberList(items, end if end < len(members) else None)


def _summary(row: BuildArtifact) -> ArtifactSummary:
    return ArtifactSummary(
        row.identifier, row.name, row.packaging, row.files, row.size_bytes, row.sha256, row.md5, row.created_at
    )
