"""Executions of hooks that somebody else carries out: begun with an id of their own, and answered once.

What was begun and answered is in the deployment's details, and so under its lock; of the id there is the SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.deployments.course import call_back
from hooks.deployments.hook_calls import ANSWERS
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import HookNotice, Parts
from hooks.deployments.platform import HookCall
from hooks.deployments.rows import Run, has_ended, lock, targets_of
from hooks.models.deployment import DeploymentEvent
from registry.errors import Conflict, Denied, Invalid, NotFound

KEY = "hookExecutions"
_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Answered:
    """An execution that has its answer."""

    execution_id: str
    event: str
    status: str


def begin(
    session: Session, parts: Parts, run: Run, event: DeploymentEvent, call: HookCall, now: datetime
) -> EventResult | None:
    """Have a webhook told of a new execution, in the caller's transaction; how the event has failed if that cannot be."""
    known = _executions(run)
    if call.key in known:
        return None
    execution_id = secrets.token_urlsafe(_ID_BYTES)
    notice = HookNotice(
        call.webhook,
        {
            "domain": run.application.domain,
            "applicationName": run.application.name,
            "deploymentGroupName": run.group.name,
            "deploymentId": run.deployment.id,
            "lifecycleEventHookExecutionId": execution_id,
            "lifecycleEventName": call.event,
            "hook": call.hook,
        },
    )
    try:
        parts.call_hook(session, notice, now)
    except (NotFound, Conflict, Denied) as error:
        told = f"hook {call.hook} cannot be told: {error}"
        return EventResult(call.event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, told)
    kept = {"digest": _digest(execution_id), "event": event.id, "status": EventStatus.PENDING.value}
    run.note(**{KEY: {**known, call.key: kept}})
    return None


def answer(
    session: Session, parts: Parts, deployment_id: str, execution_id: str, status: str, now: datetime, *, actor: str
) -> Answered:
    """Say how a hook has ended (PutLifecycleEventHookExecutionStatus), once.

    Raises NotFound for a deployment that is not there, Invalid for an id that is none of its executions and for what is no
    status, Conflict for an event that has its end, or its answer, already.
    """
    run = lock(session, parts, deployment_id)
    if status not in ANSWERS:
        raise Invalid(f"InvalidLifecycleEventHookExecutionStatus: a status is {' or '.join(ANSWERS)}")
    known, digest = _executions(run), _digest(execution_id)
    key = next((each for each, kept in known.items() if hmac.compare_digest(kept["digest"], digest)), None)
    if key is None:
        told = f"InvalidLifecycleEventHookExecutionId: deployment {deployment_id} has no such execution"
        raise Invalid(told)
    kept = known[key]
    event = session.get(DeploymentEvent, kept["event"], populate_existing=True)
    if event is None or has_ended(event) or kept["status"] != EventStatus.PENDING.value:
        raise Conflict("LifecycleEventAlreadyCompleted: this execution has been answered, or its time is over")
    run.note(**{KEY: {**known, key: {**kept, "status": status}}})
    run.record(session, now, actor, "deployment.hook-status", lifecycle_event=event.name, status=status)
    call_back(session, run, targets_of(session, run.deployment.id))
    return Answered(execution_id, event.name, status)


def _executions(run: Run) -> Mapping[str, Any]:
    return dict(run.deployment.details.get(KEY, {}))


def _digest(execution_id: str) -> str:
    return hashlib.sha256(execution_id.encode()).hexdigest()
