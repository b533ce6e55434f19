"""One target of a deployment: how it goes from event to event. Under the deployment's lock, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import happenings
from hooks.deployments.lifecycle import APPLICATION_STOP, DOWNLOAD_BUNDLE, INSTALL
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.phases import MONITOR_HEALTH, TERMINATE, Phase, opens
from hooks.deployments.planning import TargetStatus
from hooks.deployments.platform import Actor, Remains
from hooks.deployments.repository_tokens import end_tokens
from hooks.deployments.rows import Run, events_of, first_open, has_ended, plan_of
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentInstallation, DeploymentTarget
from registry.db import table_of
from registry.repos.sealed_fields import SealedField

QUEUE = "deployments"
"""The queue of all jobs of deployments."""
EVENT_KIND = "deployment.event"
"""The job that carries out an engine's event of a target."""
UNDO_KIND = "deployment.undo"
"""The job that puts right what a deployment has left half done at a target."""
IGNORABLE = frozenset({APPLICATION_STOP, "BeforeBlockTraffic", "AfterBlockTraffic"})
"""Scripts of the release that goes: ``ignoreApplicationStopFailures`` passes over their failure, and they may be skipped."""
NEEDED = frozenset({DOWNLOAD_BUNDLE, INSTALL, "AllowTraffic", "BlockTraffic"})
"""Without them there is no deployment: their failure cannot be ignored."""
NO_ANSWER = "the agent did not answer"
_MAX_MESSAGE = 4000


def subject_of(deployment_id: str) -> str:
    """What the jobs of a deployment are about."""
    return f"deployment:{deployment_id}"


def log_context(event_id: int) -> str:
    """What the sealed log of an event is bound to."""
    return f"deployment-event:{event_id}"


def sealed_event_logs() -> SealedField:
    """Where the tails of events' logs lie, for whoever rotates the server's keys."""
    table = table_of(DeploymentEvent)
    rows = select(table.c.id, table.c.sealed_log)
    return SealedField("logs of deployments", table, "sealed_log", rows, lambda row: log_context(row.id))


def let_go(session: Session, run: Run, target: DeploymentTarget, now: datetime) -> None:
    """The deployment goes to a target: it gets all its events, and begins the first."""
    skipped = frozenset(run.deployment.options.get("skipEvents") or ())
    events = []
    for position, planned in enumerate(run.platform.events(run.facts(), plan_of(target))):
        is_skipped = planned.name in skipped
        events.append(
            DeploymentEvent(
                target_id=target.id,
                position=position,
                name=planned.name,
                actor=planned.actor.value,
                status=EventStatus.SKIPPED.value if is_skipped else EventStatus.PENDING.value,
                message="skipped, as was asked for" if is_skipped else "",
                ended_at=now if is_skipped else None,
            )
        )
    session.add_all(events)
    target.status, target.started_at = TargetStatus.IN_PROGRESS.value, now
    happenings.tell_target(session, run, target, now)
    forward(session, run, target, now, events)


def forward(
    session: Session,
    run: Run,
    target: DeploymentTarget,
    now: datetime,
    events: Sequence[DeploymentEvent] | None = None,
) -> None:
    """Go to a target's first open event: wait where the deployment is not that far, end the target where there is none.

    ``events`` are all of its events, where the caller has them.
    """
    event = first_open(events_of(session, target.id) if events is None else events)
    target.updated_at = now
    if event is None:
        _end(session, run, target, TargetStatus.SUCCEEDED, now)
    elif not opens(Phase(run.deployment.phase), event.name, target.fleet, is_blue_green=run.is_blue_green):
        if target.status != TargetStatus.READY:
            target.status = TargetStatus.READY.value
            happenings.tell_target(session, run, target, now)
    else:
        target.status = TargetStatus.IN_PROGRESS.value
        if event.actor == Actor.ENGINE.value and run.goes_on:
            enqueue_event(session, run, target, event)


def enqueue_event(
    session: Session, run: Run, target: DeploymentTarget, event: DeploymentEvent, after_seconds: float = 0
) -> None:
    """Let a worker carry an event out. Jobs about one target follow each other, whatever deployment they are of."""
    session.flush()
    enqueue(
        session,
        EVENT_KIND,
        {"deployment_id": run.deployment.id, "event_id": event.id},
        queue=QUEUE,
        dedupe=f"{EVENT_KIND}:{event.id}",
        run_after_seconds=after_seconds,
        max_attempts=PATIENT_ATTEMPTS,
        subject=subject_of(run.deployment.id),
        serial_key=_serial_key(run, target),
    )


