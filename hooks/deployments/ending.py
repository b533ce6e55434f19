"""How a deployment ends, is undone, and lets the next one of its group begin. In the caller's transaction."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from hooks.deployments import happenings
from hooks.deployments.parts import Parts
from hooks.deployments.phases import Phase
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.rows import BLUE, ROLLBACK, SYSTEM, Run, lock_group, run_of, targets_of
from hooks.deployments.targets import QUEUE, UNDO_KIND, enqueue_undo, subject_of
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, forget
from hooks.models.deployment import Deployment, DeploymentGroup
from registry.errors import Conflict, NotFound

MAX_OPEN = 20
"""How many deployments of a group may wait or go on."""
STEP_KIND = "deployment.step"
"""The job that looks at a deployment that goes on: its waits and its time-outs."""
TO_ORIGINALS = "toOriginals"
"""In the details of a rollback without an earlier revision: the traffic goes back to machines that nobody has deployed to."""
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_INHERITED = (
    "ignoreApplicationStopFailures",
    "fileExistsBehavior",
    "targets",
    "targetInstances",
    "maxConcurrent",
    "overrideAlarmConfiguration",
)
_OVERRIDES = "autoRollbackConfiguration"


def new_id() -> str:
    """A deployment's id, as CodeDeploy makes them."""
    return "d-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def next_of(session: Session, group_id: str) -> Deployment | None:
    """The deployment of a locked group that goes on or is to: rollbacks before the others, then the oldest."""
    is_later = case((Deployment.status != DeploymentStatus.QUEUED, 0), (Deployment.creator == ROLLBACK, 1), else_=2)
    return session.scalar(
        select(Deployment)
        .where(Deployment.group_id == group_id, Deployment.completed_at.is_(None))
        .order_by(is_later, Deployment.created_at, Deployment.id)
        .limit(1)
    )


def count_open(session: Session, group_id: str) -> int:
    """How many deployments of a group have not ended."""
    found = session.scalar(
        select(func.count()).where(Deployment.group_id == group_id, Deployment.completed_at.is_(None))
    )
    return found or 0


def check_room(session: Session, group: DeploymentGroup) -> int:
    """How many deployments of a locked group have not ended. Raises NotFound for a deleted group, Conflict for too many."""
    if group.deleted_at is not None:
        raise NotFound("deployment group", group.name)
    found = count_open(session, group.id)
    if found >= MAX_OPEN:
        raise Conflict(f"{found} deployments of group {group.name} wait or go on; stop some of them first")
    return found


def last_good(session: Session, group: DeploymentGroup) -> dict[str, Any] | None:
    """The revision of a group's last success; None when there was none."""
    if group.last_successful_id is None:
        return None
    good = session.get(Deployment, group.last_successful_id)
    return None if good is None or good.details.get(TO_ORIGINALS) else good.revision


def enqueue_step(session: Session, deployment_id: str, after_seconds: float = 0) -> None:
    """Let a worker look at a deployment; one job of each waits at a time."""
    enqueue(
        session,
        STEP_KIND,
        {"deployment_id": deployment_id},
        queue=QUEUE,
        dedupe=f"{STEP_KIND}:{deployment_id}",
        run_after_seconds=after_seconds,
        max_attempts=PATIENT_ATTEMPTS,
        subject=subject_of(deployment_id),
    )


def finish(
    session: Session,
    parts: Parts,
    run: Run,
    status: DeploymentStatus,
    code: str | None,
    message: str,
    *,
    now: datetime,
) -> None:
    """Write the one final status of a deployment, put right and undo what it has to, and let the next one begin."""
    row = run.deployment
    row.status, row.completed_at, row.wait_until, row.is_paused = status.value, now, None, False
    row.error_code = code
    row.error_message = message if status is not DeploymentStatus.SUCCEEDED else ""
    if message:
        run.note(result=message)
    session.flush()
    group = lock_group(session, row.group_id)
    if status is DeploymentStatus.SUCCEEDED:
        group.last_successful_id = row.id
    run.record(session, now, SYSTEM, f"deployment.{status.lower()}", error=code, told=message)
    happenings.tell(session, run, happenings.ENDED[status], now, error=code, message=message)
    if status is not DeploymentStatus.SUCCEEDED:
        _put_right(session, run)
        _roll_back_by_itself(session, parts, run, now)
    forget(session, STEP_KIND, subject_of(row.id))
    following = next_of(session, row.group_id)
    if following is not None:
        forget(session, STEP_KIND, subject_of(following.id))
        enqueue_step(session, following.id)
    parts.on_end(session, row)


