"""Agents that are not heard of: whose targets are not begun on and not counted on, and when nobody waits for them any more.

An agent's silence counts only as long as somebody listens: a server that was away itself waits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Parts, Patience
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.rows import Run
from hooks.models.deployment import Deployment, DeploymentAgent, DeploymentTarget

_LOOKED_AT, _AWAKE_SINCE = "lookedAt", "awakeSince"


@dataclass(frozen=True, slots=True)
class Silence:
    """Of one agent. ``is_lost``: for so long that nobody waits for it any more."""

    is_silent: bool
    is_lost: bool


HEARD = Silence(is_silent=False, is_lost=False)
"""Of what has no agent, or one that asks."""


def silences(session: Session, parts: Parts, run: Run, now: datetime) -> Mapping[str, Silence]:
    """Those agents of a locked deployment's targets that are silent, by their id."""
    patience = parts.patience
    since = listening_since(run) + timedelta(seconds=run.paused_seconds)
    rows = session.execute(
        select(DeploymentAgent.id, DeploymentAgent.seen_at)
        .join(DeploymentTarget, DeploymentTarget.agent_id == DeploymentAgent.id)
        .where(DeploymentTarget.deployment_id == run.deployment.id)
    )
    return {
        agent_id: Silence(is_silent=True, is_lost=_seconds(seen_at, since, now) > patience.begin)
        for agent_id, seen_at in rows
        if is_silent(seen_at, patience, now)
    }


def is_silent(seen_at: datetime | None, patience: Patience, now: datetime) -> bool:
    """Whether an agent that was heard of then (None: never) is silent now."""
    return seen_at is None or (now - seen_at).total_seconds() > patience.silent


def silent_seconds(session: Session, target: DeploymentTarget, since: datetime, now: datetime) -> float:
    """For how long a target's agent has not been heard of, as far as that is after ``since``; 0 for what has none."""
    agent = session.get(DeploymentAgent, target.agent_id) if target.agent_id is not None else None
    return 0.0 if agent is None else _seconds(agent.seen_at, since, now)


def _seconds(seen_at: datetime | None, since: datetime, now: datetime) -> float:
    return (now - (max(since, seen_at) if seen_at is not None else since)).total_seconds()


def listen(run: Run, patience: Patience, now: datetime) -> None:
    """Note that a deployment that goes on is looked at. After a gap in that nothing could be heard: silence begins anew."""
    before = run.deployment.details.get(_LOOKED_AT)
    longest = timedelta(seconds=max(patience.silent, 2 * patience.tick))
    if before is not None and now - datetime.fromisoformat(before) > longest:
        run.note(**{_AWAKE_SINCE: now.isoformat()})
    run.note(**{_LOOKED_AT: now.isoformat()})


def listening_since(run: Run) -> datetime:
    """Since when agents of a deployment that has begun could be heard."""
    since = run.deployment.details.get(_AWAKE_SINCE)
    started_at = run.deployment.started_at or run.deployment.created_at
    return started_at if since is None else max(started_at, datetime.fromisoformat(since))


def waiting_for(session: Session, agent_id: str) -> list[str]:
    """The deployments that go on and have a target of this agent, which is heard of again; in the order of locking."""
    found = session.scalars(
        select(Deployment.id)
        .join(DeploymentTarget, DeploymentTarget.deployment_id == Deployment.id)
        .where(
            DeploymentTarget.agent_id == agent_id,
            Deployment.completed_at.is_(None),
            Deployment.status != DeploymentStatus.QUEUED.value,
        )
        .distinct()
        .order_by(Deployment.id)
    )
    return list(found)
