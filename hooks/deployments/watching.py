"""Alarms of deployments that go on: asked by due jobs, outside of any transaction; one that fires stops its deployment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.health.alarms import (
    AlarmConfiguration,
    AlarmState,
    Poll,
    PollFailed,
    PrometheusAlarm,
    Standing,
    WebhookAlarm,
    after_poll,
    alarms_of,
    reason_to_stop,
    told,
)
from hooks.deployments.parts import Parts
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.rows import ROLLBACK, lock
from hooks.deployments.steering import stop_on_alarm
from hooks.deployments.targets import QUEUE, subject_of
from hooks.jobs.context import JobContext
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.deployment import Deployment, DeploymentAlarm
from hooks.models.job import JobState

WATCH_KIND = "deployment.watch"
"""The job that asks the alarms of a deployment."""
_FASTEST_SECONDS = 5.0
_USUAL_SECONDS = 15.0


def alarms_of_deployment(row: Deployment) -> AlarmConfiguration:
    """What watches over a deployment: its own configuration, or that of its group. A faulty one watches over nothing.

    Nothing does over one that goes back: the alarm that is the reason for it would stop it.
    """
    if row.creator == ROLLBACK:
        return AlarmConfiguration()
    document = row.options.get("overrideAlarmConfiguration") or row.group_document.get("alarmConfiguration")
    if not document:
        return AlarmConfiguration()
    faults: list[str] = []
    found = alarms_of(document, faults)
    return AlarmConfiguration() if faults else found


def enqueue_watch(session: Session, row: Deployment, after_seconds: float = 0) -> None:
    """Have the alarms of a deployment asked, where there are any."""
    if alarms_of_deployment(row).enabled:
        enqueue(
            session,
            WATCH_KIND,
            {"deployment_id": row.id},
            queue=QUEUE,
            dedupe=f"{WATCH_KIND}:{row.id}",
            run_after_seconds=after_seconds,
            max_attempts=PATIENT_ATTEMPTS,
            subject=subject_of(row.id),
        )


def run_watch(parts: Parts, context: JobContext) -> None:
    """Ask the alarms of a deployment, and again later while it goes on. Twice is harmless: asking changes nothing."""
    deployment_id = context.payload["deployment_id"]
    configuration = context.step(partial(_configuration, deployment_id=deployment_id))
    polls: dict[str, Poll] = {}
    for alarm in configuration.alarms if configuration.enabled else ():
        if isinstance(alarm, PrometheusAlarm):
            polls[alarm.name] = parts.poll(alarm)
        if context.should_stop():
            return
    context.finish(JobState.SUCCEEDED, partial(note, parts=parts, deployment_id=deployment_id, polls=polls))


def _configuration(session: Session, deployment_id: str) -> AlarmConfiguration:
    row = session.get(Deployment, deployment_id)
    goes_on = row is not None and row.completed_at is None and row.status != DeploymentStatus.QUEUED
    return alarms_of_deployment(row) if row is not None and goes_on else AlarmConfiguration()


def note(session: Session, parts: Parts, deployment_id: str, polls: Mapping[str, Poll]) -> None:
    """Keep how the alarms of a deployment stand after ``polls``, and stop it where one fires; nothing once it has ended."""
    if session.get(Deployment, deployment_id) is None:
        return
    run, now = lock(session, parts, deployment_id), parts.clock()
    row = run.deployment
    if row.completed_at is not None:
        return
    configuration = alarms_of_deployment(row)
    before = {name: _standing(kept) for name, kept in row.details.get("alarms", {}).items()}
    standings: dict[str, Standing] = {}
    for alarm in configuration.alarms:
        if isinstance(alarm, WebhookAlarm):
            standings[alarm.name] = _told(session, run.application.domain, alarm, now)
        else:
            poll = polls.get(alarm.name, PollFailed("it was not asked"))
            standings[alarm.name] = after_poll(alarm, before.get(alarm.name, Standing()), poll, now)
    run.note(alarms={name: _kept(standing) for name, standing in standings.items()})
    reason = reason_to_stop(configuration, standings)
    has_stopped = bool(reason) and stop_on_alarm(session, parts, deployment_id, now, reason)
    if not has_stopped and not run.is_stopping:
        intervals = [each.interval_seconds for each in configuration.alarms if isinstance(each, PrometheusAlarm)]
        enqueue_watch(session, row, max(_FASTEST_SECONDS, min([_USUAL_SECONDS, *intervals])))


def _told(session: Session, domain: str, alarm: WebhookAlarm, now: datetime) -> Standing:
    row = session.scalar(
        select(DeploymentAlarm).where(DeploymentAlarm.domain == domain, DeploymentAlarm.name == alarm.name)
    )
    return told(alarm, None if row is None else AlarmState(row.state), None if row is None else row.updated_at, now)


def _kept(standing: Standing) -> dict[str, Any]:
    since = standing.breaching_since
    return {
        "state": standing.state.value,
        "since": None if since is None else since.isoformat(),
        "failedPolls": standing.failed_polls,
        "failure": standing.failure[:300],
    }


def _standing(kept: Mapping[str, Any]) -> Standing:
    since = kept["since"]
    return Standing(
        AlarmState(kept["state"]),
        None if since is None else datetime.fromisoformat(since),
        kept["failedPolls"],
        kept["failure"],
    )
