"""Deployments as people see them, in CodeDeploy's records. Rows go in, frozen values come out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from hooks.deployments.ending import TO_ORIGINALS
from hooks.deployments.revisions import label, version_of
from hooks.deployments.waiting import WaitReason
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentTarget,
)
from registry.errors import NotFound

STATUSES = ("Created", "Queued", "InProgress", "Baking", "Ready", "Succeeded", "Failed", "Stopped")
TARGET_STATUSES = ("Pending", "InProgress", "Ready", "Succeeded", "Failed", "Skipped")
OVERVIEW = ("Pending", "InProgress", "Succeeded", "Failed", "Skipped", "Ready")
_AS_THEY_ARE = "what the originals have"
OpenLog = Callable[[DeploymentEvent], str]
"""Unseals the tail of an event's log."""


@dataclass(frozen=True, slots=True)
class ErrorInformation:
    """Why a deployment did not succeed: CodeDeploy's code, and words for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RollbackInfo:
    """``rollback_deployment_id`` undoes this one; this one undoes ``rollback_triggering_deployment_id``."""

    rollback_deployment_id: str | None
    rollback_triggering_deployment_id: str | None
    rollback_message: str


@dataclass(frozen=True, slots=True)
class DeploymentSummary:
    """A deployment in a list. ``revision_label`` and ``version`` are for people; ``complete`` whether it has ended."""

    deployment_id: str
    application_name: str
    deployment_group_name: str
    deployment_group_id: str
    status: str
    is_paused: bool
    complete: bool
    creator: str
    initiator: str
    description: str
    revision_label: str
    version: str
    deployment_config_name: str
    deployment_overview: Mapping[str, int]
    error_information: ErrorInformation | None
    rollback_info: RollbackInfo | None
    create_time: datetime
    start_time: datetime | None
    complete_time: datetime | None


@dataclass(frozen=True, slots=True)
class DeploymentDetail(DeploymentSummary):
    """A deployment (CodeDeploy's DeploymentInfo). The documents are those it was made with.

    ``options`` are those of its start; ``phase`` is where it is within its status, ``wait_until`` when it goes on by
    itself. ``retry_of`` names the deployment whose failed targets it repeats, ``subject`` what it was made for.
    ``wait_reasons`` say why it does not go on by itself now, the most pressing first.
    """

    compute_platform: str
    revision: Any
    previous_revision: Any
    deployment_config: Any
    deployment_style: Any
    load_balancer_info: Any
    blue_green_deployment_configuration: Any
    auto_rollback_configuration: Any
    override_alarm_configuration: Any
    target_instances: Any
    ignore_application_stop_failures: bool
    update_outdated_instances_only: bool
    file_exists_behavior: str
    options: Any
    deployment_status_messages: tuple[str, ...]
    phase: str
    wait_until: datetime | None
    retry_of: str | None
    stopped_by: str | None
    subject: str | None
    wait_reasons: tuple[WaitReason, ...]


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """How an event ended: CodeDeploy's word, the agent's number, and the last of what its scripts wrote."""

    error_code: str
    agent_error_code: int | None
    script_name: str
    message: str
    log_tail: str


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """A lifecycle event of a target. ``actor`` is ``agent`` or ``engine``."""

    lifecycle_event_name: str
    status: str
    actor: str
    diagnostics: Diagnostics | None
    start_time: datetime | None
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target of a deployment. ``instance_label`` is Blue or Green where there are both, else ""."""

    target_id: int
    deployment_id: str
    name: str
    instance_label: str
    zone: str
    status: str
    lifecycle_events: tuple[LifecycleEvent, ...]
    started_at: datetime | None
    last_updated_at: datetime
    ended_at: datetime | None


# --- deployments -----------------------------------------------------------------------------------------------------


def summaries(session: Session, rows: Sequence[Deployment]) -> list[DeploymentSummary]:
    """Deployments for a list, with few queries."""
    groups = _by_id(session, DeploymentGroup, {row.group_id for row in rows})
    applications = _by_id(session, DeploymentApplication, {row.application_id for row in rows})
    counts = _overviews(session, [row.id for row in rows])
    return [
        DeploymentSummary(**_facts(row, groups[row.group_id], applications[row.application_id], counts.get(row.id, {})))
        for row in rows
    ]


def detail(session: Session, row: Deployment, waits: Sequence[WaitReason] = ()) -> DeploymentDetail:
    """All that is known of a deployment but its targets; ``waits`` is why it waits (``waiting.wait_reasons``)."""
    group = session.get_one(DeploymentGroup, row.group_id)
    application = session.get_one(DeploymentApplication, row.application_id)
    overview = _overviews(session, [row.id]).get(row.id, {})
    document, options = row.group_document, row.options
    return DeploymentDetail(
        **_facts(row, group, application, overview),
        compute_platform=application.compute_platform,
        revision=row.revision,
        previous_revision=row.previous_revision,
        deployment_config=row.config_document,
        deployment_style=document.get("deploymentStyle"),
        load_balancer_info=document.get("loadBalancerInfo"),
        blue_green_deployment_configuration=document.get("blueGreenDeploymentConfiguration"),
        auto_rollback_configuration=options.get("autoRollbackConfiguration", document.get("autoRollbackConfiguration")),
        override_alarm_configuration=options.get("overrideAlarmConfiguration"),
        target_instances=options.get("targetInstances"),
        ignore_application_stop_failures=bool(options.get("ignoreApplicationStopFailures")),
        update_outdated_instances_only=bool(options.get("updateOutdatedInstancesOnly")),
        file_exists_behavior=options.get("fileExistsBehavior", "DISALLOW"),
        options=options,
        deployment_status_messages=_messages(row, overview),
        phase=row.phase,
        wait_until=row.wait_until,
        retry_of=row.retry_of,
        stopped_by=row.stopped_by,
        subject=row.subject,
        wait_reasons=tuple(waits),
    )


def _by_id(session: Session, model: Any, ids: Collection[Any]) -> dict[Any, Any]:
    here = {each: session.identity_map.get(identity_key(model, each)) for each in ids}
    found = {each: row for each, row in here.items() if row is not None}
    lacking = set(ids) - set(found)
    if lacking:
        found |= {row.id: row for row in session.scalars(select(model).where(model.id.in_(lacking)))}
    return found


def _overviews(session: Session, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    counted = (
        select(DeploymentTarget.deployment_id, DeploymentTarget.status, func.count())
        .where(DeploymentTarget.deployment_id.in_(ids))
        .group_by(DeploymentTarget.deployment_id, DeploymentTarget.status)
    )
    for deployment_id, status, count in session.execute(counted) if ids else ():
        found.setdefault(deployment_id, {})[status] = count
    return found


def _facts(
    row: Deployment, group: DeploymentGroup, application: DeploymentApplication, counts: Mapping[str, int]
) -> dict[str, Any]:
    error = ErrorInformation(row.error_code, row.error_message) if row.error_code is not None else None
    rollback = None
    if row.rollback_of is not None or row.rolled_back_by is not None or row.rollback_message:
        rollback = RollbackInfo(row.rolled_back_by, row.rollback_of, row.rollback_message)
    return {
        "deployment_id": row.id,
        "application_name": application.name,
        "deployment_group_name": group.name,
        "deployment_group_id": group.id,
        "status": row.status,
        "is_paused": row.is_paused,
        "complete": row.completed_at is not None,
        "creator": row.creator,
        "initiator": row.initiator,
        "description": row.description,
        "revision_label": _AS_THEY_ARE if row.details.get(TO_ORIGINALS) else label(row.revision),
        "version": "" if row.details.get(TO_ORIGINALS) else version_of(row.revision),
        "deployment_config_name": row.config_name,
        "deployment_overview": {status: counts.get(status, 0) for status in OVERVIEW},
        "error_information": error,
        "rollback_info": rollback,
        "create_time": row.created_at,
        "start_time": row.started_at,
        "complete_time": row.completed_at,
    }


def _messages(row: Deployment, counts: Mapping[str, int]) -> tuple[str, ...]:
    said = []
    total = sum(counts.values())
    if row.completed_at is not None and total:
        said.append(f"{row.status} ({counts.get('Succeeded', 0)}/{total} targets succeeded)")
    if row.is_paused and row.completed_at is None:
        said.append("paused: nothing more begins until somebody resumes it")
    if row.error_message:
        said.append(row.error_message)
    if row.rollback_message:
        said.append(row.rollback_message)
    return tuple(said)


# --- targets ---------------------------------------------------------------------------------------------------------


def targets(
    session: Session,
    deployment_id: str,
    *,
    after: int = 0,
    limit: int | None = None,
    statuses: Collection[str] = (),
    label: str | None = None,
    open_log: OpenLog | None = None,
) -> list[TargetView]:
    """The targets of a deployment in their order, from the place ``after``; without ``open_log`` no log is opened.

    ``statuses`` and ``label`` (Blue or Green) leave others out, where they are said.
    """
    rows = select(DeploymentTarget).where(DeploymentTarget.deployment_id == deployment_id)
    if statuses:
        rows = rows.where(DeploymentTarget.status.in_(statuses))
    if label:
        rows = rows.where(DeploymentTarget.fleet == label)
    rows = rows.order_by(DeploymentTarget.position, DeploymentTarget.id).offset(after).limit(limit)
    return shown_targets(session, session.scalars(rows).all(), open_log)


def shown_targets(session: Session, rows: Sequence[DeploymentTarget], open_log: OpenLog | None) -> list[TargetView]:
    """These targets with their events; without ``open_log`` no log is opened."""
    wanted = select(DeploymentEvent).where(DeploymentEvent.target_id.in_([row.id for row in rows]))
    of_target: dict[int, list[DeploymentEvent]] = {}
    for event in session.scalars(wanted.order_by(DeploymentEvent.position)) if rows else ():
        of_target.setdefault(event.target_id, []).append(event)
    return [_target(row, of_target.get(row.id, ()), open_log) for row in rows]


def target(session: Session, deployment_id: str, target_id: int, open_log: OpenLog) -> TargetView:
    """One target of a deployment. Raises NotFound."""
    row = find_target(session, deployment_id, target_id)
    events = session.scalars(
        select(DeploymentEvent).where(DeploymentEvent.target_id == row.id).order_by(DeploymentEvent.position)
    ).all()
    return _target(row, events, open_log)


def find_target(session: Session, deployment_id: str, target_id: int) -> DeploymentTarget:
    """A target's row. Raises NotFound, also where it is another deployment's."""
    row = session.get(DeploymentTarget, target_id)
    if row is None or row.deployment_id != deployment_id:
        raise NotFound("target", str(target_id))
    return row


def _target(row: DeploymentTarget, events: Sequence[DeploymentEvent], open_log: OpenLog | None) -> TargetView:
    return TargetView(
        row.id,
        row.deployment_id,
        row.name,
        row.fleet,
        row.zone,
        row.status,
        tuple(_event(event, open_log) for event in events),
        row.started_at,
        row.updated_at,
        row.ended_at,
    )


def _event(row: DeploymentEvent, open_log: OpenLog | None) -> LifecycleEvent:
    diagnostics = None
    if row.error_code is not None or row.message or row.sealed_log is not None:
        tail = open_log(row) if open_log is not None and row.sealed_log is not None else ""
        diagnostics = Diagnostics(row.error_code or "Success", row.agent_code, row.script, row.message, tail)
    return LifecycleEvent(row.name, row.status, row.actor, diagnostics, row.started_at, row.ended_at)


# --- lists -----------------------------------------------------------------------------------------------------------


def page_of(
    session: Session,
    *,
    application_ids: Collection[int],
    group_id: str | None = None,
    statuses: Collection[str] = (),
    after: Deployment | None = None,
    limit: int,
) -> Sequence[Deployment]:
    """Deployments of these applications, the newest first, from ``after`` on."""
    if not application_ids:
        return ()
    wanted = select(Deployment).where(Deployment.application_id.in_(application_ids))
    if group_id is not None:
        wanted = wanted.where(Deployment.group_id == group_id)
    if statuses:
        wanted = wanted.where(Deployment.status.in_(statuses))
    if after is not None:
        is_older = Deployment.created_at < after.created_at
        same_moment = (Deployment.created_at == after.created_at) & (Deployment.id < after.id)
        wanted = wanted.where(is_older | same_moment)
    return session.scalars(wanted.order_by(Deployment.created_at.desc(), Deployment.id.desc()).limit(limit)).all()
