"""Which version is where: applications with their groups, what goes on there, and where a package version is installed.

A page of it costs the same few queries however many groups there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from hooks.deployments.applications import list_applications
from hooks.deployments.documents.config import DEFAULTS
from hooks.deployments.ending import TO_ORIGINALS
from hooks.deployments.revisions import digest_of_revision, label, version_of
from hooks.deployments.rights import may_deploy, may_see
from hooks.deployments.views import DeploymentSummary, summaries
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    version_key,
)
from registry.access import Identity

MOST_GROUPS = 24
"""So many groups of an application are shown beside others; its own page has all of them."""
MOST_PLACES = 100
"""So many groups in which a version is are told."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the targets of a group are like: how many have anything, how many of them are unwell or were changed by hand."""

    targets: int = 0
    unhealthy: int = 0
    drifted: int = 0


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group with what is there. ``good`` is the last success, whose version is there; ``last`` the last attempt.

    ``going`` are those that go on or wait, the one that goes on first. ``good`` and ``last`` are None where there was none,
    or it is not kept any more.
    """

    id: str
    name: str
    config_name: str
    good: DeploymentSummary | None
    last: DeploymentSummary | None
    going: tuple[DeploymentSummary, ...]
    fleet: Fleet

    @property
    def is_behind(self) -> bool:
        """Whether the last attempt brought something else, and did not succeed."""
        return self.last is not None and self.last.complete and self.last.status != "Succeeded"


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """An application with its groups by name; ``more`` is how many are not among them."""

    id: int
    name: str
    domain: str
    compute_platform: str
    created_by: str
    created_at: datetime
    may_deploy: bool
    groups: tuple[GroupState, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class DeployedRevision:
    """A revision that an application's deployments have brought, newest first. ``groups`` are those it succeeded in."""

    deployment_id: str
    label: str
    version: str
    created_at: datetime
    initiator: str
    groups: tuple[str, ...]
    revision: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A group in which a package version is installed now: on so many targets, of which some are named."""

    application: str
    group: str
    repository: str
    deployment_id: str
    targets: int
    unhealthy: int
    names: tuple[str, ...]
    since: datetime


# --- applications and groups -----------------------------------------------------------------------------------------


def seen_applications(
    session: Session, caller: Identity, *, after: str = "", limit: int
) -> tuple[list[DeploymentApplication], str | None]:
    """Applications that the caller may see, by name, from ``after`` on; and where to go on, None at the end."""
    rows = list_applications(session)
    sees = {domain: may_see(caller, domain) for domain in {row.domain for row in rows}}
    found = [row for row in rows if row.name > after and sees[row.domain]]
    return found[:limit], found[limit - 1].name if len(found) > limit else None


def states(
    session: Session, rows: Sequence[DeploymentApplication], caller: Identity, *, most: int = MOST_GROUPS
) -> list[ApplicationState]:
    """These applications with the first ``most`` of their groups."""
    groups, counts = _groups(session, [row.id for row in rows], most)
    told = summaries(session, rows_of(session, groups))
    of_groups = group_states(
        groups, {row.id: row.compute_platform for row in rows}, told, fleets(session, [each.id for each in groups])
    )
    found: dict[int, list[GroupState]] = {}
    for group in groups:
        found.setdefault(group.application_id, []).append(of_groups[group.id])
    return [_application(row, caller, found.get(row.id, []), counts.get(row.id, 0)) for row in rows]


def _application(
    row: DeploymentApplication, caller: Identity, groups: Sequence[GroupState], count: int
) -> ApplicationState:
    return ApplicationState(
        row.id,
        row.name,
        row.domain,
        row.compute_platform,
        row.created_by,
        row.created_at,
        may_deploy(caller, row.domain),
        tuple(sorted(groups, key=lambda each: each.name)),
        max(0, count - len(groups)),
    )


def _groups(session: Session, ids: Collection[int], most: int) -> tuple[Sequence[DeploymentGroup], dict[int, int]]:
    """The first groups of each application, and how many it has."""
    if not ids:
        return (), {}
    mine = DeploymentGroup.application_id.in_(ids) & DeploymentGroup.deleted_at.is_(None)
    each = DeploymentGroup.application_id
    numbered = (
        select(
            DeploymentGroup.id,
            func.row_number().over(partition_by=each, order_by=DeploymentGroup.name).label("number"),
            func.count().over(partition_by=each).label("count"),
        )
        .where(mine)
        .subquery()
    )
    statement = select(DeploymentGroup, numbered.c.count).join(numbered, numbered.c.id == DeploymentGroup.id)
    found = session.execute(statement.where(numbered.c.number <= most)).all()
    return [row for row, _ in found], {row.application_id: count for row, count in found}


def rows_of(session: Session, groups: Sequence[DeploymentGroup]) -> list[Deployment]:
    """The deployments that say what is in these groups: the last success, the last attempt, and what has not ended."""
    kept = {each for group in groups for each in (group.last_successful_id, group.last_attempted_id) if each}
    is_open = Deployment.group_id.in_([group.id for group in groups]) & Deployment.completed_at.is_(None)
    return list(session.scalars(select(Deployment).where(Deployment.id.in_(kept) | is_open))) if groups else []


def group_states(
    groups: Sequence[DeploymentGroup],
    platforms: Mapping[int, str],
    told: Collection[DeploymentSummary],
    fleets: Mapping[str, Fleet],
) -> dict[str, GroupState]:
    """What is in these groups, by their ids: ``told`` are the ``rows_of`` them, and perhaps more. Pure.

    ``platforms`` are those of their applications.
    """
    known = {each.deployment_id: each for each in told}
    going: dict[str, list[DeploymentSummary]] = {}
    for each in sorted(told, key=lambda each: (each.start_time is None, each.create_time)):
        if not each.complete:
            going.setdefault(each.deployment_group_id, []).append(each)
    return {
        group.id: GroupState(
            group.id,
            group.name,
            group.document.get("deploymentConfigName") or DEFAULTS[platforms[group.application_id]],
            known.get(group.last_successful_id or ""),
            known.get(group.last_attempted_id or ""),
            tuple(going.get(group.id, ())),
            fleets.get(group.id, Fleet()),
        )
        for group in groups
    }


def fleets(session: Session, ids: Collection[str]) -> dict[str, Fleet]:
    """What the targets of these groups are like, by the groups' ids: counted by the database."""
    if not ids:
        return {}
    row = DeploymentInstallation
    rows = session.execute(
        select(
            row.group_id,
            func.count(),
            func.count(case((row.is_healthy.is_(False), 1))),
            func.count(case((_has_drifted(), 1))),
        )
        .where(row.group_id.in_(ids))
        .group_by(row.group_id)
    )
    return {group_id: Fleet(*counts) for group_id, *counts in rows}