def _put_right(session: Session, run: Run) -> None:
    """In place only what did not come to its end; blue/green all of it, as long as the traffic has not changed sides."""
    for target in targets_of(session, run.deployment.id):
        is_half_done = target.status != TargetStatus.SUCCEEDED
        if run.is_blue_green:
            is_half_done = target.fleet == "" or not Phase(run.deployment.phase).has_rerouted
        if target.started_at is not None and is_half_done:
            enqueue_undo(session, run, target)


def _roll_back_by_itself(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    row = run.deployment
    if not _is_to_be_undone(run):
        return
    if run.is_rollback:
        row.rollback_message = "a deployment that undoes another one is not undone itself"
    elif not any(target.started_at for target in targets_of(session, row.id)):
        row.rollback_message = "nothing was changed, so that nothing is undone"
    elif run.is_blue_green and not Phase(row.phase).has_rerouted:
        row.rollback_message = "the traffic stays with the original targets, or is given back to them"
    elif not can_go_back(session, row):
        row.rollback_message = "there is no earlier success of this group to go back to"
    else:
        roll_back(session, parts, run, now, initiator=SYSTEM, message=f"automatic, after {row.id} {row.status.lower()}")


def _is_to_be_undone(run: Run) -> bool:
    row = run.deployment
    asked = (row.details.get("ending") or {}).get("rollsBack")
    if asked is not None:
        return bool(asked)
    document = row.options.get(_OVERRIDES) or row.group_document.get(_OVERRIDES) or {}
    if not document.get("enabled"):
        return False
    if row.status == DeploymentStatus.FAILED:
        reason = "DEPLOYMENT_FAILURE"
    else:
        reason = "DEPLOYMENT_STOP_ON_ALARM" if row.error_code == "ALARM_ACTIVE" else "DEPLOYMENT_STOP_ON_REQUEST"
    return reason in (document.get("events") or ())


def can_go_back(session: Session, row: Deployment) -> bool:
    """Whether there is something to go back to: an earlier revision, or the original machines with what they have."""
    return row.previous_revision is not None or any(target.fleet == BLUE for target in targets_of(session, row.id))


def roll_back(session: Session, parts: Parts, run: Run, now: datetime, *, initiator: str, message: str) -> Deployment:
    """Make the deployment that brings the revision from before ``run`` back; it goes ahead of those that are queued.

    Blue/green may have none (``can_go_back``): then the sides change places all the same. Its revision is the one whose
    scripts take the replacements out of the traffic.
    """
    row = run.deployment
    earlier = row.previous_revision
    undoing = Deployment(
        id=new_id(),
        application_id=row.application_id,
        group_id=row.group_id,
        status=DeploymentStatus.QUEUED.value,
        creator=ROLLBACK,
        initiator=initiator,
        description=f"rollback of {row.id}",
        revision=row.revision if earlier is None else earlier,
        previous_revision=row.revision,
        group_document=row.group_document,
        config_name=row.config_name,
        config_document=row.config_document,
        options={name: row.options[name] for name in _INHERITED if name in row.options},
        details={TO_ORIGINALS: True} if earlier is None else {},
        rollback_of=row.id,
        rollback_message=message,
        subject=row.subject,
        created_at=now,
    )
    session.add(undoing)
    row.rolled_back_by, row.rollback_message = undoing.id, message
    session.flush()
    run_of(session, parts, undoing).record(session, now, initiator, "deployment.rollback", of=row.id)
    happenings.tell(session, run, happenings.ROLLED_BACK, now, rolled_back_by=undoing.id, message=message)
    enqueue_step(session, undoing.id)
    return undoing


def forget_undo(session: Session, deployment_id: str) -> None:
    """Nothing of a deployment is to be put right any more."""
    forget(session, UNDO_KIND, subject_of(deployment_id))
