"""Where a package version was deployed, since when and until when: from the rows of deployments and their targets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from hooks.deployments.ending import TO_ORIGINALS
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.revisions import digest_of_revision
from hooks.deployments.rights import may_see
from hooks.deployments.rows import BLUE
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
    version_key,
)
from hooks.visibility.life_shapes import LifeDeployment, LifeTarget
from registry.access import Identity

MOST_DEPLOYMENTS = 100
MOST_TARGETS = 50
_EXECUTION = re.compile(r"execution:([0-9]{1,9})\Z")


def execution_of(subject: str | None) -> int | None:
    """The number of the execution that something was made for, or whose work it is; None for what is not of one."""
    found = _EXECUTION.match(subject or "")
    return int(found[1]) if found else None


def deployments_of(session: Session, caller: Identity, package: Mapping[str, str]) -> tuple[list[LifeDeployment], bool]:
    """Deployments of a package version in applications that the caller may see, oldest first; and whether there are more.

    ``package`` has domain, format, namespace, name and version, canonical.
    It costs three queries, and reads at most ``MOST_TARGETS`` machines of each.
    """
    key = version_key(package)
    following = aliased(Deployment)
    replaced_by = (
        select(following.id)
        .where(
            following.group_id == Deployment.group_id,
            following.completed_at > Deployment.completed_at,
            following.status == DeploymentStatus.SUCCEEDED.value,
            _is_other(following.version_key, key),
        )
        .order_by(following.completed_at)
        .limit(1)
        .correlate(Deployment)
        .scalar_subquery()
    )
    replacing = aliased(Deployment)
    rows = session.execute(
        select(Deployment, DeploymentGroup.name, DeploymentApplication, replacing.id, replacing.completed_at)
        .join(DeploymentGroup, DeploymentGroup.id == Deployment.group_id)
        .join(DeploymentApplication, DeploymentApplication.id == Deployment.application_id)
        .outerjoin(replacing, replacing.id == replaced_by)
        .where(Deployment.version_key == key)
        .order_by(Deployment.created_at.desc(), Deployment.id)
        .limit(MOST_DEPLOYMENTS + 1)
    ).all()
    shown = [
        row
        for row in rows[:MOST_DEPLOYMENTS]
        # A blue/green rollback without an earlier release has brought nothing: its revision is the one it takes away.
        if may_see(caller, row[2].domain) and not row[0].details.get(TO_ORIGINALS)
    ]
    ids = [row[0].id for row in shown]
    targets, counts = _targets(session, ids, key), _counts(session, ids, key)
    found = [_deployment(*row, targets.get(row[0].id, []), counts.get(row[0].id, (0, 0))) for row in reversed(shown)]
    return found, len(rows) > MOST_DEPLOYMENTS


def _is_other(column: Any, key: str) -> ColumnElement[bool]:
    return or_(column.is_(None), column != key)


def _deployment(
    row: Deployment,
    group: str,
    application: DeploymentApplication,
    replaced_by: str | None,
    replaced_at: datetime | None,
    targets: Sequence[LifeTarget],
    counts: tuple[int, int],
) -> LifeDeployment:
    has_succeeded = row.status == DeploymentStatus.SUCCEEDED
    return LifeDeployment(
        row.id,
        application.name,
        group,
        row.status,
        row.error_message,
        row.rollback_of,
        row.rolled_back_by,
        digest_of_revision(row.revision),
        str(row.revision["package"]["repository"]),
        row.initiator,
        execution_of(row.subject),
        row.created_at,
        row.completed_at,
        row.completed_at if has_succeeded else None,
        replaced_at if has_succeeded else None,
        replaced_by if has_succeeded else None,
        tuple(targets),
        *counts,
    )


def _reached(ids: Sequence[str]) -> ColumnElement[bool]:
    """SQL for the machines that these deployments succeeded on; those that blue/green took out of the traffic are none."""
    return and_(
        DeploymentTarget.deployment_id.in_(ids),
        DeploymentTarget.status == TargetStatus.SUCCEEDED.value,
        DeploymentTarget.fleet != BLUE,
        DeploymentTarget.ended_at.is_not(None),
    )


def _counts(session: Session, ids: Sequence[str], key: str) -> dict[str, tuple[int, int]]:
    """Deployment → how many machines it succeeded on, and how many of those have the version now."""
    if not ids:
        return {}
    there = DeploymentInstallation
    rows = session.execute(
        select(DeploymentTarget.deployment_id, func.count(), func.count(there.target))
        .join(Deployment, Deployment.id == DeploymentTarget.deployment_id)
        .outerjoin(
            there,
            (there.group_id == Deployment.group_id)
            & (there.target == DeploymentTarget.name)
            & (there.version_key == key),
        )
        .where(_reached(ids))
        .group_by(DeploymentTarget.deployment_id)
    )
    return {deployment_id: (reached, has) for deployment_id, reached, has in rows}


def _targets(session: Session, ids: Sequence[str], key: str) -> dict[str, list[LifeTarget]]:
    """The first machines that these deployments succeeded on, each with when something else came to it."""
    if not ids:
        return {}
    later, after = aliased(Deployment), aliased(DeploymentTarget)
    until = (
        select(after.ended_at)
        .join(later, later.id == after.deployment_id)
        .where(
            later.group_id == Deployment.group_id,
            later.created_at > Deployment.created_at,
            after.name == DeploymentTarget.name,
            after.status == TargetStatus.SUCCEEDED.value,
            _is_other(later.version_key, key),
        )
        .order_by(later.created_at)
        .limit(1)
        .correlate(Deployment, DeploymentTarget)
        .scalar_subquery()
    )
    there, target = DeploymentInstallation, DeploymentTarget
    place = func.row_number().over(partition_by=target.deployment_id, order_by=(target.position, target.id))
    numbered = select(target.id, place.label("place")).where(_reached(ids)).subquery()
    rows = session.execute(
        select(DeploymentTarget.deployment_id, DeploymentTarget.name, DeploymentTarget.ended_at, until, there)
        .join(numbered, (numbered.c.id == target.id) & (numbered.c.place <= MOST_TARGETS))
        .join(Deployment, Deployment.id == DeploymentTarget.deployment_id)
        .outerjoin(there, (there.group_id == Deployment.group_id) & (there.target == DeploymentTarget.name))
        .order_by(DeploymentTarget.deployment_id, DeploymentTarget.position, DeploymentTarget.id)
    )
    found: dict[str, list[LifeTarget]] = {}
    for deployment_id, name, since, replaced_at, row in rows:
        if since is not None:
            found.setdefault(deployment_id, []).append(_target(name, since, replaced_at, row, key))
    return found


def _target(
    name: str, since: datetime, replaced_at: datetime | None, there: DeploymentInstallation | None, key: str
) -> LifeTarget:
    if there is not None and there.version_key == key:
        return LifeTarget(name, since, None, is_there=True, is_healthy=there.is_healthy)
    if replaced_at is None and there is not None and there.installed_at > since:
        replaced_at = there.installed_at
    return LifeTarget(name, since, replaced_at, is_there=False, is_healthy=None)
