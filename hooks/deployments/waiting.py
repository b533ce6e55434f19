"""Why deployments that have not ended do not go on by themselves at this moment, or what they wait for. Reads rows only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Patience
from hooks.deployments.phases import Phase
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.rows import ROLLBACK
from hooks.deployments.silence import is_silent
from hooks.models.deployment import Deployment, DeploymentAgent, DeploymentTarget

NAMED = 5
"""So many targets are named in a sentence; of the others it says how many they are."""
_OPEN = (TargetStatus.PENDING.value, TargetStatus.IN_PROGRESS.value)


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why a deployment waits.

    ``kind``: ``queued``, ``paused``, ``answer`` (of somebody, after a failure), ``reroute`` (of somebody, before traffic
    changes sides), ``silent`` (machines that are not heard of), ``zone`` (between zones), ``baking`` or ``keeping`` (a time
    that has to pass), ``turn`` (targets whose turn has not come), ``stopping``.
    ``text`` says it in a sentence; ``until`` is when it is over by itself, where that is known. ``targets`` are concerned, at
    most ``NAMED`` of them.
    """

    kind: str
    text: str
    since: datetime | None = None
    until: datetime | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Targets:
    """What is open of a deployment: names by status, and those whose agent is silent, with when it was last heard of."""

    pending: list[str]
    going: list[str]
    silent: list[tuple[str, datetime | None]]


def wait_reasons(
    session: Session, rows: Sequence[Deployment], patience: Patience, now: datetime
) -> Mapping[str, tuple[WaitReason, ...]]:
    """Why these deployments wait, by their ids, the most pressing reason first; those that have ended have none.

    It costs two queries, however many they are.
    """
    waiting = [row for row in rows if row.completed_at is None]
    ahead = _ahead(session, [row for row in waiting if row.status == DeploymentStatus.QUEUED])
    targets = _targets(session, [row.id for row in waiting], patience, now)
    nothing = _Targets([], [], [])
    return {row.id: tuple(_reasons(row, ahead.get(row.group_id), targets.get(row.id, nothing))) for row in waiting}


def _ahead(session: Session, queued: Sequence[Deployment]) -> dict[str, Deployment]:
    """The deployment that goes on, or goes first, of each group in which some are queued."""
    if not queued:
        return {}
    is_later = case((Deployment.status != DeploymentStatus.QUEUED, 0), (Deployment.creator == ROLLBACK, 1), else_=2)
    rows = session.scalars(
        select(Deployment)
        .where(Deployment.group_id.in_({row.group_id for row in queued}), Deployment.completed_at.is_(None))
        .order_by(is_later.desc(), Deployment.created_at.desc(), Deployment.id.desc())
    )
    return {row.group_id: row for row in rows}  # the last one of a group counts: the first in its order


def _targets(session: Session, ids: Sequence[str], patience: Patience, now: datetime) -> dict[str, _Targets]:
    found: dict[str, _Targets] = {}
    statement = (
        select(
            DeploymentTarget.deployment_id,
            DeploymentTarget.name,
            DeploymentTarget.status,
            DeploymentAgent.id,
            DeploymentAgent.seen_at,
        )
        .outerjoin(DeploymentAgent, DeploymentAgent.id == DeploymentTarget.agent_id)
        .where(DeploymentTarget.deployment_id.in_(ids), DeploymentTarget.status.in_(_OPEN))
        .order_by(DeploymentTarget.deployment_id, DeploymentTarget.position, DeploymentTarget.id)
    )
    for deployment_id, name, status, agent, seen_at in session.execute(statement) if ids else ():
        each = found.setdefault(deployment_id, _Targets([], [], []))
        (each.pending if status == TargetStatus.PENDING else each.going).append(name)
        has_agent: bool = agent is not None  # an outer join: the target may have none
        if has_agent and is_silent(seen_at, patience, now):
            each.silent.append((name, seen_at))
    return found


def _reasons(row: Deployment, ahead: Deployment | None, targets: _Targets) -> list[WaitReason]:
    if row.status == DeploymentStatus.QUEUED:
        return [_queued(row, ahead)]
    if "ending" in row.details:
        told = f"it is being stopped: {_some(targets.going)} still come to their end" if targets.going else "it ends"
        return [WaitReason("stopping", told, targets=tuple(targets.going[:NAMED]))]
    found = _of_people(row)
    if found:
        return found
    found = _of_machines(targets)
    phase = Phase(row.phase)
    if row.wait_until is not None:
        found.append(_of_time(row, phase))
    elif targets.pending and targets.going:
        told = f"{_some(targets.pending)} begin when their turn comes, after {_some(targets.going)}: {row.config_name}"
        found.append(WaitReason("turn", told, targets=tuple(targets.pending[:NAMED])))
    return found


def _queued(row: Deployment, ahead: Deployment | None) -> WaitReason:
    if ahead is None or ahead.id == row.id:
        return WaitReason("queued", "it begins as soon as a worker takes it up", row.created_at)
    doing = "waits before it" if ahead.status == DeploymentStatus.QUEUED else "goes on in this group"
    return WaitReason("queued", f"{ahead.id} {doing}: a group has one deployment at a time", row.created_at)


def _of_people(row: Deployment) -> list[WaitReason]:
    """What somebody has to do; while that is open nothing else is waited for."""
    awaiting = sorted(row.details.get("awaiting") or {})
    found = []
    if awaiting:
        told = f"{_some(awaiting)} failed: somebody has to say whether to retry, ignore or fail that"
        found.append(WaitReason("answer", told, _moment(row, "pausedSince"), targets=tuple(awaiting[:NAMED])))
    by = row.details.get("pausedBy")
    if row.is_paused and (by or not awaiting):
        told = f"paused{f' by {by}' if by else ''}: nothing more begins until somebody resumes it"
        found.append(WaitReason("paused", told, _moment(row, "pausedSince")))
    if not found and Phase(row.phase) is Phase.READY_WAIT:
        told = "the new targets are ready: somebody has to let the traffic change sides, or it is stopped"
        found.append(WaitReason("reroute", told, until=row.wait_until))
    return found


def _of_machines(targets: _Targets) -> list[WaitReason]:
    if not targets.silent:
        return []
    names = [name for name, _ in targets.silent]
    heard = [at for _, at in targets.silent if at is not None]
    told = f"nothing is heard of {_some(names)}: the agent there does not ask"
    return [WaitReason("silent", told, min(heard, default=None), targets=tuple(names[:NAMED]))]


def _of_time(row: Deployment, phase: Phase) -> WaitReason:
    if phase is Phase.BAKE or row.status == DeploymentStatus.BAKING:
        return WaitReason("baking", "all targets have it, and are watched for a time", until=row.wait_until)
    if phase is Phase.DEPLOY:
        return WaitReason("zone", "a zone is done and is watched before the next one", until=row.wait_until)
    return WaitReason("keeping", "the original targets are kept for a time", until=row.wait_until)


def _moment(row: Deployment, key: str) -> datetime | None:
    kept = row.details.get(key)
    return None if kept is None else datetime.fromisoformat(kept)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
