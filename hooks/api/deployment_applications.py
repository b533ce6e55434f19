"""Applications of deployments, their groups and uploads, and the server's deployment configurations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.api.deployment_shapes import (
    Application,
    ApplicationChange,
    ApplicationList,
    Config,
    ConfigDocument,
    ConfigList,
    DeploymentGroupDetail,
    DeploymentGroupList,
    DeploymentGroupSummary,
    GroupDocument,
    InstalledList,
    LastDeployment,
    NameQuery,
    NewApplication,
    UploadedBundle,
)
from hooks.deployments import applications, configs
from hooks.deployments.documents.config import DEFAULTS, parse_config
from hooks.deployments.documents.group import parse_group
from hooks.deployments.ending import TO_ORIGINALS, last_good
from hooks.deployments.installed import installed_targets, platform_of
from hooks.deployments.revisions import version_of
from hooks.deployments.rights import check_deploy, check_manage, may_see, visible_application
from hooks.deployments.uploads import MAX_BYTES, keep_upload
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api
from registry.http.upload import CountedBody, counted_body
from registry.models import Domain
from storage.errors import BodyRejected
from storage.intake import receive

_HEAD_BYTES = 512
_GZIP, _ZIP, _USTAR, _USTAR_AT = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06"), b"ustar", 257


class DeploymentApplicationViews:
    """The operations on applications, groups, uploads and configurations."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. An application belongs to a domain, so each operation looks at the application's own."""
        many, door = "/deployment-applications", signed_in_api
        one = f"{many}/<application>"
        groups, group = f"{one}/groups", f"{one}/groups/<group>"
        bundle = "application/octet-stream"
        answer: Any = Application
        return (
            Route("GET", many, door, self.list_applications, query=NameQuery, answer=ApplicationList),
            Route("POST", many, door, self.create_application, body=NewApplication, answer=answer, status=201),
            Route("GET", one, door, self.show_application, answer=answer),
            Route("PATCH", one, door, self.update_application, body=ApplicationChange, answer=answer),
            Route("DELETE", one, door, self.delete_application, status=204),
            Route("POST", f"{one}/uploads", door, self.upload_bundle, answer=UploadedBundle, status=201,
                  body_media_type=bundle),
            Route("GET", groups, door, self.list_deployment_groups, query=NameQuery, answer=DeploymentGroupList),
            Route("GET", group, door, self.show_deployment_group, answer=DeploymentGroupDetail),
            Route("PUT", group, door, self.put_deployment_group, body=GroupDocument, answer=DeploymentGroupDetail),
            Route("DELETE", group, door, self.delete_deployment_group, status=204),
            Route("GET", f"{group}/targets", door, self.list_installed_targets, answer=InstalledList),
            Route("GET", "/deployment-configs", door, self.list_deployment_configs, answer=ConfigList),
            Route("POST", "/deployment-configs", door, self.create_deployment_config, body=ConfigDocument,
                  answer=Config, status=201),
            Route("GET", "/deployment-configs/<config>", door, self.show_deployment_config, answer=Config),
            Route("DELETE", "/deployment-configs/<config>", door, self.delete_deployment_config, status=204),
        )  # fmt: skip

    # --- applications

    def list_applications(self, query: NameQuery) -> ApplicationList:
        """Applications of domains that the caller may read (ListApplications)."""
        caller = context.caller()
        with self._services.db.read() as session:
            found = applications.list_applications(session)
            seen = [row for row in found if row.name > query.after and may_see(caller, row.domain)]
            shown = tuple(_application(session, row) for row in seen[: query.limit])
        return ApplicationList(shown, shown[-1].application_name if len(seen) > len(shown) else None)

    def create_application(self, body: NewApplication) -> Application:
        """Make an application (CreateApplication). Needs `entrepot:ManageDeployments` on the domain."""
        caller, services = context.caller(), self._services
        check_manage(caller, body.domain)
        with services.db.write() as session:
            row = applications.create_application(
                session,
                body.application_name,
                body.domain,
                body.compute_platform,
                platforms=services.deployments.platforms,
                actor=caller.name,
                now=services.clock(),
            )
            return _application(session, row)

    def show_application(self, application: str) -> Application:
        """An application (GetApplication)."""
        with self._services.db.read() as session:
            return _application(session, visible_application(session, application, context.caller()))

    def update_application(self, application: str, body: ApplicationChange) -> Application:
        """Give an application another name (UpdateApplication). Needs what making one needs."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            row = visible_application(session, application, caller)
            check_manage(caller, row.domain)
            now, name = services.clock(), body.new_application_name
            return _application(
                session, applications.rename_application(session, row, name, actor=caller.name, now=now)
            )

    def delete_application(self, application: str) -> None:
        """Delete an application with its groups and uploads (DeleteApplication). Its deployments stay as a record."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            row = visible_application(session, application, caller)
            check_manage(caller, row.domain)
            applications.delete_application(session, row, actor=caller.name, now=services.clock())

    def upload_bundle(self, application: str) -> UploadedBundle:
        """Send a bundle (a tar, tgz or zip of at most 2 GiB) to be deployed; kept for a week, and while it is deployed.

        The body is the bundle itself. Needs the right to deploy the application.
        """
        caller, services, registry = context.caller(), self._services, context.services()
        with services.db.read() as session:
            row = visible_application(session, application, caller)
            check_deploy(caller, row.domain)
            domain_id = _domain_id(session, row.domain)
        limit_bytes = min(MAX_BYTES, registry.limits.upload_bytes)
        body = counted_body(limit_bytes)
        head = _head(body)
        kind = _kind(head)
        store = services.stores.of(domain_id)
        try:
            handle = receive(_Behind(head, body), store, limit_bytes=limit_bytes).handle
        except BodyRejected as error:
            raise Invalid(str(error)) from error
        with services.db.write() as session:
            row = visible_application(session, application, caller)
            now = services.clock()
            upload, is_new = keep_upload(session, row, domain_id, handle, kind, caller.name, now)
            about = {"sha256": upload.sha256, "size_bytes": upload.size_bytes}
            audit.record(session, now, caller.name, "application.upload", f"application/{row.name}", **about)
            answer = UploadedBundle(upload.id, upload.sha256, upload.size_bytes, upload.bundle_type, upload.expires_at)
        if not is_new:
            store.delete(handle.locator)  # the domain has that body already
        return answer

    # --- groups

    def list_deployment_groups(self, application: str, query: NameQuery) -> DeploymentGroupList:
        """The groups of an application (ListDeploymentGroups)."""
        with self._services.db.read() as session:
            row = visible_application(session, application, context.caller())
            found = [each for each in applications.list_groups(session, row) if each.name > query.after]
            shown = tuple(DeploymentGroupSummary(**_facts(session, row, each)) for each in found[: query.limit])
        return DeploymentGroupList(shown, shown[-1].deployment_group_name if len(found) > len(shown) else None)

    def show_deployment_group(self, application: str, group: str) -> DeploymentGroupDetail:
        """A group with its document (GetDeploymentGroup)."""
        with self._services.db.read() as session:
            row = visible_application(session, application, context.caller())
            return _detail(session, row, applications.find_group(session, row, group))

    def put_deployment_group(self, application: str, group: str, body: GroupDocument) -> DeploymentGroupDetail:
        """Make a group, or give it another document (Create-, UpdateDeploymentGroup): all that it says, or nothing.

        Needs `entrepot:ManageDeployments` on the application's domain.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            row = visible_application(session, application, caller)
            check_manage(caller, row.domain)
            parsed = parse_group(body.document)
            saved, change = applications.put_group(
                session,
                row,
                group,
                parsed,
                platform_of(services.deployments, row),
                etag=body.etag,
                actor=caller.name,
                now=services.clock(),
            )
            return _detail(session, row, saved, change=change, warnings=parsed.warnings)

    def delete_deployment_group(self, application: str, group: str) -> None:
        """Delete a group (DeleteDeploymentGroup); what it has put on machines stays there. Needs what making one needs."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            row = visible_application(session, application, caller)
            check_manage(caller, row.domain)
            found = applications.find_group(session, row, group)
            applications.delete_group(session, row, found, actor=caller.name, now=services.clock())

    def list_installed_targets(self, application: str, group: str) -> InstalledList:
        """The targets of a group: which version each has, whether it is healthy, and whether files were changed there."""
        services = self._services
        with services.db.read() as session:
            row = visible_application(session, application, context.caller())
            found = applications.find_group(session, row, group)
            platform = platform_of(services.deployments, row)
            return InstalledList(tuple(installed_targets(session, row, found, platform)), None)

    # --- configurations

    def list_deployment_configs(self) -> ConfigList:
        """All configurations (ListDeploymentConfigs), CodeDeploy's own among them."""
        with self._services.db.read() as session:
            return ConfigList(tuple(_config(*each) for each in configs.list_configs(session)), None)

    def create_deployment_config(self, body: ConfigDocument) -> Config:
        """Make a configuration (CreateDeploymentConfig); it never changes. Needs the server's administrator."""
        caller, services = context.caller(), self._services
        check_manage(caller, "")
        parsed = parse_config(body.document)
        with services.db.write() as session:
            row = configs.create_config(session, parsed, actor=caller.name, now=services.clock())
            return _config(row.name, row.document, row)

    def show_deployment_config(self, config: str) -> Config:
        """A configuration (GetDeploymentConfig)."""
        with self._services.db.read() as session:
            for each in configs.list_configs(session):
                if each[0] == config:
                    return _config(*each)
        raise NotFound("deployment configuration", config)

    def delete_deployment_config(self, config: str) -> None:
        """Delete a configuration that no group names (DeleteDeploymentConfig). Needs the server's administrator."""
        caller, services = context.caller(), self._services
        check_manage(caller, "")
        with services.db.write() as session:
            configs.delete_config(session, config, actor=caller.name, now=services.clock())