def _serial_key(run: Run, target: DeploymentTarget) -> str:
    return f"deployment:{run.group.id}:{target.name}"[:255]


def enqueue_undo(session: Session, run: Run, target: DeploymentTarget, after_seconds: float = 0) -> None:
    """Let a worker put right what was left half done at a target."""
    enqueue(
        session,
        UNDO_KIND,
        {"deployment_id": run.deployment.id, "target_id": target.id},
        queue=QUEUE,
        dedupe=f"{UNDO_KIND}:{target.id}",
        run_after_seconds=after_seconds,
        max_attempts=PATIENT_ATTEMPTS,
        subject=subject_of(run.deployment.id),
        serial_key=_serial_key(run, target),
    )


def close_event(
    session: Session, parts: Parts, run: Run, target: DeploymentTarget, event: DeploymentEvent, *,
    result: EventResult, now: datetime,
) -> None:  # fmt: skip
    """Write how an event has ended, and go on with its target. Nothing happens for one that has its end already."""
    if has_ended(event):
        return
    if _is_agents_part(run, event, result):
        if result.log:
            event.sealed_log = parts.sealer.seal(result.log.encode(), log_context(event.id))
        hand_over(event, Actor.ENGINE)
        target.updated_at = now
        enqueue_event(session, run, target, event)
        return
    event.status = result.status.value
    event.error_code, event.agent_code = result.code.aws_name, result.code.number
    event.message, event.script = result.message[:_MAX_MESSAGE], result.script[:_MAX_MESSAGE]
    if result.log:
        event.sealed_log = parts.sealer.seal(result.log.encode(), log_context(event.id))
    event.ended_at = now
    session.flush()
    if event.actor == Actor.AGENT.value:
        end_tokens(session, run.deployment, target.name, now)
    if event.name == INSTALL and result.status is EventStatus.SUCCEEDED:
        _note_installation(session, run, target, now, is_healthy=True, is_new=True)
    if run.is_stopping and first_open(events_of(session, target.id)) is not None:
        cut_off(session, run, target, TargetStatus.FAILED, now)
    elif result.status is not EventStatus.FAILED or _passes_over(run, event):
        forward(session, run, target, now)
    elif run.option("guidedFailure"):
        await_answer(session, run, target, event, now)
    else:
        fail(session, run, target, now)


def _is_agents_part(run: Run, event: DeploymentEvent, result: EventResult) -> bool:
    """Whether what has ended well is only the agent's part of an event that goes on."""
    is_well = result.status is EventStatus.SUCCEEDED and not run.is_stopping
    return event.name == MONITOR_HEALTH and event.actor == Actor.AGENT.value and is_well


def hand_over(event: DeploymentEvent, actor: Actor) -> None:
    """Let somebody else go on with an event. It has begun, and is offered to the other as a new one."""
    event.actor, event.status = actor.value, EventStatus.PENDING.value
    event.offered_at = event.sequence = None


def give_up(session: Session, run: Run, target: DeploymentTarget, now: datetime) -> None:
    """A target has failed before its deployment came to it: its agent is lost. If it comes back, nothing has changed."""
    let_go(session, run, target, now)
    event = first_open(events_of(session, target.id))
    if event is None:
        return
    # Whatever may be passed over elsewhere: nothing of this has been tried.
    event.status, event.ended_at, event.message = EventStatus.FAILED.value, now, NO_ANSWER
    event.error_code, event.agent_code = ErrorCode.UNKNOWN_ERROR.aws_name, ErrorCode.UNKNOWN_ERROR.number
    target.started_at = None
    session.flush()
    if run.option("guidedFailure"):
        await_answer(session, run, target, event, now)
    else:
        cut_off(session, run, target, TargetStatus.FAILED, now)


def _passes_over(run: Run, event: DeploymentEvent) -> bool:
    return event.name in IGNORABLE and bool(run.deployment.options.get("ignoreApplicationStopFailures"))


