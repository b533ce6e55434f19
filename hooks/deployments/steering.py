"""What people do to deployments that go on, and to those that have ended. In the caller's transaction.

Each raises NotFound for a deployment that is not there, and Conflict for one whose state does not allow it.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import happenings, silence
from hooks.deployments.course import begin_end, enter, go_on
from hooks.deployments.ending import can_go_back, check_room, enqueue_step, last_good, new_id, roll_back
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.phases import Phase
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.platform import Actor, again
from hooks.deployments.rows import Run, events_of, first_open, lock, lock_group, run_of, targets_of
from hooks.deployments.targets import IGNORABLE, NEEDED, enqueue_event, fail, forward
from hooks.models.deployment import Deployment, DeploymentTarget
from registry.errors import Conflict, Invalid, NotFound


class WaitType(Enum):
    """CodeDeploy's ``deploymentWaitType``."""

    READY = "READY_WAIT"
    TERMINATION = "TERMINATION_WAIT"


class Answer(Enum):
    """What somebody says to a failed target of a deployment with guided failure."""

    RETRY = "retry"
    IGNORE = "ignore"
    FAIL = "fail"


def stop(
    session: Session,
    parts: Parts,
    deployment_id: str,
    now: datetime,
    *,
    actor: str,
    rolls_back: bool | None = None,
) -> Deployment:
    """Stop a deployment: nothing more of it begins, and it is Stopped when what is under way has ended.

    ``rolls_back`` (``autoRollbackEnabled``) None: as its configuration says.
    """
    run = _open(session, parts, deployment_id, may_be_queued=True)
    if run.is_stopping:
        raise Conflict(f"deployment {deployment_id} is being stopped already")
    run.deployment.stopped_by = actor
    run.record(session, now, actor, "deployment.stop", rolls_back=rolls_back)
    _begin_end(run, now, DeploymentStatus.STOPPED, "MANUAL_STOP", f"stopped by {actor}", rolls_back)
    go_on(session, parts, run, now)
    return run.deployment


def stop_on_alarm(session: Session, parts: Parts, deployment_id: str, now: datetime, message: str) -> bool:
    """Stop a deployment because an alarm fires; False when it does not go on any more."""
    run = lock(session, parts, deployment_id)
    if run.deployment.completed_at is not None or run.is_stopping or run.status is DeploymentStatus.QUEUED:
        return False
    _begin_end(run, now, DeploymentStatus.STOPPED, "ALARM_ACTIVE", message, None)
    go_on(session, parts, run, now)
    return True


def _begin_end(
    run: Run, now: datetime, status: DeploymentStatus, code: str, message: str, rolls_back: bool | None
) -> None:
    begin_end(run, status, code, message, rolls_back=rolls_back)
    run.note(stoppingSince=now.isoformat())


def pause(session: Session, parts: Parts, deployment_id: str, now: datetime, *, actor: str) -> Deployment:
    """Let nothing more of a deployment begin until it is resumed; what is under way comes to its end."""
    run = _open(session, parts, deployment_id)
    if run.is_stopping or run.deployment.is_paused:
        raise Conflict(f"deployment {deployment_id} is {'being stopped' if run.is_stopping else 'paused already'}")
    run.pause(now, by=actor)
    run.record(session, now, actor, "deployment.pause")
    happenings.tell(session, run, happenings.PAUSED, now, by=actor)
    session.flush()
    return run.deployment


def resume(session: Session, parts: Parts, deployment_id: str, now: datetime, *, actor: str) -> Deployment:
    """Go on with a paused deployment. Targets that failed under guided failure have to be answered for first."""
    run = _open(session, parts, deployment_id)
    if not run.deployment.is_paused:
        raise Conflict(f"deployment {deployment_id} is not paused")
    waiting = sorted(run.deployment.details.get("awaiting", {}))
    if waiting:
        raise Conflict(f"{', '.join(waiting)} failed; say first whether to retry, to ignore it, or that it has failed")
    run.record(session, now, actor, "deployment.resume")
    _resume(session, parts, run, now)
    return run.deployment


