"""What a machine tells after it was given up: what is decided stays decided, and what is installed is told as it is.

An event that has failed because its agent was not heard of keeps that end: others were decided by it. But an Install that
had come to its end on the machine has changed what is there, and the next deployment begins from what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from hooks.deployments.lifecycle import INSTALL
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.planning import TargetStatus
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentEvent,
    DeploymentInstallation,
    DeploymentTarget,
)
from registry import audit

LATE = "the machine told later that it had succeeded there"


@dataclass(frozen=True, slots=True)
class Found:
    """What an agent has seen with its own eyes of a group: ``changed`` and ``missing`` of its ``files`` are named up to 20."""

    group_id: str
    deployment_id: str
    files: int
    changed_count: int
    missing_count: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    is_complete: bool

    def as_json(self) -> dict[str, Any]:
        """As the row has it."""
        return {
            "deploymentId": self.deployment_id,
            "files": self.files,
            "changedCount": self.changed_count,
            "missingCount": self.missing_count,
            "changed": list(self.changed),
            "missing": list(self.missing),
            "isComplete": self.is_complete,
        }


def told_late(
    session: Session, agent: DeploymentAgent, deployment: Deployment, target: DeploymentTarget, event: DeploymentEvent, *,
    result: EventResult, now: datetime,
) -> None:  # fmt: skip
    """A report about an event that has its end already. Nothing happens unless it says the contrary."""
    is_contrary = event.status == EventStatus.FAILED.value and result.status is EventStatus.SUCCEEDED
    if not is_contrary or result.event != event.name or LATE in event.message:
        return
    event.message = f"{event.message}; {LATE}"
    about = {"deployment": deployment.id, "event": event.name, "status": result.status.value}
    audit.record(session, now, f"agent/{agent.name}", "agent.late_event", f"agent/{agent.name}", **about)
    row = session.get(DeploymentInstallation, (deployment.group_id, target.name), with_for_update=True)
    if event.name == INSTALL and row is not None:
        _correct(session, row, deployment, target, now)


def put_right(
    session: Session, agent: DeploymentAgent, row: DeploymentInstallation, found: Found, now: datetime
) -> None:
    """An agent has looked, and ``found`` this of a group.

    It is believed over the rows only where the last deployment has failed on this machine: that left it open.
    """
    is_known = row.deployment_id == found.deployment_id and bool(row.revision)
    if not found.is_complete or is_known:
        return
    deployment = session.get(Deployment, found.deployment_id)
    if deployment is None or deployment.group_id != row.group_id:
        return
    target = session.scalar(
        select(DeploymentTarget).where(
            DeploymentTarget.deployment_id == deployment.id,
            DeploymentTarget.agent_id == agent.id,
            exists().where(DeploymentEvent.target_id == DeploymentTarget.id, DeploymentEvent.started_at.is_not(None)),
        )
    )
    if target is not None:
        session.refresh(row, with_for_update=True)
        _correct(session, row, deployment, target, now)


def _correct(
    session: Session, row: DeploymentInstallation, deployment: Deployment, target: DeploymentTarget, now: datetime
) -> None:
    goes_on = exists().where(
        DeploymentTarget.deployment_id == Deployment.id,
        DeploymentTarget.name == target.name,
        DeploymentTarget.id != target.id,
        Deployment.group_id == row.group_id,
        DeploymentTarget.status == TargetStatus.IN_PROGRESS.value,
    )
    if row.is_healthy or session.scalar(select(goes_on)):
        return  # what goes on there says itself what it installs
    row.deployment_id, row.revision, row.installed_at = deployment.id, deployment.revision, now