def await_answer(session: Session, run: Run, target: DeploymentTarget, event: DeploymentEvent, now: datetime) -> None:
    """Pause the deployment because a target failed: somebody says whether it is retried, ignored or has failed."""
    waiting = {**run.deployment.details.get("awaiting", {}), target.name: event.id}
    run.note(awaiting=waiting)
    target.updated_at = now
    run.pause(now)
    happenings.tell(session, run, happenings.PAUSED, now, target=target.name, lifecycle_event=event.name)


def fail(session: Session, run: Run, target: DeploymentTarget, now: datetime) -> None:
    """A target has failed: what was left of it is not done, and what was half done is put right."""
    cut_off(session, run, target, TargetStatus.FAILED, now)
    if not run.is_blue_green and target.started_at is not None:
        enqueue_undo(session, run, target)


def cut_off(session: Session, run: Run, target: DeploymentTarget, status: TargetStatus, now: datetime) -> None:
    """End a target before its time; its events that have not begun are skipped.

    ``brokenAt`` of its details is the last one that had begun, "" for none: it says how much may be half done there.
    """
    events = events_of(session, target.id)
    if events and status is not TargetStatus.SUCCEEDED:
        # One that is to be repeated has not begun, and has its code from the first time.
        begun = [event.name for event in events if event.started_at is not None or event.error_code is not None]
        target.details = {**target.details, "brokenAt": begun[-1] if begun else ""}
    for event in _open_events(events):
        event.status, event.ended_at = EventStatus.SKIPPED.value, now
    _end(session, run, target, status, now)


def _open_events(events: Sequence[DeploymentEvent]) -> list[DeploymentEvent]:
    return [event for event in events if not has_ended(event)]


def _end(session: Session, run: Run, target: DeploymentTarget, status: TargetStatus, now: datetime) -> None:
    target.status, target.ended_at, target.updated_at = status.value, now, now
    end_tokens(session, run.deployment, target.name, now)
    events = events_of(session, target.id)
    installs = any(event.name == INSTALL for event in events)
    # Where nothing has begun all is as it was, and counts as it did.
    is_touched = any(event.started_at for event in events) or "retries" in target.details
    if installs and status is not TargetStatus.SKIPPED and is_touched:
        _note_installation(session, run, target, now, is_healthy=status is TargetStatus.SUCCEEDED, is_new=False)
    happenings.tell_target(session, run, target, now)


def _note_installation(
    session: Session, run: Run, target: DeploymentTarget, now: datetime, *, is_healthy: bool, is_new: bool
) -> None:
    """Keep what is there for the next deployment's order; the first failure at a target leaves it without a revision."""
    row = session.get(DeploymentInstallation, (run.group.id, target.name), with_for_update=True)
    if row is None:
        row = DeploymentInstallation(
            group_id=run.group.id, target=target.name, deployment_id=run.deployment.id, revision={}, installed_at=now
        )
        session.add(row)
    row.is_healthy = is_healthy
    if is_new:
        row.deployment_id, row.revision, row.installed_at = run.deployment.id, run.deployment.revision, now
    session.flush()


def forget_installation(session: Session, run: Run, target: DeploymentTarget, now: datetime, remains: Remains) -> None:
    """What a deployment had installed was undone: the last good revision is there again, or nothing; or it could not be."""
    if remains is Remains.NEW:
        return
    row = session.get(DeploymentInstallation, (run.group.id, target.name), with_for_update=True)
    if row is not None and remains is Remains.NOTHING:
        session.delete(row)  # also where an earlier deployment had brought what is gone
        return
    has_let_go = any(each.name == TERMINATE and each.started_at for each in events_of(session, target.id))
    if row is None or row.deployment_id != run.deployment.id or has_let_go:
        return
    good = session.get(Deployment, run.group.last_successful_id) if run.group.last_successful_id is not None else None
    if good is None:
        session.delete(row)
    else:
        row.deployment_id, row.revision, row.is_healthy, row.installed_at = good.id, good.revision, True, now


def told_of(event: DeploymentEvent) -> str:
    """Why an event failed, in one line."""
    code = event.error_code or ErrorCode.UNKNOWN_ERROR.aws_name
    return f"{event.name} failed ({code})" + (f": {event.message.splitlines()[0][:300]}" if event.message else "")