def _resume(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    silence.forgive(run, run.unpause(now), now)
    for target in targets_of(session, run.deployment.id):
        if target.status == TargetStatus.IN_PROGRESS:
            event = first_open(events_of(session, target.id))
            target.updated_at = now
            if event is not None and event.actor == Actor.ENGINE.value:
                enqueue_event(session, run, target, event)
    go_on(session, parts, run, now)


def answer_failure(
    session: Session,
    parts: Parts,
    deployment_id: str,
    target_name: str,
    answer: Answer,
    now: datetime,
    *,
    actor: str,
) -> Deployment:
    """Say what becomes of a target that failed under guided failure; the deployment goes on after the last answer.

    ``RETRY`` does the failed event again, ``IGNORE`` goes on behind it (which is not possible for what a deployment
    consists of: DownloadBundle, Install, and the traffic's events), ``FAIL`` lets the target have failed. A deployment that
    somebody has paused stays paused.
    """
    run = _open(session, parts, deployment_id)
    waiting = dict(run.deployment.details.get("awaiting", {}))
    target = _target(session, run, target_name)
    if target_name not in waiting:
        raise Conflict(f"nobody has to say anything about {target_name} of deployment {deployment_id}")
    event = next(each for each in events_of(session, target.id) if each.id == waiting[target_name])
    if answer is Answer.IGNORE and event.name in NEEDED:
        raise Conflict(f"{event.name} cannot be ignored: without it {target_name} has nothing of this deployment")
    del waiting[target_name]
    run.note(awaiting=waiting or None)
    run.record(
        session, now, actor, "deployment.answer", target=target_name, lifecycle_event=event.name, answer=answer.value
    )
    if answer is not Answer.FAIL:
        target.started_at = target.started_at or now  # one that was given up had not begun
    match answer:
        case Answer.RETRY:
            event.status, event.started_at, event.ended_at, event.offered_at = (
                EventStatus.PENDING.value,
                None,
                None,
                None,
            )
            target.details = again(target.details, event.name)
            forward(session, run, target, now)
        case Answer.IGNORE:
            forward(session, run, target, now)
        case Answer.FAIL:
            fail(session, run, target, now)
    if not waiting and "pausedBy" not in run.deployment.details:
        _resume(session, parts, run, now)
    return run.deployment


def continue_deployment(
    session: Session, parts: Parts, deployment_id: str, wait_type: WaitType, now: datetime, *, actor: str
) -> Deployment:
    """End a wait (ContinueDeployment): send traffic to the new targets now, or let the originals go now."""
    run = _open(session, parts, deployment_id)
    phase = Phase(run.deployment.phase)
    wanted = Phase.READY_WAIT if wait_type is WaitType.READY else Phase.BAKE
    if phase is not wanted or run.is_stopping or run.deployment.is_paused:
        raise Conflict(f"deployment {deployment_id} does not wait for that ({wait_type.value}) now")
    run.record(session, now, actor, "deployment.continue", wait=wait_type.value)
    enter(session, run, Phase.REROUTE if phase is Phase.READY_WAIT else Phase.TERMINATE, now)
    go_on(session, parts, run, now)
    return run.deployment


def skip_event(
    session: Session,
    parts: Parts,
    deployment_id: str,
    target_name: str,
    event_name: str,
    now: datetime,
    *,
    actor: str,
) -> Deployment:
    """Pass over a script of the release that goes (a stuck ApplicationStop) on one target; what it still reports is late."""
    run = _open(session, parts, deployment_id)
    if event_name not in IGNORABLE:
        raise Invalid(f"{event_name} cannot be skipped; {', '.join(sorted(IGNORABLE))} can")
    target = _target(session, run, target_name)
    event = first_open(events_of(session, target.id)) if target.status == TargetStatus.IN_PROGRESS else None
    if event is None or event.name != event_name or run.is_stopping:
        raise Conflict(f"{target_name} is not at {event_name} in deployment {deployment_id}")
    event.status, event.ended_at, event.message = EventStatus.SKIPPED.value, now, f"skipped by {actor}"
    session.flush()
    run.record(session, now, actor, "deployment.skip-event", target=target_name, lifecycle_event=event_name)
    forward(session, run, target, now)
    go_on(session, parts, run, now)
    return run.deployment


def retry_failed(
    session: Session,
    parts: Parts,
    deployment_id: str,
    now: datetime,
    *,
    actor: str,
    skips: tuple[str, ...] = (),
) -> Deployment:
    """Deploy the same revision again to the targets alone that have not succeeded: a new deployment.

    ``skips`` are events to pass over there (a stuck ApplicationStop).
    """
    run = lock(session, parts, deployment_id)
    row = run.deployment
    if row.completed_at is None:
        raise Conflict(f"deployment {deployment_id} has not ended; its failed targets can be retried when it has")
    if run.is_blue_green:
        raise Conflict("a blue/green deployment is made anew as a whole")
    wrong = sorted(set(skips) - IGNORABLE)
    if wrong:
        raise Invalid(f"{', '.join(wrong)} cannot be skipped; {', '.join(sorted(IGNORABLE))} can")
    succeeded = {TargetStatus.SUCCEEDED.value}
    names = [target.name for target in targets_of(session, row.id) if target.status not in succeeded]
    if not names:
        raise Conflict(f"all targets of deployment {deployment_id} have succeeded")
    options = {**row.options, "targets": names, **({"skipEvents": list(skips)} if skips else {})}
    again = _copy(row, now, initiator=actor, options=options)
    _add(session, parts, run, again, now)
    return again


def _copy(row: Deployment, now: datetime, *, initiator: str, options: dict[str, object]) -> Deployment:
    return Deployment(
        id=new_id(),
        application_id=row.application_id,
        group_id=row.group_id,
        creator="user",
        initiator=initiator,
        description=row.description,
        revision=row.revision,
        group_document=row.group_document,
        config_name=row.config_name,
        config_document=row.config_document,
        options=options,
        details={},
        retry_of=row.id,
        subject=row.subject,
        status=DeploymentStatus.QUEUED.value,
        created_at=now,
    )


def _add(session: Session, parts: Parts, run: Run, row: Deployment, now: datetime) -> None:
    """Queue a deployment that follows from another one; a worker begins it when it is its turn."""
    group = lock_group(session, row.group_id)
    check_room(session, group)
    row.previous_revision = last_good(session, group)
    session.add(row)
    session.flush()
    run_of(session, parts, row).record(
        session,
        now,
        row.initiator,
        "deployment.create",
        revision=row.revision,
        options=row.options,
        retry_of=run.deployment.id,
    )
    enqueue_step(session, row.id)


def rollback(session: Session, parts: Parts, deployment_id: str, now: datetime, *, actor: str) -> Deployment:
    """Bring back what was there before a deployment: by a new one. One that goes on is stopped, and then undone."""
    run = lock(session, parts, deployment_id)
    row = run.deployment
    if row.completed_at is None:
        return stop(session, parts, deployment_id, now, actor=actor, rolls_back=True)
    if row.rolled_back_by is not None:
        raise Conflict(f"deployment {deployment_id} has been rolled back already, by {row.rolled_back_by}")
    if not can_go_back(session, row):
        raise Conflict("there is no earlier success of this group to go back to")
    check_room(session, lock_group(session, row.group_id))
    if any(target.fleet for target in targets_of(session, row.id)):
        _check_can_change_sides(session, run)
    return roll_back(session, parts, run, now, initiator=actor, message=f"asked for by {actor}")


def _check_can_change_sides(session: Session, run: Run) -> None:
    """Raise Conflict where the machines of a deployment cannot simply change places again: others have the traffic."""
    row = run.deployment
    if run.is_rollback:
        raise Conflict(f"deployment {row.id} is a rollback itself; deploy the revision that is wanted")
    if not Phase(row.phase).has_rerouted:
        raise Conflict(f"deployment {row.id} has moved no traffic; there is nothing to go back from")
    later = session.scalars(
        select(Deployment).where(
            Deployment.group_id == row.group_id, Deployment.id != row.id, Deployment.started_at > row.started_at
        )
    )
    for each in later:
        if each.completed_at is None or Phase(each.phase).has_rerouted:
            raise Conflict(f"deployment {each.id} has moved traffic since, or will; deploy the revision that is wanted")


def _open(session: Session, parts: Parts, deployment_id: str, *, may_be_queued: bool = False) -> Run:
    run = lock(session, parts, deployment_id)
    if run.deployment.completed_at is not None:
        raise Conflict(f"deployment {deployment_id} has ended ({run.deployment.status})")
    if run.status is DeploymentStatus.QUEUED and not may_be_queued:
        raise Conflict(f"deployment {deployment_id} has not begun")
    return run


def _target(session: Session, run: Run, name: str) -> DeploymentTarget:
    found = session.scalars(
        select(DeploymentTarget).where(
            DeploymentTarget.deployment_id == run.deployment.id, DeploymentTarget.name == name
        )
    ).first()
    if found is None:
        raise NotFound("target", name)
    return found
