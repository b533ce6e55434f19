"""The deployment engine: deployments move only here, only under their lock, only inside the transaction of a change.

Every function works in the caller's transaction and commits nothing. After a rollback everything is as it was, and the
same call may be made again; a call that comes late or twice finds nothing left to do. Steering (stop, pause, …) is in
``hooks.deployments.steering``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.beginning import begin
from hooks.deployments.course import go_on
from hooks.deployments.ending import MAX_OPEN, check_room, enqueue_step, last_good, new_id, next_of
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.platform import Actor
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.rows import Run, events_of, first_open, goes_on, has_ended, lock, lock_group, run_of
from hooks.deployments.steering import (
    Answer,
    WaitType,
    answer_failure,
    continue_deployment,
    pause,
    resume,
    retry_failed,
    rollback,
    skip_event,
    stop,
)
from hooks.deployments.targets import close_event
from hooks.deployments.timing import check_times
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentTarget
from registry.errors import NotFound

__all__ = [
    "MAX_OPEN",
    "Answer",
    "WaitType",
    "advance",
    "answer_failure",
    "commands_for_agent",
    "continue_deployment",
    "create",
    "event_begun",
    "event_ended",
    "goes_on",
    "next_for_agent",
    "pause",
    "resume",
    "retry_failed",
    "rollback",
    "skip_event",
    "stop",
]

TOKEN_LIFE = timedelta(days=1)


def create(session: Session, parts: Parts, wanted: DeploymentRequest, now: datetime) -> Deployment:
    """Make a deployment, and begin it unless another one of its group goes on: then it is queued behind that.

    One that cannot begin (no targets, a minimum that cannot be kept) is there, and has failed. Raises NotFound for a
    group that is not there, Conflict where too many wait already.
    """
    group = lock_group(session, wanted.group_id)
    if group.deleted_at is not None:
        raise NotFound("deployment group", group.name)
    if wanted.request_token is not None:
        asked = (Deployment.group_id == group.id) & (Deployment.request_token == wanted.request_token)
        earlier = session.scalar(select(Deployment).where(asked, Deployment.created_at > now - TOKEN_LIFE).limit(1))
        if earlier is not None:
            return earlier
    others = check_room(session, group)
    row = _new(wanted, now)
    row.application_id, row.group_document = group.application_id, group.document
    row.previous_revision = last_good(session, group)
    row.status = (DeploymentStatus.QUEUED if others else DeploymentStatus.CREATED).value
    session.add(row)
    session.flush()
    run = run_of(session, parts, row)
    run.record(
        session, now, wanted.initiator, "deployment.create", revision=row.revision, config=row.config_name,
        options=row.options, retry_of=row.retry_of,
    )  # fmt: skip
    enqueue_step(session, row.id, parts.patience.queued_tick if others else parts.patience.tick)
    if not others:
        begin(session, parts, run, now)
    return row


def _new(wanted: DeploymentRequest, now: datetime) -> Deployment:
    return Deployment(
        id=new_id(),
        group_id=wanted.group_id,
        creator=wanted.creator,
        initiator=wanted.initiator,
        description=wanted.description,
        revision=dict(wanted.revision),
        config_name=wanted.config_name,
        config_document=dict(wanted.config),
        options=dict(wanted.options),
        details={},
        retry_of=wanted.retry_of,
        subject=wanted.subject,
        request_token=wanted.request_token,
        created_at=now,
    )


def advance(session: Session, parts: Parts, deployment_id: str, now: datetime) -> Deployment:
    """Move a deployment as far as its rows and the time allow. Harmless at any time and any number of times.

    Raises NotFound.
    """
    run = lock(session, parts, deployment_id)
    if run.status is DeploymentStatus.QUEUED:
        lock_group(session, run.deployment.group_id)
        following = next_of(session, run.deployment.group_id)
        if following is not None and following.id == deployment_id:
            begin(session, parts, run, now)
    elif run.deployment.completed_at is None:
        check_times(session, parts, run, now)
        go_on(session, parts, run, now)
    return run.deployment


def event_begun(session: Session, event: DeploymentEvent, now: datetime) -> bool:
    """An agent begins an event; False: it must not (it has ended meanwhile, or its deployment does not go on).

    Said again it is True again, as long as the event goes on.
    """
    found = session.get_one(DeploymentTarget, event.target_id)
    statement = select(Deployment).where(Deployment.id == found.deployment_id).with_for_update()
    deployment = session.scalars(statement, execution_options={"populate_existing": True}).one()
    target, fresh = _again(session, event)
    if has_ended(fresh) or target.status != TargetStatus.IN_PROGRESS or not goes_on(deployment):
        return False
    if fresh.status != EventStatus.IN_PROGRESS.value:
        if first_open(events_of(session, target.id)) is not fresh:
            return False
        fresh.status, fresh.started_at = EventStatus.IN_PROGRESS.value, fresh.started_at or now
        session.flush()
    return True


def event_ended(session: Session, parts: Parts, event: DeploymentEvent, result: EventResult, now: datetime) -> bool:
    """An event has ended; False: it had ended before, and what is said now changes nothing."""
    found = session.get_one(DeploymentTarget, event.target_id)
    run = lock(session, parts, found.deployment_id)
    target, fresh = _again(session, event)
    if has_ended(fresh) or target.status != TargetStatus.IN_PROGRESS:
        return False
    if first_open(events_of(session, target.id)) is not fresh:
        return False
    close_event(session, parts, run, target, fresh, result=result, now=now)
    if target.status != TargetStatus.IN_PROGRESS or run.is_stopping:
        go_on(session, parts, run, now)
    return True


def _again(session: Session, event: DeploymentEvent) -> tuple[DeploymentTarget, DeploymentEvent]:
    """The rows as they are under the deployment's lock."""
    fresh = {"populate_existing": True}
    target = session.scalars(
        select(DeploymentTarget).where(DeploymentTarget.id == event.target_id), execution_options=fresh
    ).one()
    return target, session.scalars(
        select(DeploymentEvent).where(DeploymentEvent.id == event.id), execution_options=fresh
    ).one()