class _Behind:
    """A body of which the first bytes were read already."""

    def __init__(self, head: bytes, rest: CountedBody) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        head, self._head = self._head, b""
        return head or self._rest.read(size)


def _head(body: CountedBody) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (piece := body.read(_HEAD_BYTES - len(head))):
        head += piece
    return head


def _kind(head: bytes) -> str:
    if head.startswith(_ZIP):
        return "zip"
    if head.startswith(_GZIP):
        return "tgz"
    if head[_USTAR_AT:].startswith(_USTAR):
        return "tar"
    raise Invalid("send a bundle as the body: a tar, tgz or zip file")


def _domain_id(session: Session, name: str) -> int:
    found = session.scalar(select(Domain.id).where(Domain.name == name))
    if found is None:
        raise NotFound("domain", name)
    return found


def _application(session: Session, row: DeploymentApplication) -> Application:
    groups = tuple(group.name for group in applications.list_groups(session, row))
    return Application(
        row.name, row.domain, row.compute_platform, groups, row.created_by, row.created_at, row.updated_at
    )


def _facts(session: Session, application: DeploymentApplication, row: DeploymentGroup) -> dict[str, Any]:
    return {
        "application_name": application.name,
        "deployment_group_id": row.id,
        "deployment_group_name": row.name,
        "compute_platform": application.compute_platform,
        "deployment_config_name": row.document.get("deploymentConfigName", DEFAULTS[application.compute_platform]),
        "last_successful_deployment": _last(session, row.last_successful_id),
        "last_attempted_deployment": _last(session, row.last_attempted_id),
        "updated_at": row.updated_at,
    }


def _last(session: Session, deployment_id: str | None) -> LastDeployment | None:
    row = session.get(Deployment, deployment_id) if deployment_id is not None else None
    if row is None:
        return None
    version = "" if row.details.get(TO_ORIGINALS) else version_of(row.revision)
    return LastDeployment(row.id, row.status, version, row.created_at, row.completed_at)


def _detail(
    session: Session,
    application: DeploymentApplication,
    row: DeploymentGroup,
    *,
    change: str = "",
    warnings: tuple[str, ...] = (),
) -> DeploymentGroupDetail:
    return DeploymentGroupDetail(
        **_facts(session, application, row),
        document=row.document,
        etag=applications.etag_of(row),
        target_revision=last_good(session, row),
        created_by=row.created_by,
        create_time=row.created_at,
        change=change,
        warnings=warnings,
    )


def _config(name: str, document: Any, row: Any) -> Config:
    platform = document["computePlatform"]
    if row is None:
        return Config(name, platform, document, "", None)
    return Config(name, platform, document, row.created_by, row.created_at)
