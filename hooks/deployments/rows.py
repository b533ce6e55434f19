"""A deployment's rows, read under its lock: the one place where two writers of a deployment meet.

Locks are taken in one order: job, deployment, group, target, event, agent. No transaction locks two deployments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Parts
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.platform import DeploymentFacts, DeploymentPlatform, TargetPlan
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentTarget,
)
from registry import audit
from registry.errors import Conflict, NotFound

SYSTEM = "system"
"""Who acts when nobody does: an audit entry's actor for what follows from rows alone."""
ROLLBACK = "codeDeployRollback"
"""The creator of a deployment that brings an earlier revision back."""
BLUE, GREEN = "Blue", "Green"
_FRESH = {"populate_existing": True}
_ENDED = frozenset({"Succeeded", "Failed", "Skipped"})


@dataclass(slots=True)
class Run:
    """A locked deployment with what it belongs to."""

    deployment: Deployment
    group: DeploymentGroup
    application: DeploymentApplication
    platform: DeploymentPlatform

    @property
    def status(self) -> DeploymentStatus:
        """The deployment's status."""
        return DeploymentStatus(self.deployment.status)

    @property
    def path(self) -> str:
        """How audit entries name the deployment."""
        return f"application/{self.application.name}/group/{self.group.name}/deployment/{self.deployment.id}"

    @property
    def is_rollback(self) -> bool:
        """Whether it brings an earlier revision back."""
        return self.deployment.creator == ROLLBACK

    @property
    def is_blue_green(self) -> bool:
        """Whether its style is BLUE_GREEN; that of containers always is."""
        if self.application.compute_platform == "ECS":
            return True
        style = self.deployment.group_document.get("deploymentStyle") or {}
        return style.get("deploymentType") == "BLUE_GREEN"

    @property
    def is_stopping(self) -> bool:
        """Whether nothing of it is begun any more."""
        return "ending" in self.deployment.details

    @property
    def stopping_since(self) -> datetime | None:
        """When somebody or an alarm stopped it."""
        since = self.deployment.details.get("stoppingSince")
        return None if since is None else datetime.fromisoformat(since)

    @property
    def goes_on(self) -> bool:
        """Whether events of it may begin now."""
        return goes_on(self.deployment)

    def option(self, name: str) -> Any:
        """An option of the start, or of the group, by its name."""
        if name in self.deployment.options:
            return self.deployment.options[name]
        return self.deployment.group_document.get(name)

    @property
    def paused_seconds(self) -> float:
        """How long it has been paused altogether, as far as these pauses are over."""
        return float(self.deployment.details.get("pausedSeconds", 0.0))

    def pause(self, now: datetime, by: str | None = None) -> None:
        """Pause it; ``by`` somebody, who alone lets it go on then, or for an answer."""
        if not self.deployment.is_paused:
            self.note(pausedSince=now.isoformat())
        if by is not None:
            self.note(pausedBy=by)
        self.deployment.is_paused = True

    def unpause(self, now: datetime) -> float:
        """Let it go on. The pause costs it no time; how many seconds it was."""
        since = self.deployment.details.get("pausedSince")
        paused = 0.0 if since is None else (now - datetime.fromisoformat(since)).total_seconds()
        self.note(pausedSince=None, pausedBy=None, pausedSeconds=self.paused_seconds + paused)
        self.deployment.is_paused = False
        return paused

    def note(self, **details: Any) -> None:
        """Change the deployment's details; None takes one away."""
        merged = {**self.deployment.details, **details}
        self.deployment.details = {name: value for name, value in merged.items() if value is not None}

    def record(self, session: Session, now: datetime, actor: str, action: str, **details: Any) -> None:
        """Write an audit entry about this deployment."""
        audit.record(session, now, actor, action, self.path, **details)

    def facts(self) -> DeploymentFacts:
        """The deployment as platforms see it."""
        row = self.deployment
        return DeploymentFacts(
            row.id,
            self.application.name,
            self.application.domain,
            self.group.id,
            self.group.name,
            row.group_document,
            row.config_document,
            row.revision,
            row.previous_revision,
            row.options,
            self.is_rollback,
            {key: str(kept["status"]) for key, kept in row.details.get("hookExecutions", {}).items()},
        )


def goes_on(deployment: Deployment) -> bool:
    """Whether events of a deployment may begin now: it has not ended, and is neither paused nor being stopped."""
    is_open = deployment.completed_at is None and deployment.status != DeploymentStatus.QUEUED
    return is_open and not deployment.is_paused and "ending" not in deployment.details


def lock(session: Session, parts: Parts, deployment_id: str) -> Run:
    """Lock a deployment until the transaction ends, and read it. Raises NotFound."""
    session.flush()
    statement = select(Deployment).where(Deployment.id == deployment_id).with_for_update()
    deployment = session.scalar(statement, execution_options=_FRESH)
    if deployment is None:
        raise NotFound("deployment", deployment_id)
    return run_of(session, parts, deployment)


def run_of(session: Session, parts: Parts, deployment: Deployment) -> Run:
    """A deployment with what it belongs to, for one that is locked already or is only read.

    Raises Conflict on a server that does not have its platform.
    """
    group = session.get_one(DeploymentGroup, deployment.group_id)
    application = session.get_one(DeploymentApplication, deployment.application_id)
    platform = parts.platforms.get(application.compute_platform)
    if platform is None:
        raise Conflict(f"this server does not deploy to {application.compute_platform}")
    return Run(deployment, group, application, platform)


def lock_group(session: Session, group_id: str) -> DeploymentGroup:
    """Lock a group: who is the one deployment of it that goes on is decided under this. Raises NotFound."""
    session.flush()
    statement = select(DeploymentGroup).where(DeploymentGroup.id == group_id).with_for_update()
    group = session.scalar(statement, execution_options=_FRESH)
    if group is None:
        raise NotFound("deployment group", group_id)
    return group


def targets_of(session: Session, deployment_id: str) -> Sequence[DeploymentTarget]:
    """The targets of a locked deployment, in their order."""
    statement = select(DeploymentTarget).where(DeploymentTarget.deployment_id == deployment_id)
    return session.scalars(statement.order_by(DeploymentTarget.position), execution_options=_FRESH).all()


def events_of(session: Session, target_id: int) -> Sequence[DeploymentEvent]:
    """The lifecycle events of a target of a locked deployment, in their order."""
    statement = select(DeploymentEvent).where(DeploymentEvent.target_id == target_id)
    return session.scalars(statement.order_by(DeploymentEvent.position), execution_options=_FRESH).all()


def first_open(events: Iterable[DeploymentEvent]) -> DeploymentEvent | None:
    """The first event that has not ended."""
    return next((event for event in events if event.status not in _ENDED), None)


def has_ended(event: DeploymentEvent) -> bool:
    """Whether an event has its final status."""
    return event.status in _ENDED


def plan_of(target: DeploymentTarget) -> TargetPlan:
    """A target as platforms see it."""
    return TargetPlan(target.name, target.agent_id, target.fleet, target.zone, target.details)


def is_open(target: DeploymentTarget) -> bool:
    """Whether more may come of a target."""
    return target.status in {TargetStatus.PENDING, TargetStatus.IN_PROGRESS, TargetStatus.READY}