def commands_for_agent(
    session: Session, agent_id: str
) -> Sequence[tuple[Deployment, DeploymentTarget, DeploymentEvent]]:
    """What an agent may do now, one event for each of its targets that go on, the oldest deployment first. Only reads.

    An event that it has begun already is among them: it may have forgotten.
    """
    rows = session.execute(
        select(Deployment, DeploymentTarget)
        .join(DeploymentTarget, DeploymentTarget.deployment_id == Deployment.id)
        .where(
            DeploymentTarget.agent_id == agent_id,
            DeploymentTarget.status == TargetStatus.IN_PROGRESS.value,
            Deployment.completed_at.is_(None),
        )
        .order_by(Deployment.created_at, DeploymentTarget.id)
    ).all()
    found = []
    for deployment, target in rows:
        event = first_open(events_of(session, target.id)) if goes_on(deployment) else None
        if event is not None and event.actor == Actor.AGENT.value:
            found.append((deployment, target, event))
    return found


def next_for_agent(
    session: Session, agent_id: str, now: datetime
) -> tuple[Deployment, DeploymentTarget, DeploymentEvent] | None:
    """The first of ``commands_for_agent``, one that has not begun before those that have; None: there is nothing to do."""
    _ = now
    found = commands_for_agent(session, agent_id)
    fresh = [each for each in found if each[2].status == EventStatus.PENDING.value]
    return next(iter([*fresh, *found]), None)


def locked(session: Session, parts: Parts, deployment_id: str) -> Run:
    """A deployment under its lock, for what looks before it steers. Raises NotFound."""
    return lock(session, parts, deployment_id)
