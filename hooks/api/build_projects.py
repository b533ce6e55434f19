"""Build projects: what they say, the credentials of their sources, and starting their builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.api.build_project_shapes import (
    CredentialQuery,
    NewBuild,
    NewCredential,
    PackageVersion,
    ProjectDetail,
    ProjectDocument,
    ProjectList,
    ProjectQuery,
    ProjectSummary,
    Upload,
    UploadQuery,
    Variable,
)
from hooks.api.builds import BuildDetail, detail
from hooks.builds.credentials import delete_credential, put_credential
from hooks.builds.git_fetch import GitCredential
from hooks.builds.project_rights import (
    check_manage,
    check_publishes,
    check_start,
    check_start_at,
    may_see,
    visible_project,
)
from hooks.builds.project_shown import as_document
from hooks.builds.projects import delete_project, get_project, list_projects, sources_of
from hooks.builds.records import Options
from hooks.builds.references import VariableType, stored_variable
from hooks.builds.source import PackageSource, SourceAsset
from hooks.builds.starting import Asked, place_of, start_project
from hooks.builds.uploads import MAX_BYTES, keep_upload
from hooks.models.build import BuildProject
from hooks.models.build_source import SourceCredential
from hooks.pipelines.build_project import parse_project
from hooks.services import HookServices
from hooks.triggers.collect import Coordinates, collect
from registry import audit
from registry.access import Identity
from registry.api import coordinates
from registry.api.routes import Route
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api
from registry.http.upload import counted_body
from registry.repos.topology import find_repository
from storage.errors import BodyRejected
from storage.intake import receive

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class BuildProjectViews:
    """The operations on build projects."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. A project belongs to a repository, so each operation looks at the project's own."""
        one, door, answer = "/build-projects/<project>", signed_in_api, ProjectDetail
        credential = f"{one}/source-credential"
        return (
            Route("GET", "/build-projects", door, self.list_build_projects, query=ProjectQuery, answer=ProjectList),
            Route("GET", one, door, self.show_build_project, answer=answer),
            Route("PUT", one, door, self.put_build_project, body=ProjectDocument, answer=answer),
            Route("DELETE", one, door, self.delete_build_project, status=204),
            Route(
                "PUT",
                credential,
                door,
                self.put_source_credential,
                body=NewCredential,
                answer=answer,
                holds_secrets=True,
            ),
            Route("DELETE", credential, door, self.delete_source_credential, query=CredentialQuery, status=204),
            Route(
                "POST",
                "/build-sources",
                door,
                self.upload_build_source,
                query=UploadQuery,
                answer=Upload,
                status=201,
                body_media_type="application/octet-stream",
            ),
            Route(
                "POST",
                f"{one}/builds",
                door,
                self.start_build,
                body=NewBuild,
                answer=BuildDetail,
                status=201,
                body_is_optional=True,
            ),
        )

    def list_build_projects(self, query: ProjectQuery) -> ProjectList:
        """The projects of repositories the caller may read, and those that belong to none."""
        caller = context.caller()
        with self._services.db.read() as session:
            # Sorted here, because databases sort letters each in their own way and the place is compared here.
            found = sorted(list_projects(session), key=lambda project: project.name)
            seen = [project for project in found if project.name > query.after and may_see(caller, project)]
            shown = tuple(ProjectSummary(**_facts(project)) for project in seen[: query.limit])
        return ProjectList(shown, shown[-1].name if len(seen) > len(shown) else None)

    def show_build_project(self, project: str) -> ProjectDetail:
        """A project. Its document is for those who may start it: they could have its variables printed."""
        with self._services.db.read() as session:
            found = visible_project(session, project, context.caller())
            check_start(context.caller(), found)
            return _detail(session, found)

    def put_build_project(self, project: str, body: ProjectDocument) -> ProjectDetail:
        """Create or update a project: all that the document says, or with a fault nothing.

        Needs `admin` on the domain of the repository it belongs to, before and after; on the server where it belongs to
        none. A source that is fetched from elsewhere now loses its credential.
        """
        caller, services = context.caller(), self._services
        declared = parse_project(body.document, project)
        if declared.name != project:
            raise Invalid(f"the document's name is {declared.name!r}, and it was sent to {project!r}")
        with services.db.write() as session:
            with suppress(NotFound):  # a new one: where it is going to be is what counts
                check_manage(caller, place_of(get_project(session, project)))
            check_manage(caller, declared.repository)
            now = services.clock()
            change = services.actions.apply_build_project(session, declared, now)
            if change != "unchanged":
                audit.record(session, now, caller.name, f"build_project.{change[:-1]}", f"build-project/{project}")
            saved = get_project(session, project)
            warnings = list(declared.warnings)
            kind = saved.environment["type"]
            if declared.environment_type not in {None, kind}:
                warnings.append(f"environment type {declared.environment_type} is carried out as {kind} here")
            return _detail(session, saved, change=change, warnings=warnings)

    def delete_build_project(self, project: str) -> None:
        """Delete a project with its credentials, uploads and hooks. Its builds stay. Needs what changing it needs."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            check_manage(caller, place_of(visible_project(session, project, caller)))
            now = services.clock()
            delete_project(session, project, now)
            audit.record(session, now, caller.name, "build_project.delete", f"build-project/{project}")

    def put_source_credential(self, project: str, body: NewCredential) -> ProjectDetail:
        """Give a git source the credential it is fetched with. It is sealed, and never told again.

        Needs what changing the project needs.
        """
        caller, services = context.caller(), self._services
        given = GitCredential(body.auth_type, body.username, body.token, body.known_hosts)
        sealer = services.stores.server_keyring()
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            now = services.clock()
            row = put_credential(session, sealer, found, body.source_identifier, given, now)
            about = {"source": row.identifier, "auth_type": row.auth_type}
            audit.record(session, now, caller.name, "build_project.credential", f"build-project/{project}", **about)
            return _detail(session, found)

    def delete_source_credential(self, project: str, query: CredentialQuery) -> None:
        """Forget a source's credential. Needs what changing the project needs."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            delete_credential(session, found, query.source_identifier)
            now, about = services.clock(), {"source": query.source_identifier}
            audit.record(
                session, now, caller.name, "build_project.forget_credential", f"build-project/{project}", **about
            )

    def upload_build_source(self, query: UploadQuery) -> Upload:
        """Send a zip to be built (at most 2 GiB); it is kept for a week.

        Needs the right to start the project's builds. The body is the zip itself.
        """
        caller, services, registry = context.caller(), self._services, context.services()
        with services.db.read() as session:
            project = visible_project(session, query.project, caller)
            check_start(caller, project)
            domain, _ = find_repository(session, *_place(project))
        limit_bytes = min(MAX_BYTES, registry.limits.upload_bytes)
        body = counted_body(limit_bytes)
        first = body.read(4)
        if first not in _ZIP:
            raise Invalid("send a zip file as the body")
        store = services.stores.of(domain.id)
        try:
            handle = receive(_Behind(first, body), store, limit_bytes=limit_bytes).handle
        except BodyRejected as error:
            raise Invalid(str(error)) from error
        with services.db.write() as session:
            project = get_project(session, query.project)
            now = services.clock()
            row, is_new = keep_upload(session, project, domain.id, handle, caller.name, now)
            about = {"sha256": row.sha256, "size_bytes": row.size_bytes}
            audit.record(session, now, caller.name, "build_project.upload", f"build-project/{project.name}", **about)
            answer = Upload(row.id, row.sha256, row.size_bytes, row.expires_at)
        if not is_new:
            store.delete(handle.locator)  # the domain has that body already
        return answer

    def start_build(self, project: str, body: NewBuild) -> BuildDetail:
        """Start a build of the project.

        Needs `read` and `publish` on the project's repository, or on that of the package version that is built: a build
        reads there, and what it does is what publishing does; and `publish` where the project publishes.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            asked = asked_for(session, caller, body)
            if asked.package is None:
                check_start(caller, found)
            else:
                check_publishes(caller, found)
            now = services.clock()
            build = start_project(session, project, asked, initiator=caller.name, now=now)
            audit.record(session, now, caller.name, "build.start", f"build/{build.id}", project=project)
            session.flush()
            return detail(session, build, project)


class _Behind:
    """A body of which the first bytes were read already."""

    def __init__(self, first: bytes, rest: Any) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        first, self._first = self._first, b""
        return first or bytes(self._rest.read(size))


def _place(project: BuildProject) -> tuple[str, str]:
    place = place_of(project)
    if place is None:
        raise Invalid(f"build project {project.name} belongs to no repository, and so takes no uploads")
    return place


def asked_for(session: Session, caller: Identity, body: NewBuild) -> Asked:
    """What a start asks for. Raises Invalid, and Denied for a package the caller may not build."""
    variables = _stored(body.environment_variables_override)
    return Asked(
        source_version=body.source_version,
        secondary_versions={
            each.source_identifier: each.source_version for each in body.secondary_sources_version_override
        },
        depth=body.git_clone_depth_override,
        upload=body.source_upload,
        package=_package(session, caller, body.package) if body.package is not None else None,
        variables=variables,
        options=Options(
            buildspec=body.buildspec_override,
            timeout_minutes=body.timeout_in_minutes_override,
            queued_timeout_minutes=body.queued_timeout_in_minutes_override,
            auto_retry_limit=body.auto_retry_limit_override,
            debug_session=body.debug_session_enabled,
            priority=body.priority,
            request_token=body.idempotency_token,
        ),
    )


def _package(session: Session, caller: Identity, named: PackageVersion) -> PackageSource:
    check_start_at(caller, (named.domain, named.repository))
    _, repository = find_repository(session, named.domain, named.repository)
    formats = context.services().formats
    at = coordinates.find(session, formats, repository.id, named.format, named.namespace, named.name, named.version)
    pinned = collect(session, Coordinates(named.domain, named.repository, *at)).version
    assets = tuple(SourceAsset(filename, sha256) for filename, sha256 in sorted(pinned.assets.items()))
    return PackageSource(
        pinned.domain, pinned.repository, pinned.format, pinned.name, pinned.version, assets, pinned.namespace
    )


def _stored(listed: Sequence[Variable]) -> Mapping[str, Any]:
    for variable in listed:
        if variable.type not in list(VariableType):
            raise Invalid(f"environment variable {variable.name!r}: type {variable.type!r} is none of CodeBuild's")
    found = {variable.name: stored_variable(variable.type, variable.value) for variable in listed}
    if len(found) != len(listed):
        raise Invalid("environmentVariablesOverride: a name is there twice")
    return found


def _facts(project: BuildProject) -> dict[str, Any]:
    place, primary = place_of(project), sources_of(project)[0]
    return {
        "name": project.name,
        "repository": "/".join(place) if place else None,
        "description": project.document.get("description", ""),
        "source_type": primary.type.value,
        "location": primary.location,
        "updated_at": project.updated_at,
    }


def _detail(
    session: Session, project: BuildProject, *, change: str = "", warnings: Sequence[str] = ()
) -> ProjectDetail:
    held = session.scalars(select(SourceCredential).where(SourceCredential.project_id == project.id))
    return ProjectDetail(
        **_facts(project),
        document=as_document(project),
        credentials={row.identifier: row.auth_type for row in held},
        created_at=project.created_at,
        change=change,
        warnings=tuple(warnings),
    )
