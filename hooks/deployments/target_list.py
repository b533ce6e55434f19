"""The targets of a deployment for a page: the worst first, a few at a time, and the waves in which they are taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Parts
from hooks.deployments.planning import LetGo, Monitor, Rules, TargetStatus, TargetView, View, plan
from hooks.deployments.targets import IGNORABLE, NEEDED, log_context
from hooks.deployments.traffic_steps import traffic_steps
from hooks.deployments.views import TargetView as ShownTarget
from hooks.deployments.views import shown_targets
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentTarget

MOST_WAVES = 30
WORST_FIRST = ("Failed", "Unknown", "InProgress", "Ready", "Pending", "Skipped", "Succeeded")
"""Statuses of targets in the order in which somebody wants to see them."""


@dataclass(frozen=True, slots=True)
class TrafficShare:
    """How much of the traffic the new side has: ``percent`` now, ``steps`` all that are gone through."""

    percent: int
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TargetCard:
    """A target with what may be done about it.

    ``awaits`` is the event that somebody has to answer for, "" for none, and ``may_ignore`` whether that may be ignored;
    ``skips`` the event that may be passed over now, "" for none.
    """

    target: ShownTarget
    awaits: str = ""
    may_ignore: bool = False
    skips: str = ""
    share: TrafficShare | None = None


@dataclass(frozen=True, slots=True)
class Wave:
    """Targets that are taken together, if all take the same time. ``watched_seconds``: a zone is watched before it."""

    names: tuple[str, ...]
    watched_seconds: int = 0


def open_log(parts: Parts, event: DeploymentEvent) -> str:
    """The last of what an event's scripts wrote, unsealed."""
    return parts.sealer.unseal(event.sealed_log or b"", log_context(event.id)).decode(errors="replace")


def worst_first(
    session: Session, parts: Parts, row: Deployment, *, statuses: Collection[str] = (), after: int = 0, limit: int
) -> list[TargetCard]:
    """Targets from the place ``after`` on: those that wait for an answer, the failed, those under way, and so on.

    Logs are opened of failed events alone: the page of a target has the others.
    """
    awaiting = row.details.get("awaiting") or {}
    rank = case(
        (DeploymentTarget.name.in_(list(awaiting)), -1),
        *((DeploymentTarget.status == status, place) for place, status in enumerate(WORST_FIRST)),
        else_=len(WORST_FIRST),
    )
    wanted = select(DeploymentTarget).where(DeploymentTarget.deployment_id == row.id)
    if statuses:
        wanted = wanted.where(DeploymentTarget.status.in_(statuses))
    order = (rank, DeploymentTarget.position, DeploymentTarget.id)
    rows = session.scalars(wanted.order_by(*order).offset(after).limit(limit)).all()
    shown = shown_targets(session, rows, lambda event: open_log(parts, event) if event.status == "Failed" else "")
    return [card(row, target, each) for target, each in zip(rows, shown, strict=True)]


def card(row: Deployment, target: DeploymentTarget, shown: ShownTarget) -> TargetCard:
    """A target with what may be done about it now. Pure."""
    awaiting = row.details.get("awaiting") or {}
    failed = next(
        (each.lifecycle_event_name for each in reversed(shown.lifecycle_events) if each.status == "Failed"), ""
    )
    awaits = failed if target.name in awaiting else ""
    current = next((each for each in shown.lifecycle_events if each.status in {"Pending", "InProgress"}), None)
    is_open = row.completed_at is None and "ending" not in row.details
    hangs = current is not None and current.status == "InProgress" and target.status == TargetStatus.IN_PROGRESS
    skips = current.lifecycle_event_name if hangs and is_open and current is not None else ""
    return TargetCard(
        shown,
        awaits if is_open else "",
        bool(awaits) and awaits not in NEEDED,
        skips if skips in IGNORABLE else "",
        _share(row.config_document, target.details, shown),
    )


def _share(config: Mapping[str, Any], details: Mapping[str, Any], shown: ShownTarget) -> TrafficShare | None:
    """The new task set's share of the requests, for a configuration that shifts them."""
    if "trafficRoutingConfig" not in config:
        return None
    event = next((each for each in shown.lifecycle_events if each.lifecycle_event_name == "AllowTraffic"), None)
    if event is None:
        return None
    steps = tuple(each.percent for each in traffic_steps(config))
    if event.status == "Succeeded":
        return TrafficShare(100, steps)
    gone = int((details.get("progress") or {}).get("step", 0)) if event.status == "InProgress" else 0
    return TrafficShare(steps[min(gone, len(steps)) - 1] if gone else 0, steps)


# --- waves -----------------------------------------------------------------------------------------------------------


def waves_of(session: Session, row: Deployment) -> tuple[list[Wave], int]:
    """The waves of a deployment as it was planned, and how many targets come after those that are said."""
    columns = (DeploymentTarget.name, DeploymentTarget.status, DeploymentTarget.zone, DeploymentTarget.started_at)
    mine = select(*columns).where(DeploymentTarget.deployment_id == row.id, DeploymentTarget.fleet != "Blue")
    unhealthy = frozenset(row.details.get("unhealthy", []))
    views = [
        TargetView(name, TargetStatus.PENDING, name not in unhealthy, zone=zone)
        for name, status, zone, started_at in session.execute(mine.order_by(DeploymentTarget.position))
        if status != TargetStatus.SKIPPED or started_at is not None or row.completed_at is not None
    ]
    most = row.options.get("maxConcurrent") or row.group_document.get("maxConcurrent")
    return waves(views, Rules.of(row.config_name, row.config_document, most))


def waves(targets: Sequence[TargetView], rules: Rules) -> tuple[list[Wave], int]:
    """In which waves targets are taken if each succeeds, and how many are left behind the last that is said. Pure."""
    found: list[Wave] = []
    view, watched = View(tuple(targets), rules), 0
    while len(found) < MOST_WAVES:
        match plan(view):
            case LetGo(names):
                chosen = frozenset(names)
                found.append(Wave(names, watched))
                watched = 0
                done = tuple(
                    replace(each, status=TargetStatus.SUCCEEDED) if each.name in chosen else each
                    for each in view.targets
                )
                view = View(done, rules, view.monitored)
            case Monitor(zone, seconds):
                watched = seconds
                view = View(view.targets, rules, view.monitored | {zone})
            case _:
                return found, 0
    return found, sum(each.status is TargetStatus.PENDING for each in view.targets)
