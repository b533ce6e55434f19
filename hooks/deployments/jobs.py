"""The jobs of deployments. Running one twice is harmless."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import happenings, hook_answers
from hooks.deployments.ending import STEP_KIND, enqueue_step
from hooks.deployments.engine import advance, event_begun, event_ended
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.platform import (
    Actor,
    AgentsPart,
    DeploymentFacts,
    Later,
    PlatformUnavailable,
    Remains,
    TargetPlan,
)
from hooks.deployments.rows import goes_on, has_ended, lock, plan_of, run_of
from hooks.deployments.targets import (
    EVENT_KIND,
    UNDO_KIND,
    enqueue_event,
    enqueue_undo,
    forget_installation,
    hand_over,
)
from hooks.deployments.watching import WATCH_KIND, run_watch
from hooks.jobs.context import Handler, JobContext
from hooks.jobs.retry import Retry
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentTarget
from hooks.models.job import JobState

_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_UNDO_ATTEMPTS = 6
"""After so many (75 seconds) it is reported that a target could not be put right; it goes on being tried."""


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        STEP_KIND: partial(run_step, parts),
        EVENT_KIND: partial(run_event, parts),
        UNDO_KIND: partial(run_undo, parts),
        WATCH_KIND: partial(run_watch, parts),
    }


def run_step(parts: Parts, context: JobContext) -> None:
    """Look at a deployment, and again later while it goes on. Twice is harmless: ``advance`` is."""

    def unit(session: Session) -> None:
        now = parts.clock()
        row = advance(session, parts, context.payload["deployment_id"], now)
        if row.completed_at is None:
            enqueue_step(session, row.id, _pause(parts, row, now))

    context.finish(JobState.SUCCEEDED, unit)


def _pause(parts: Parts, row: Deployment, now: datetime) -> float:
    tick = parts.patience.queued_tick if row.status == DeploymentStatus.QUEUED else parts.patience.tick
    if row.wait_until is None or row.wait_until <= now:
        return tick
    return min(tick, (row.wait_until - now).total_seconds())


def run_event(parts: Parts, context: JobContext) -> None:
    """Carry out an engine's event. Twice is harmless: platforms promise it, and only the first end counts."""
    event_id = context.payload["event_id"]
    begun = context.step(partial(_begin, parts=parts, event_id=event_id))
    if begun is None:
        context.finish(JobState.SUCCEEDED)
        return
    facts, target, event, platform = begun
    try:
        answer: EventResult | Later | AgentsPart = platform.carry_out(facts, target, event, _stopped(context))
    except PlatformUnavailable as away:
        raise Retry(_PAUSE_SECONDS, f"{event} of {target.name} could not be tried: {away}") from away
    context.finish(JobState.SUCCEEDED, partial(_end, parts=parts, event_id=event_id, answer=answer))


def _begin(session: Session, parts: Parts, event_id: int) -> Any:
    event = session.get(DeploymentEvent, event_id)
    if event is None:
        return None
    if not event_begun(session, event, parts.clock()):
        _end_stopped(session, parts, event)
        return None
    target = session.get_one(DeploymentTarget, event.target_id)
    run = run_of(session, parts, session.get_one(Deployment, target.deployment_id))
    return run.facts(), plan_of(target), event.name, run.platform


def _end(session: Session, parts: Parts, event_id: int, answer: EventResult | Later | AgentsPart) -> None:
    event = session.get_one(DeploymentEvent, event_id)
    if isinstance(answer, EventResult):
        event_ended(session, parts, event, answer, parts.clock())
        return
    target = session.get_one(DeploymentTarget, event.target_id)
    run = lock(session, parts, target.deployment_id)
    session.refresh(event)
    session.refresh(target)
    if has_ended(event):
        return
    if answer.details:
        target.details = dict(answer.details)
    event.message = answer.message
    target.updated_at = parts.clock()
    if run.is_stopping:
        _end_stopped(session, parts, event)
        return
    if isinstance(answer, AgentsPart):
        hand_over(event, Actor.AGENT)
        return
    if answer.calls is not None:
        refused = hook_answers.begin(session, parts, run, event, answer.calls, parts.clock())
        if refused is not None:
            event_ended(session, parts, event, refused, parts.clock())
            return
    enqueue_event(session, run, target, event, answer.seconds)


