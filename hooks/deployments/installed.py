"""What is installed where: a group's targets with what they have, what they would get, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.deployments import ending
from hooks.deployments.parts import Parts
from hooks.deployments.planning import Age
from hooks.deployments.platform import DeploymentFacts, DeploymentPlatform, TargetPlan
from hooks.deployments.revisions import digest_of_revision, label, version_of
from hooks.models.deployment import DeploymentApplication, DeploymentGroup, DeploymentInstallation
from registry.errors import Conflict

DRIFT = ("none", "changed", "other", "unknown")


@dataclass(frozen=True, slots=True)
class InstalledTarget:
    """A target of a group with what is installed there, as far as the server knows; ``version`` None: nothing is.

    ``is_member`` whether the group would deploy to it now, ``is_current`` whether it has the group's last good revision.
    ``drift`` compares with what the agent has seen: ``none``, ``changed`` (files, of which ``changed_files`` is the
    number), ``other`` (another deployment's), ``unknown`` (nobody has looked).
    """

    name: str
    instance_label: str
    zone: str
    is_member: bool
    deployment_id: str | None
    version: str | None
    revision_label: str | None
    is_healthy: bool | None
    is_current: bool
    installed_at: datetime | None
    drift: str
    changed_files: int
    found_at: datetime | None


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target that a deployment would go to, in the order in which they would be taken.

    ``is_changed`` False: it has the revision already. ``is_skipped``: and it would therefore be passed over.
    """

    name: str
    instance_label: str
    zone: str
    version: str | None
    becomes: str
    is_healthy: bool | None
    is_changed: bool
    is_skipped: bool


def facts_of(
    application: DeploymentApplication,
    group: DeploymentGroup,
    *,
    revision: Mapping[str, Any],
    config: Mapping[str, Any],
    options: Mapping[str, Any],
) -> DeploymentFacts:
    """A deployment that is not there (its id is "") as platforms see it."""
    return DeploymentFacts(
        "",
        application.name,
        application.domain,
        group.id,
        group.name,
        group.document,
        config,
        revision,
        None,
        options,
    )


def platform_of(parts: Parts, application: DeploymentApplication) -> DeploymentPlatform:
    """Where an application runs. Raises Conflict on a server that does not have its platform."""
    platform = parts.platforms.get(application.compute_platform)
    if platform is None:
        raise Conflict(f"this server does not deploy to {application.compute_platform}")
    return platform


def last_good(session: Session, group: DeploymentGroup) -> Mapping[str, Any] | None:
    """The revision that a group's last successful deployment brought; None where there was none, or it is not kept."""
    return ending.last_good(session, group)


def installed_targets(
    session: Session,
    application: DeploymentApplication,
    group: DeploymentGroup,
    platform: DeploymentPlatform,
    known: Mapping[str, DeploymentInstallation] | None = None,
) -> list[InstalledTarget]:
    """The targets of a group by name: those it would go to now, and those where something of it still is.

    ``known`` are its ``installations``, where the caller has them.
    """
    good = last_good(session, group) or {}
    about = facts_of(application, group, revision=good, config={}, options={})
    plans = {plan.name: plan for plan in platform.find_targets(session, about)}
    known = installations(session, group) if known is None else known
    wanted = digest_of_revision(good) if good else None
    return [_installed(name, plans.get(name), known.get(name), wanted) for name in sorted({*plans, *known})]


def planned_targets(
    session: Session, group: DeploymentGroup, platform: DeploymentPlatform, about: DeploymentFacts
) -> list[PlannedTarget]:
    """Where a deployment would go now, in its order: the unhealthy, those of which nothing is known, the old, the current."""
    known = installations(session, group)
    digest = digest_of_revision(about.revision)
    names = about.options.get("targets")
    plans = [plan for plan in platform.find_targets(session, about) if not names or plan.name in names]

    def rank(plan: TargetPlan) -> tuple[bool, int, str]:
        there = known.get(plan.name)
        return (there is None or there.is_healthy, age_of(there, digest), plan.name)

    passes = bool(about.options.get("updateOutdatedInstancesOnly"))
    return [
        _planned(plan, known.get(plan.name), about.revision, digest, passes=passes) for plan in sorted(plans, key=rank)
    ]


def age_of(there: DeploymentInstallation | None, digest: str) -> Age:
    """What a target has of the group, beside the revision of this digest (``digest_of_revision``) that it would get.

    A row without a revision says that nothing came to its end there yet.
    """
    if there is None or not there.revision:
        return Age.UNKNOWN
    return Age.CURRENT if digest_of_revision(there.revision) == digest else Age.OLD


def forget_machine(session: Session, name: str) -> None:
    """What was installed on a machine of this name says nothing of another one that has it now."""
    groups = (
        select(DeploymentGroup.id)
        .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
        .where(DeploymentApplication.compute_platform == "Server")
    )
    session.execute(
        delete(DeploymentInstallation).where(
            DeploymentInstallation.target == name, DeploymentInstallation.group_id.in_(groups)
        )
    )


def installations(session: Session, group: DeploymentGroup) -> dict[str, DeploymentInstallation]:
    """What is installed of a group, by the names of its targets."""
    rows = session.scalars(select(DeploymentInstallation).where(DeploymentInstallation.group_id == group.id))
    return {row.target: row for row in rows}


def _planned(
    plan: TargetPlan, there: DeploymentInstallation | None, revision: Mapping[str, Any], digest: str, *, passes: bool
) -> PlannedTarget:
    is_changed = age_of(there, digest) is not Age.CURRENT
    return PlannedTarget(
        plan.name,
        plan.fleet,
        plan.zone,
        version_of(there.revision) if there is not None and there.revision else None,
        version_of(revision),
        there.is_healthy if there is not None else None,
        is_changed,
        passes and not is_changed and there is not None and there.is_healthy,
    )


def _installed(
    name: str, plan: TargetPlan | None, there: DeploymentInstallation | None, wanted: str | None
) -> InstalledTarget:
    has = there if there is not None and there.revision else None
    drift, changed = _drift(has)
    return InstalledTarget(
        name,
        plan.fleet if plan is not None else "",
        plan.zone if plan is not None else "",
        plan is not None,
        has.deployment_id if has is not None else None,
        version_of(has.revision) if has is not None else None,
        label(has.revision) if has is not None else None,
        there.is_healthy if there is not None else None,
        wanted is not None and age_of(has, wanted) is Age.CURRENT,
        has.installed_at if has is not None else None,
        drift,
        changed,
        has.found_at if has is not None else None,
    )


def drift_of(there: DeploymentInstallation) -> str:
    """What the agent saw of an installation, in a word of ``DRIFT``."""
    return _drift(there)[0]


def _drift(there: DeploymentInstallation | None) -> tuple[str, int]:
    if there is None or there.found is None:
        return "unknown", 0
    if there.found.get("deploymentId") != there.deployment_id:
        return "other", 0
    changed = int(there.found.get("changedCount", 0)) + int(there.found.get("missingCount", 0))
    return ("changed" if changed else "none"), changed
