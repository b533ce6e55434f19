"""How a deployment begins: where it goes, in which order. In the caller's transaction, under the deployment's lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import happenings
from hooks.deployments.course import begin_end, enter, go_on
from hooks.deployments.ending import last_good
from hooks.deployments.installed import age_of
from hooks.deployments.parts import Parts
from hooks.deployments.phases import Phase
from hooks.deployments.planning import Age, DeploymentStatus, TargetStatus
from hooks.deployments.platform import TargetPlan
from hooks.deployments.revisions import digest_of_revision
from hooks.deployments.rows import SYSTEM, Run, lock_group, targets_of
from hooks.deployments.watching import enqueue_watch
from hooks.models.deployment import DeploymentInstallation, DeploymentTarget

MAX_TARGETS = 1000
"""CodeDeploy's limit of targets in one deployment."""


def begin(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    """Begin a locked deployment, and let the first targets go. Where it cannot, it has ended with the reason."""
    row = run.deployment
    group = lock_group(session, row.group_id)
    row.status, row.started_at = DeploymentStatus.IN_PROGRESS.value, now
    if not run.is_rollback:
        row.previous_revision = last_good(session, group)
    group.last_attempted_id = row.id
    run.record(session, now, SYSTEM, "deployment.start", revision=row.revision)
    happenings.tell(session, run, happenings.STARTED, now, revision=row.revision)
    plans = _switched_back(session, run) or run.platform.find_targets(session, run.facts())
    known = _installed(session, row.group_id)
    everyone = plans
    plans, outside = _wanted(plans, known, row.options.get("targets"))
    serving = [each for each in plans if each.fleet != "Blue" or run.is_rollback]
    if not serving:
        begin_end(run, DeploymentStatus.FAILED, "NO_INSTANCES", "the group has no targets, or none of those asked for")
    elif len(plans) > MAX_TARGETS:
        told = f"a deployment has at most {MAX_TARGETS} targets, and this one would have {len(plans)}"
        begin_end(run, DeploymentStatus.FAILED, "OVER_MAX_INSTANCES", told)
    else:
        _insert(session, run, plans, known, now)
        run.note(outside=outside or None, unhealthy=_unhealthy(plans, known) or None)
        run.note(outsideAgents=_left_out(everyone, plans, known) or None)
        goes_back = run.is_rollback and any(each.fleet for each in plans)
        enter(session, run, Phase.REROUTE if goes_back else Phase.DEPLOY, now)
    enqueue_watch(session, row)
    go_on(session, parts, run, now)


def _switched_back(session: Session, run: Run) -> Sequence[TargetPlan]:
    """Both sides of the blue/green deployment that is undone: its machines change places again."""
    if run.deployment.rollback_of is None:
        return []
    found = targets_of(session, run.deployment.rollback_of)
    return [
        TargetPlan(target.name, target.agent_id, target.fleet, target.zone, target.details)
        for target in found
        if target.fleet
    ]


def _installed(session: Session, group_id: str) -> Mapping[str, DeploymentInstallation]:
    rows = session.scalars(select(DeploymentInstallation).where(DeploymentInstallation.group_id == group_id))
    return {row.target: row for row in rows}


def _wanted(
    plans: Sequence[TargetPlan], known: Mapping[str, DeploymentInstallation], names: Sequence[str] | None
) -> tuple[Sequence[TargetPlan], dict[str, list[int]]]:
    """The targets to deploy to; and by zone how many healthy and unhealthy ones of the fleet are left out."""
    if not names:
        return plans, {}
    outside: dict[str, list[int]] = {}
    for each in plans:
        if each.name not in names and each.fleet != "Blue":
            is_unhealthy = each.name in known and not known[each.name].is_healthy
            outside.setdefault(each.zone, [0, 0])[is_unhealthy] += 1
    return [each for each in plans if each.name in names or each.fleet == "Blue"], outside


def _left_out(
    everyone: Sequence[TargetPlan], plans: Sequence[TargetPlan], known: Mapping[str, DeploymentInstallation]
) -> dict[str, list[str]]:
    """By zone the agents of those healthy ones of the fleet that are left out: they serve as long as they are heard of."""
    names, found = {each.name for each in plans}, dict[str, list[str]]()
    for each in everyone:
        serves = each.name not in known or known[each.name].is_healthy
        if each.name not in names and each.agent_id is not None and serves:
            found.setdefault(each.zone, []).append(each.agent_id)
    return found


def _unhealthy(plans: Sequence[TargetPlan], known: Mapping[str, DeploymentInstallation]) -> list[str]:
    return sorted(each.name for each in plans if each.name in known and not known[each.name].is_healthy)


def _insert(
    session: Session,
    run: Run,
    plans: Sequence[TargetPlan],
    known: Mapping[str, DeploymentInstallation],
    now: datetime,
) -> None:
    digest = digest_of_revision(run.deployment.revision)
    only_outdated = bool(run.deployment.options.get("updateOutdatedInstancesOnly"))

    def rank(each: TargetPlan) -> tuple[bool, int, str]:
        there = known.get(each.name)
        return (there is None or there.is_healthy, age_of(there, digest), each.name)

    for position, each in enumerate(sorted(plans, key=rank)):
        is_current = age_of(known.get(each.name), digest) is Age.CURRENT
        is_passed = only_outdated and is_current and each.fleet != "Blue" and known[each.name].is_healthy
        session.add(
            DeploymentTarget(
                deployment_id=run.deployment.id,
                agent_id=each.agent_id,
                name=each.name,
                fleet=each.fleet,
                zone=each.zone,
                position=position,
                status=TargetStatus.SKIPPED.value if is_passed else TargetStatus.PENDING.value,
                details=dict(each.details),
                updated_at=now,
                ended_at=now if is_passed else None,
            )
        )
    session.flush()
