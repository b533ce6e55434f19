"""A deployment that somebody asks for, looked up and checked, and what somebody does to one: for the API and the pages.

In the caller's transaction. ``canonical`` says where a package version is, in canonical names, for who may read it there:
formats are known above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.deployments import engine, installed
from hooks.deployments.applications import find_group
from hooks.deployments.configs import chosen_config
from hooks.deployments.documents.request import ParsedRequest
from hooks.deployments.installed import PlannedTarget
from hooks.deployments.parts import Parts
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.revisions import PACKAGE, check_served, pin
from hooks.deployments.rights import check_deploy, check_revision, visible_application, visible_deployment
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from registry.access import Identity
from registry.errors import Invalid, InvalidDocument

Canonical = Callable[[Session, Identity, Mapping[str, Any], str], dict[str, str]]
"""(session, caller, a revision's package, the application's domain) → domain, format, namespace, name, version.

Raises Denied, NotFound, Invalid.
"""
Act = Callable[[Session, str, datetime], Deployment]
"""(session, actor, now) → the deployment to look at afterwards: one of the functions that steer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A CreateDeployment with all that was looked up and checked for it."""

    parsed: ParsedRequest
    application: DeploymentApplication
    group: DeploymentGroup
    revision: Mapping[str, Any]
    config_name: str
    config: Mapping[str, Any]


def look_up(
    session: Session, parts: Parts, caller: Identity, parsed: ParsedRequest, canonical: Canonical, now: datetime
) -> Wanted:
    """What is asked for, with its revision pinned. Raises NotFound, Denied, Invalid and RevisionRefused."""
    application = visible_application(session, parsed.application, caller)
    group = find_group(session, application, parsed.group)
    revision = _revision(session, caller, parsed, application, group, canonical, now)
    platform = installed.platform_of(parts, application)
    if faults := list(platform.check_revision(revision)):
        raise InvalidDocument("revision", faults)
    config_name, config = chosen_config(session, parsed.config_name, group.document, application.compute_platform)
    return Wanted(parsed, application, group, revision, config_name, config)


def _revision(
    session: Session,
    caller: Identity,
    parsed: ParsedRequest,
    application: DeploymentApplication,
    group: DeploymentGroup,
    canonical: Canonical,
    now: datetime,
) -> Mapping[str, Any]:
    if parsed.revision is None:
        good = installed.last_good(session, group)
        if good is None:
            raise Invalid("revision is missing, and the group has no earlier success to deploy again")
        check_revision(session, caller, good)
        check_served(session, good, application.id)
        return good
    wanted = parsed.revision
    if wanted["revisionType"] == PACKAGE:
        at = canonical(session, caller, wanted["package"], application.domain)
        wanted = {**wanted, "package": {**wanted["package"], **at}}
    else:
        check_revision(session, caller, wanted)
    return pin(session, wanted, application, now)


def create(
    session: Session, parts: Parts, caller: Identity, parsed: ParsedRequest, canonical: Canonical, now: datetime
) -> Deployment:
    """Make the deployment. Raises Denied for who may not deploy the application, else as ``look_up``, and Conflict."""
    check_deploy(caller, visible_application(session, parsed.application, caller).domain)
    wanted = look_up(session, parts, caller, parsed, canonical, now)
    row = engine.create(
        session,
        parts,
        DeploymentRequest(
            wanted.group.id,
            wanted.revision,
            caller.name,
            config_name=wanted.config_name,
            config=wanted.config,
            description=parsed.description,
            options=parsed.options,
            request_token=parsed.request_token,
        ),
        now,
    )
    session.flush()
    return row


def planned(session: Session, parts: Parts, wanted: Wanted) -> Sequence[PlannedTarget]:
    """Where it would go, in the order in which targets would be taken, and what they have now."""
    about = installed.facts_of(
        wanted.application,
        wanted.group,
        revision=wanted.revision,
        config=wanted.config,
        options=wanted.parsed.options,
    )
    return installed.planned_targets(session, wanted.group, installed.platform_of(parts, wanted.application), about)


def steer(
    session: Session,
    caller: Identity,
    deployment_id: str,
    act: Act,
    now: datetime,
    *,
    brings: Callable[[Deployment], Mapping[str, Any] | None] = lambda _row: None,
) -> Deployment:
    """Do something to a deployment that the caller may steer; ``brings`` is the revision that comes by it.

    Raises NotFound, Denied, RevisionRefused, and what ``act`` raises.
    """
    row, application = visible_deployment(session, deployment_id, caller)
    check_deploy(caller, application.domain)
    if (revision := brings(row)) is not None:
        check_revision(session, caller, revision)
        check_served(session, revision, application.id)
    done = act(session, caller.name, now)
    session.flush()
    return done
