"""Who may do what to deployments: an application belongs to a domain, whose policy says.

Seeing takes ``read``, deploying ``promote`` (and ``read`` where the revision comes from), changing applications and groups
``admin`` on the domain. Configurations are the server's, and its administrators'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.project_rights import may_open_build
from hooks.deployments.applications import find_application
from hooks.deployments.revisions import ARTIFACT, PACKAGE, SOURCE
from hooks.models.deployment import Deployment, DeploymentApplication
from registry.access import Action, Identity, check
from registry.errors import NotFound
from registry.names import PackageKey, PackageName

READ, CREATE, MANAGE = "entrepot:ReadDeployment", "entrepot:CreateDeployment", "entrepot:ManageDeployments"


def may_see(caller: Identity, domain: str) -> bool:
    """Whether a caller gets to know of a domain's applications."""
    return caller.may(Action.READ, permission=READ, domain=domain)


def may_deploy(caller: Identity, domain: str) -> bool:
    """Whether a caller may deploy a domain's applications, and steer what is being deployed."""
    return caller.may(Action.PROMOTE, permission=CREATE, domain=domain)


def may_manage(caller: Identity, domain: str) -> bool:
    """Whether a caller may make and change a domain's applications and groups."""
    return caller.may(Action.ADMIN, permission=MANAGE, domain=domain)


def check_deploy(caller: Identity, domain: str) -> None:
    """Raise Denied for who may not deploy a domain's applications."""
    check(caller, Action.PROMOTE, permission=CREATE, domain=domain)


def check_manage(caller: Identity, domain: str) -> None:
    """Raise Denied for who may not change a domain's applications; "" stands for the server."""
    check(caller, Action.ADMIN, permission=MANAGE, domain=domain)


def check_revision(session: Session, caller: Identity, revision: Mapping[str, Any]) -> None:
    """Raise Denied, or NotFound, for who may not read what a revision brings; its names are canonical."""
    if revision["revisionType"] == PACKAGE:
        package = revision["package"]
        key = PackageKey(package["format"], package["namespace"], PackageName(package["name"]))
        check(caller, Action.READ, f"{package['domain']}/{package['repository']}", key)
    elif revision["revisionType"] == ARTIFACT:
        build_id = revision["buildArtifact"]["buildId"]
        if not may_open_build(session, caller, build_id):
            raise NotFound("build", build_id)
    elif revision["revisionType"] == SOURCE:
        pinned = revision["source"]
        check(caller, Action.READ, f"{pinned['domain']}/{pinned['repository']}")


def visible_application(session: Session, name: str, caller: Identity) -> DeploymentApplication:
    """The application. Raises NotFound also when it is not for these eyes."""
    application = find_application(session, name)
    if not may_see(caller, application.domain):
        raise NotFound("application", name)
    return application


def visible_deployment(
    session: Session, deployment_id: str, caller: Identity
) -> tuple[Deployment, DeploymentApplication]:
    """A deployment with its application. Raises NotFound also when it is not for these eyes."""
    found = session.execute(
        select(Deployment, DeploymentApplication)
        .join(DeploymentApplication, DeploymentApplication.id == Deployment.application_id)
        .where(Deployment.id == deployment_id)
    ).one_or_none()
    if found is None or not may_see(caller, found[1].domain):
        raise NotFound("deployment", deployment_id)
    return found[0], found[1]