def _has_drifted() -> ColumnElement[bool]:
    """SQL for an installation of which the agent has seen something else: another deployment's, or changed files."""
    found = DeploymentInstallation.found
    changed = func.coalesce(found["changedCount"].as_integer(), 0) + func.coalesce(
        found["missingCount"].as_integer(), 0
    )
    seen = found["deploymentId"].as_string()
    is_other = or_(seen.is_(None), seen != DeploymentInstallation.deployment_id)
    # Where nobody has looked yet the column is JSON's null, or the database's.
    return and_(DeploymentInstallation.found_at.is_not(None), or_(changed > 0, is_other))


# --- revisions -------------------------------------------------------------------------------------------------------


def recent_revisions(rows: Iterable[Deployment], group_names: Mapping[str, str]) -> list[DeployedRevision]:
    """What these deployments (the newest first) have brought, each revision once. Pure."""
    found: dict[str, tuple[Deployment, list[str]]] = {}
    for row in rows:
        if row.details.get(TO_ORIGINALS):
            continue  # it has brought nothing: its revision is the one that it has taken away
        _, groups = found.setdefault(digest_of_revision(row.revision), (row, []))
        name = group_names.get(row.group_id)
        if row.status == "Succeeded" and name is not None and name not in groups:
            groups.append(name)
    return [
        DeployedRevision(
            row.id,
            label(row.revision),
            version_of(row.revision),
            row.created_at,
            row.initiator,
            tuple(sorted(groups)),
            row.revision,
        )
        for row, groups in found.values()
    ]


# --- where a version is ----------------------------------------------------------------------------------------------


def places_of(
    session: Session, caller: Identity, *, domain: str, format_name: str, namespace: str, name: str, version: str
) -> list[Place]:
    """Where a package version of a domain is installed now, in applications that the caller may see: two queries."""
    key = version_key(
        {"domain": domain, "format": format_name, "namespace": namespace, "name": name, "version": version}
    )
    row = DeploymentInstallation
    counted = session.execute(
        select(
            row.group_id,
            DeploymentGroup.name,
            DeploymentApplication.name,
            DeploymentApplication.domain,
            func.count(),
            func.count(case((row.is_healthy.is_(False), 1))),
        )
        .join(DeploymentGroup, DeploymentGroup.id == row.group_id)
        .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
        .where(row.version_key == key)
        .group_by(row.group_id, DeploymentGroup.name, DeploymentApplication.name, DeploymentApplication.domain)
        .order_by(DeploymentApplication.name, DeploymentGroup.name)
    ).all()
    sees = {each: may_see(caller, each) for each in {found.domain for found in counted}}
    shown = [each for each in counted if sees[each.domain]][:MOST_PLACES]
    named = _named(session, [each.group_id for each in shown], key)
    return [
        _place(application, group, targets, unhealthy, named[group_id])
        for group_id, group, application, _, targets, unhealthy in shown
        if group_id in named
    ]


def _named(session: Session, groups: Collection[str], key: str) -> dict[str, list[DeploymentInstallation]]:
    """Of each group the target that got the version last, and the first few by name."""
    if not groups:
        return {}
    row = DeploymentInstallation
    last = func.row_number().over(partition_by=row.group_id, order_by=(row.installed_at.desc(), row.target))
    by_name = func.row_number().over(partition_by=row.group_id, order_by=row.target)
    numbered = (
        select(row.group_id, row.target, last.label("last"), by_name.label("by_name"))
        .where(row.version_key == key, row.group_id.in_(groups))
        .subquery()
    )
    found: dict[str, list[DeploymentInstallation]] = {}
    for each in session.scalars(
        select(row)
        .join(numbered, (numbered.c.group_id == row.group_id) & (numbered.c.target == row.target))
        .where((numbered.c.last == 1) | (numbered.c.by_name <= NAMED))
        .order_by(row.group_id, row.target)
    ):
        found.setdefault(each.group_id, []).append(each)
    return found


def _place(application: str, group: str, targets: int, unhealthy: int, rows: Sequence[DeploymentInstallation]) -> Place:
    newest = max(rows, key=lambda row: row.installed_at)
    return Place(
        application,
        group,
        str(newest.revision["package"]["repository"]),
        newest.deployment_id,
        targets,
        unhealthy,
        tuple(row.target for row in rows[:NAMED]),
        newest.installed_at,
    )
