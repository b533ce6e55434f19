"""The events of deployments and their targets: each in the transaction of the change it tells of.

They are CodeDeploy's triggers (DeploymentStart, InstanceFailure, …) under this server's names.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.deployments.revisions import digest_of_revision, label
from hooks.deployments.rows import Run
from hooks.models.deployment import DeploymentTarget
from registry import events

STARTED = events.declare("deployment.started", "A deployment has begun.")
READY = events.declare("deployment.ready", "A deployment waits until somebody lets it send traffic to the new targets.")
PAUSED = events.declare("deployment.paused", "A deployment is paused: by somebody, or because a target failed.")
ROLLED_BACK = events.declare(
    "deployment.rolled-back", "A deployment is being undone; rolled_back_by says by which one."
)
ENDED = {
    DeploymentStatus.SUCCEEDED: events.declare("deployment.succeeded", "A deployment has succeeded."),
    DeploymentStatus.FAILED: events.declare("deployment.failed", "A deployment has failed; its error says why."),
    DeploymentStatus.STOPPED: events.declare("deployment.stopped", "A deployment was stopped; its error says why."),
}
TARGET = {
    TargetStatus.IN_PROGRESS: events.declare("deployment-target.started", "A deployment has begun on a target."),
    TargetStatus.READY: events.declare(
        "deployment-target.ready", "A target is ready to be sent traffic, or to be let go."
    ),
    TargetStatus.SUCCEEDED: events.declare("deployment-target.succeeded", "A deployment has succeeded on a target."),
    TargetStatus.FAILED: events.declare("deployment-target.failed", "A deployment has failed on a target."),
}
TARGET_LEFT_OUT = events.declare(
    "deployment-target.left-out", "A target could not be given its traffic back after a deployment broke off there."
)


def tell(session: Session, run: Run, kind: str, now: datetime, **more: Any) -> None:
    """The event ``kind`` of a deployment: of what, where, for whom, and what it undoes or was made for."""
    row = run.deployment
    about = {"brings": label(row.revision), "digest": digest_of_revision(row.revision)}
    for name, value in (("rollback_of", row.rollback_of), ("made_for", row.subject)):
        about |= {name: value} if value is not None else {}
    events.note(
        session,
        kind,
        now,
        domain=run.application.domain,
        application=run.application.name,
        deployment_group=run.group.name,
        deployment=run.deployment.id,
        creator=run.deployment.creator,
        initiator=run.deployment.initiator,
        **{**about, **more},
    )


def tell_target(session: Session, run: Run, target: DeploymentTarget, now: datetime, **more: Any) -> None:
    """A target has the status that it has now."""
    kind = TARGET.get(TargetStatus(target.status))
    if kind is not None:
        tell(session, run, kind, now, target=target.name, fleet=target.fleet, **more)
