"""Deployments that ended long ago, and what must not be of those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, literal, or_, select
from sqlalchemy.orm import Session, aliased

from hooks.deployments.ending import STEP_KIND
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.models.deployment import (
    Deployment,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
)
from hooks.models.job import Job, JobState

_BATCH = 100
_OPEN_TARGETS = (TargetStatus.PENDING.value, TargetStatus.IN_PROGRESS.value, TargetStatus.READY.value)
_OPEN_EVENTS = ("Pending", "InProgress")
_FINAL = (DeploymentStatus.SUCCEEDED.value, DeploymentStatus.FAILED.value, DeploymentStatus.STOPPED.value)


def forget_old(session: Session, before: datetime) -> int:
    """Delete up to 100 deployments that ended before a moment, with their targets and events; return how many.

    The last good and the last attempted one of each group stay, and those that targets have installed.
    """
    last = exists().where(
        or_(DeploymentGroup.last_successful_id == Deployment.id, DeploymentGroup.last_attempted_id == Deployment.id)
    )
    installed = exists().where(DeploymentInstallation.deployment_id == Deployment.id)
    old = (
        select(Deployment.id)
        .where(Deployment.completed_at < before, ~last, ~installed)
        .order_by(Deployment.completed_at)
        .limit(_BATCH)
    )
    ids = session.scalars(old).all()
    if ids:
        # Their targets and events go with them (ON DELETE CASCADE).
        session.execute(
            delete(Deployment).where(Deployment.id.in_(ids)), execution_options={"synchronize_session": False}
        )
    return len(ids)


def faults(session: Session) -> list[str]:
    """What cannot be among deployments, one line each, for ``fsck``. An empty list is good."""
    found = [
        f"deployment {each} has a status and an end that disagree"
        for each in _which(session, Deployment.status.in_(_FINAL) == Deployment.completed_at.is_(None))
    ]
    target_of = DeploymentTarget.deployment_id == Deployment.id
    is_open = exists().where(target_of, DeploymentTarget.status.in_(_OPEN_TARGETS))
    found += [
        f"deployment {each} has ended, and a target of it has not"
        for each in _which(session, Deployment.completed_at.is_not(None), is_open)
    ]
    event = (
        exists()
        .where(target_of, DeploymentEvent.target_id == DeploymentTarget.id, DeploymentEvent.status.in_(_OPEN_EVENTS))
        .where(DeploymentTarget.status.not_in(_OPEN_TARGETS))
    )
    found += [f"a target of deployment {each} has ended, and an event of it has not" for each in _which(session, event)]
    has_job = exists().where(
        Job.kind == STEP_KIND,
        Job.subject == literal("deployment:") + Deployment.id,
        Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
    )
    found += [
        f"deployment {each} goes on, and no job looks at it"
        for each in _which(session, Deployment.completed_at.is_(None), ~has_job)
    ]
    other = aliased(Deployment)
    goes_on = (Deployment.completed_at.is_(None), Deployment.status != DeploymentStatus.QUEUED.value)
    beside = exists().where(
        other.group_id == Deployment.group_id,
        other.id != Deployment.id,
        other.completed_at.is_(None),
        other.status != DeploymentStatus.QUEUED.value,
    )
    return found + [f"deployment {each} is not the only one of its group" for each in _which(session, *goes_on, beside)]


def _which(session: Session, *conditions: ColumnElement[bool]) -> Sequence[str]:
    return session.scalars(select(Deployment.id).where(*conditions).order_by(Deployment.id)).all()