def _end_stopped(session: Session, parts: Parts, event: DeploymentEvent) -> None:
    """An event that was to go on later, of a deployment that is being stopped meanwhile, has ended."""
    deployment_id = session.get_one(DeploymentTarget, event.target_id).deployment_id
    if lock(session, parts, deployment_id).is_stopping:
        told = EventResult(event.name, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, "the deployment was stopped")
        event_ended(session, parts, event, told, parts.clock())


def _stopped(context: JobContext) -> Callable[[], bool]:
    """Whether to stop, looked up in the rows once a second at most."""
    looked_at, was_stopped = 0.0, False

    def look(session: Session) -> bool:
        row = session.get(Deployment, context.payload["deployment_id"])
        return row is None or not (goes_on(row) or row.is_paused)

    def is_stopped() -> bool:
        nonlocal looked_at, was_stopped
        if not was_stopped and time.monotonic() - looked_at > _LOOK_SECONDS:
            was_stopped, looked_at = context.step(look), time.monotonic()
        return was_stopped or context.should_stop()

    return is_stopped


def run_undo(parts: Parts, context: JobContext) -> None:
    """Put right what a deployment has left half done at a target. Twice is harmless: platforms promise it."""
    target_id = context.payload["target_id"]
    found: tuple[DeploymentFacts, TargetPlan, Any] | None = context.step(partial(_to_undo, parts=parts, id_=target_id))
    if found is None:
        context.finish(JobState.SUCCEEDED)
        return
    facts, target, platform = found
    try:
        later = platform.undo(facts, target)
    except PlatformUnavailable as away:
        if context.attempt == _UNDO_ATTEMPTS:
            context.step(partial(_report, parts=parts, target_id=target_id, told=str(away)))
        pause = min(_PAUSE_SECONDS * context.attempt, 300.0)
        raise Retry(pause, f"{target.name} could not be put right: {away}") from away
    context.finish(JobState.SUCCEEDED, partial(_undone, parts=parts, target_id=target_id, later=later))


def _to_undo(session: Session, parts: Parts, id_: int) -> Any:
    target = session.get(DeploymentTarget, id_)
    if target is None:
        return None
    row = session.get_one(Deployment, target.deployment_id)
    # What a later deployment does there counts: it has an undo of its own.
    newer = session.scalar(
        select(DeploymentTarget.id)
        .join(Deployment, Deployment.id == DeploymentTarget.deployment_id)
        .where(
            Deployment.group_id == row.group_id,
            DeploymentTarget.name == target.name,
            DeploymentTarget.id > target.id,
            DeploymentTarget.started_at.is_not(None),
        )
        .limit(1)
    )
    if newer is not None:
        return None
    run = run_of(session, parts, row)
    return run.facts(), plan_of(target), run.platform


def _report(session: Session, parts: Parts, target_id: int, told: str) -> None:
    target = session.get_one(DeploymentTarget, target_id)
    run = lock(session, parts, target.deployment_id)
    happenings.tell(session, run, happenings.TARGET_LEFT_OUT, parts.clock(), target=target.name, message=told)


def _undone(session: Session, parts: Parts, target_id: int, later: Later | Remains | None) -> None:
    target = session.get_one(DeploymentTarget, target_id)
    run = lock(session, parts, target.deployment_id)
    session.refresh(target)
    if not isinstance(later, Later):
        if run.is_blue_green and not target.fleet:
            forget_installation(session, run, target, parts.clock(), later or Remains.ORIGINAL)
        return
    if later.details:
        target.details = dict(later.details)
    enqueue_undo(session, run, target, later.seconds)
