"""Applications and their deployment groups as rows: made, changed, deleted and listed, in the caller's transaction."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.deployments import configs
from hooks.deployments.documents.config import PLATFORMS
from hooks.deployments.documents.group import ParsedGroup
from hooks.deployments.documents.values import NAME
from hooks.deployments.platform import DeploymentPlatform
from hooks.deployments.rows import lock_group
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentUpload,
)
from registry import audit, events
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from registry.models import Domain

MOST_APPLICATIONS = 1000
MOST_GROUPS = 1000
"""CodeDeploy's limits: of applications, and of the groups of one."""

_APPLICATION, _GROUP = "-/application", "-/application/-/deployment_group"
for _word in ("create", "rename", "delete"):
    events.audited(
        f"application.{_word}", f"application.{_word}d", _APPLICATION, "domain", tells=f"An application was {_word}d."
    )
for _word, _past in (("create", "created"), ("update", "changed"), ("delete", "deleted")):
    events.audited(
        f"deployment_group.{_word}",
        f"deployment-group.{_past}",
        _GROUP,
        "domain",
        tells=f"A deployment group was {_past}.",
    )


# --- applications ----------------------------------------------------------------------------------------------------


def create_application(
    session: Session, name: str, domain: str, platform: str, *, platforms: Collection[str], actor: str, now: datetime
) -> DeploymentApplication:
    """Make an application. ``platforms`` are those this server has.

    Raises Invalid, NotFound for an unknown domain, Conflict for a name that is taken, or one too many.
    """
    _check_name("application", name)
    if platform not in platforms:
        known = ", ".join(each for each in PLATFORMS if each in platforms)
        raise Invalid(f"computePlatform {platform[:40]!r} is not carried out here; this server has {known}")
    if session.scalar(select(Domain.id).where(Domain.name == domain)) is None:
        raise NotFound("domain", domain)
    living = session.scalars(_applications().with_only_columns(DeploymentApplication.name)).all()
    if name in living:
        raise Conflict(f"an application is called {name} already")
    if len(living) >= MOST_APPLICATIONS:
        raise Conflict(f"there are {MOST_APPLICATIONS} applications already; delete those that nobody needs")
    row = DeploymentApplication(
        name=name, domain=domain, compute_platform=platform, created_by=actor, created_at=now, updated_at=now
    )
    session.add(row)
    _settle(session, f"an application is called {name} already")
    audit.record(session, now, actor, "application.create", f"application/{name}", domain=domain, platform=platform)
    return row


def rename_application(
    session: Session, row: DeploymentApplication, name: str, *, actor: str, now: datetime
) -> DeploymentApplication:
    """Give an application another name. Raises Invalid, and Conflict for a name that is taken."""
    _check_name("application", name)
    if name == row.name:
        return row
    if session.scalar(_applications().where(DeploymentApplication.name == name)) is not None:
        raise Conflict(f"an application is called {name} already")
    before, row.name, row.updated_at = row.name, name, now
    _settle(session, f"an application is called {name} already")
    audit.record(session, now, actor, "application.rename", f"application/{name}", domain=row.domain, before=before)
    return row


def delete_application(session: Session, row: DeploymentApplication, *, actor: str, now: datetime) -> None:
    """Delete an application with its groups and uploads. Its deployments stay as a record.

    Raises Conflict while one of them goes on.
    """
    for group in list_groups(session, row):
        delete_group(session, row, group, actor=actor, now=now)
    session.execute(delete(DeploymentUpload).where(DeploymentUpload.application_id == row.id))
    row.deleted_at = row.updated_at = now
    session.flush()
    audit.record(session, now, actor, "application.delete", f"application/{row.name}", domain=row.domain)


def find_application(session: Session, name: str) -> DeploymentApplication:
    """The application of that name. Raises NotFound."""
    row = session.scalar(_applications().where(DeploymentApplication.name == name))
    if row is None:
        raise NotFound("application", name)
    return row


def list_applications(session: Session) -> Sequence[DeploymentApplication]:
    """All applications by name."""
    # Sorted here, because databases sort letters each in their own way and the place is compared by who pages.
    return sorted(session.scalars(_applications()).all(), key=lambda row: row.name)


def _applications() -> Select[DeploymentApplication]:
    return select(DeploymentApplication).where(DeploymentApplication.deleted_at.is_(None))


