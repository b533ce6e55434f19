"""Agents that are not heard of: whose targets are not begun on and not counted on, and when nobody waits for them any more.

An agent's silence counts only as long as somebody listens: a server that was away itself waits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Parts, Patience
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.rows import Run
from hooks.models.deployment import Deployment, DeploymentAgent, DeploymentTarget

_LOOKED_AT, _AWAKE_SINCE, _DEAF = "lookedAt", "awakeSince", "deaf"
_MOST_DEAF = 20


@dataclass(frozen=True, slots=True)
class Silence:
    """Of one agent. ``is_lost``: for so long that nobody waits for it any more."""

    is_silent: bool
    is_lost: bool


HEARD = Silence(is_silent=False, is_lost=False)
"""Of what has no agent, or one that asks."""


def silences(session: Session, parts: Parts, run: Run, now: datetime) -> Mapping[str, Silence]:
    """Those agents of a locked deployment's targets, and of the fleet beside them, that are silent, by their id."""
    patience = parts.patience
    agents = select(DeploymentAgent.id, DeploymentAgent.seen_at)
    mine = agents.join(DeploymentTarget, DeploymentTarget.agent_id == DeploymentAgent.id).where(
        DeploymentTarget.deployment_id == run.deployment.id
    )
    rows = list(session.execute(mine))
    beside = [each for ids in run.deployment.details.get("outsideAgents", {}).values() for each in ids]
    if beside:
        rows += session.execute(agents.where(DeploymentAgent.id.in_(beside)))
    return {
        agent_id: Silence(is_silent=True, is_lost=listened_seconds(run, seen_at, now) > patience.begin)
        for agent_id, seen_at in rows
        if is_silent(seen_at, patience, now)
    }


def is_silent(seen_at: datetime | None, patience: Patience, now: datetime) -> bool:
    """Whether an agent that was heard of then (None: never) is silent now."""
    return seen_at is None or (now - seen_at).total_seconds() > patience.silent


def silent_seconds(session: Session, run: Run, target: DeploymentTarget, since: datetime, now: datetime) -> float:
    """For how long a target's agent has not been heard of, as far as that is after ``since``; 0 for what has none."""
    agent = session.get(DeploymentAgent, target.agent_id) if target.agent_id is not None else None
    if agent is None:
        return 0.0
    return listened_seconds(run, since if agent.seen_at is None else max(since, agent.seen_at), now)


def listen(run: Run, patience: Patience, now: datetime) -> None:
    """Note that a deployment that goes on is looked at: in a gap before that, agents may not have been heard.

    After one so long that an agent would be lost by it alone, silence begins anew. What a shorter one takes longer than is
    usual is forgiven, and no more: looks that are always late must not keep a dead agent alive.
    """
    before = run.deployment.details.get(_LOOKED_AT)
    if before is not None:
        gap = (now - datetime.fromisoformat(before)).total_seconds()
        usual = max(patience.silent, 2 * patience.tick, patience.begin / 5)
        if gap > max(usual, patience.begin):
            run.note(**{_AWAKE_SINCE: now.isoformat(), _DEAF: None})
        elif gap > usual:
            forgive(run, gap - usual, now)
    run.note(**{_LOOKED_AT: now.isoformat()})


def forgive(run: Run, seconds: float, now: datetime) -> None:
    """So many seconds until now are no silence: a pause, or a time in that nobody looked."""
    deaf = [*run.deployment.details.get(_DEAF, ()), [now.isoformat(), seconds]]
    if len(deaf) > _MOST_DEAF:
        run.note(**{_AWAKE_SINCE: deaf[-_MOST_DEAF - 1][0]})
    run.note(**{_DEAF: deaf[-_MOST_DEAF:], _LOOKED_AT: now.isoformat()})


def listened_seconds(run: Run, since: datetime | None, now: datetime) -> float:
    """For how long, from a moment on (None: from the beginning), agents of a deployment that has begun could be heard."""
    listening = _listening_since(run)
    since = listening if since is None else max(since, listening)
    heard = (now - since).total_seconds()
    for until, seconds in run.deployment.details.get(_DEAF, ()):
        heard -= max(0.0, min(seconds, (datetime.fromisoformat(until) - since).total_seconds()))
    return heard


def _listening_since(run: Run) -> datetime:
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
