"""A deployment that bakes: the targets that serve are asked for their health until it is over, and one unwell fails it.

Each has an event of its own for that (``MonitorHealth``), which begins and ends with the phase. Under the deployment's
lock, in the caller's transaction. Alarms are watched over all of a deployment (``hooks.deployments.watching``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.deployments.outcomes import EventStatus
from hooks.deployments.phases import MONITOR_HEALTH
from hooks.deployments.planning import TargetStatus
from hooks.deployments.rows import Run, events_of, first_open, targets_of
from hooks.deployments.targets import cut_off, forward
from hooks.models.deployment import DeploymentEvent, DeploymentTarget

CUSTOMER_APPLICATION_UNHEALTHY = "CUSTOMER_APPLICATION_UNHEALTHY"


def open_monitor(session: Session, target: DeploymentTarget) -> DeploymentEvent | None:
    """The event of a target that is watched, or waits for it; None for one that is elsewhere."""
    event = first_open(events_of(session, target.id))
    return event if event is not None and event.name == MONITOR_HEALTH else None


def begin(session: Session, run: Run, now: datetime) -> None:
    """The deployment bakes from now on: what waits to be watched is."""
    for target in targets_of(session, run.deployment.id):
        if target.status == TargetStatus.READY and open_monitor(session, target) is not None:
            forward(session, run, target, now)


def end(session: Session, run: Run, now: datetime) -> None:
    """It has baked: what was watched was well. What an agent still runs for it is in vain."""
    for target in targets_of(session, run.deployment.id):
        event = None if target.status in _OVER else open_monitor(session, target)
        if event is None:
            continue
        has_begun = target.status == TargetStatus.IN_PROGRESS
        event.status = (EventStatus.SUCCEEDED if has_begun else EventStatus.SKIPPED).value
        event.started_at, event.ended_at, event.message = event.started_at or (now if has_begun else None), now, ""
        session.flush()
        if first_open(events_of(session, target.id)) is None:
            forward(session, run, target, now)
        else:
            target.status = TargetStatus.READY.value
    session.flush()


def unwell(targets: Iterable[DeploymentTarget]) -> list[DeploymentTarget]:
    """Those that have failed while they were watched."""
    return [
        each
        for each in targets
        if each.status == TargetStatus.FAILED and each.details.get("brokenAt") == MONITOR_HEALTH
    ]


def break_off(session: Session, run: Run, target: DeploymentTarget, now: datetime) -> bool:
    """The deployment ends early: a target that is watched, or waits for it, has had its part. False: it is elsewhere.

    What has no side of its own is given back to the original by the undo.
    """
    if open_monitor(session, target) is None:
        return False
    keeps_it = bool(target.fleet) or not run.is_blue_green
    cut_off(session, run, target, TargetStatus.SUCCEEDED if keeps_it else TargetStatus.SKIPPED, now)
    return True


_OVER = frozenset({TargetStatus.SUCCEEDED, TargetStatus.FAILED, TargetStatus.SKIPPED})