# --- groups ----------------------------------------------------------------------------------------------------------


def put_group(
    session: Session,
    application: DeploymentApplication,
    name: str,
    parsed: ParsedGroup,
    platform: DeploymentPlatform,
    *,
    etag: str | None,
    actor: str,
    now: datetime,
) -> tuple[DeploymentGroup, str]:
    """Make a group, or give one that is there another document; and ``created``, ``updated`` or ``unchanged``.

    With ``etag`` it has to be the one of what is there ("": nothing is). Deployments that were made keep the document they
    were made with. Raises InvalidDocument, and Conflict when somebody else has changed it.
    """
    _check_name("deployment group", name)
    document = dict(parsed.document)
    faults = list(platform.check_group(document))
    if parsed.application not in {"", application.name} or parsed.name not in {"", name}:
        faults.append(
            f"the document is of {parsed.application}/{parsed.name}, and was sent to {application.name}/{name}"
        )
    if config := document.get("deploymentConfigName"):
        faults += configs.config_faults(session, config, application.compute_platform)
    if faults:
        raise InvalidDocument(f"deployment group {name}", faults)
    row = session.scalar(_groups(application).where(DeploymentGroup.name == name).with_for_update())
    if etag is not None and etag != (etag_of(row) if row is not None else ""):
        raise Conflict(f"deployment group {name} was changed meanwhile; look at it again")
    if row is not None and row.document == document:
        return row, "unchanged"
    change = "updated"
    if row is None:
        change = "created"
        if len(list_groups(session, application)) >= MOST_GROUPS:
            raise Conflict(f"application {application.name} has {MOST_GROUPS} groups already")
        row = DeploymentGroup(
            id=uuid.uuid4().hex, application_id=application.id, name=name, created_by=actor, created_at=now
        )
        session.add(row)
    row.document, row.updated_at = document, now
    _settle(session, f"deployment group {name} was made meanwhile; look at it again")
    path = f"application/{application.name}/group/{name}"
    audit.record(session, now, actor, f"deployment_group.{change[:-1]}", path, domain=application.domain)
    return row, change


def delete_group(
    session: Session, application: DeploymentApplication, row: DeploymentGroup, *, actor: str, now: datetime
) -> None:
    """Delete a group. Its deployments stay as a record, and what it has put on machines stays there.

    Raises Conflict while one of them goes on.
    """
    lock_group(session, row.id)
    waiting = select(Deployment.id).where(Deployment.group_id == row.id, Deployment.completed_at.is_(None)).limit(1)
    if (deployment := session.scalar(waiting)) is not None:
        raise Conflict(f"deployment {deployment} of group {row.name} goes on; stop it first")
    session.execute(delete(DeploymentInstallation).where(DeploymentInstallation.group_id == row.id))
    row.deleted_at = row.updated_at = now
    session.flush()
    path = f"application/{application.name}/group/{row.name}"
    audit.record(session, now, actor, "deployment_group.delete", path, domain=application.domain)


def find_group(session: Session, application: DeploymentApplication, name: str) -> DeploymentGroup:
    """The group of that name. Raises NotFound."""
    row = session.scalar(_groups(application).where(DeploymentGroup.name == name))
    if row is None:
        raise NotFound("deployment group", name)
    return row


def list_groups(session: Session, application: DeploymentApplication) -> Sequence[DeploymentGroup]:
    """The groups of an application by name."""
    return sorted(session.scalars(_groups(application)).all(), key=lambda row: row.name)


def etag_of(row: DeploymentGroup) -> str:
    """A text that changes with the group's document: whoever changes it says which one they have looked at."""
    return hashlib.sha256(_canonical(row.document)).hexdigest()[:32]


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _groups(application: DeploymentApplication) -> Select[DeploymentGroup]:
    living = DeploymentGroup.deleted_at.is_(None)
    return select(DeploymentGroup).where(DeploymentGroup.application_id == application.id, living)


def _settle(session: Session, taken: str) -> None:
    """Flush. Raises Conflict where somebody else was quicker: the database's unique names decide."""
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(taken) from error


def _check_name(what: str, name: str) -> None:
    if not NAME.match(name):
        raise Invalid(f"{what} {name[:120]!r}: a name has 1 to 100 letters, digits and . _ + = , @ -")
