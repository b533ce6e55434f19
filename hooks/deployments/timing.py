"""What has taken too long: agents that are silent, events, whole deployments. Under the deployment's lock."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hooks.deployments.course import begin_end
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.phases import MONITOR_HEALTH, Phase
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.platform import Actor
from hooks.deployments.rows import Run, events_of, first_open, targets_of
from hooks.deployments.silence import listen, listened_seconds, silent_seconds
from hooks.deployments.targets import NO_ANSWER, close_event, enqueue_event
from hooks.models.deployment import DeploymentEvent, DeploymentTarget


def check_times(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    """Fail what has taken too long; a paused deployment takes no time."""
    row, patience = run.deployment, parts.patience
    if row.is_paused or row.started_at is None:
        return
    listen(run, patience, now)
    whole = patience.blue_green if run.is_blue_green else patience.in_place
    has_its_own_end = Phase(row.phase) in {Phase.READY_WAIT, Phase.BAKE}
    if now - row.started_at > timedelta(seconds=whole + run.paused_seconds) and not has_its_own_end:
        begin_end(run, DeploymentStatus.FAILED, "TIMEOUT", f"it has not ended within {whole / 3600:g} hours")
    for target in targets_of(session, row.id):
        if target.status == TargetStatus.IN_PROGRESS and not row.is_paused:
            event = first_open(events_of(session, target.id))
            result = None if event is None else _overdue(session, parts, run, target, event, now=now)
            if event is not None and result is not None:
                close_event(session, parts, run, target, event, result=result, now=now)
            elif event is not None and event.actor == Actor.ENGINE.value and run.goes_on:
                # It has its job already, unless that ended while the deployment was paused.
                enqueue_event(session, run, target, event)


def _overdue(
    session: Session, parts: Parts, run: Run, target: DeploymentTarget, event: DeploymentEvent, *, now: datetime
) -> EventResult | None:
    begin, whole = (timedelta(seconds=each) for each in (parts.patience.begin, parts.patience.event))
    if event.status == EventStatus.PENDING.value:
        waits = begin if event.actor == Actor.AGENT.value else whole
        is_early = listened_seconds(run, target.updated_at, now) <= waits.total_seconds()
        if is_early and (waits is whole or now - target.updated_at <= whole):
            return None
        told = NO_ANSWER if event.actor == Actor.AGENT.value else "no worker carried it out in time"
        return EventResult(event.name, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, told)
    # A platform that has an event go on later ends it itself: traffic that is shifted in steps takes days.
    # So does one that is handed to and fro for as long as a deployment bakes.
    is_kept = event.actor == Actor.ENGINE.value or event.name == MONITOR_HEALTH
    lives_on = is_kept and event.started_at is not None
    began = target.updated_at if lives_on else event.started_at or target.updated_at
    if now - began > whole:
        told = f"it has not ended within {whole.total_seconds():g} seconds"
        return EventResult(event.name, EventStatus.FAILED, ErrorCode.SCRIPT_TIMED_OUT, told)
    since = max(began, run.stopping_since or began)
    is_waited_for = event.actor == Actor.AGENT.value or run.is_stopping
    if is_waited_for and silent_seconds(session, run, target, since, now) > begin.total_seconds():
        told = f"{NO_ANSWER}: nothing was heard of it for {begin.total_seconds():g} seconds"
        return EventResult(event.name, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, told)
    return None
