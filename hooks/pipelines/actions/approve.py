"""Approval / AWS / Manual: the execution waits, as a row, until somebody answers or the time is over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.approvers import check_approvers, check_known, check_required, named_approvers
from hooks.pipelines.giving_way import SETTING
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Check, Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid

JOB_KIND = "expire_approval"
DEFAULT_TIMEOUT_MINUTES = 7 * 24 * 60


def binding(execution_id: int, definition_id: int, action_id: int, attempt: int, digest: str) -> str:
    """The approval's token: what exactly is approved, namely this attempt, this definition and these bytes.

    It is no secret. An answer that carries another one was given while looking at something else.
    """
    told = f"{execution_id}/{definition_id}/{action_id}/{attempt}/{digest}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _check_flag(value: str) -> str | None:
    return None if value in {"true", "false"} else f"{value!r} is neither 'true' nor 'false'"


def _check_link(value: str) -> str | None:
    # The link is shown to approvers: anything but these schemes could run in their browser.
    return None if value.startswith(("https://", "http://")) else f"{value!r} is not an http or https address"


# Values with variables in them are only known when it starts, as are those of definitions from before they were literal.
_CHECKS: Mapping[str, Check] = {
    "ExternalEntityLink": _check_link,
    "NotByPublisher": _check_flag,
    "NotByStarter": _check_flag,
    "RequiredApprovals": check_required,
    "Approvers": check_approvers,
    SETTING: _check_flag,
}


# What a build exports must not say who may approve.
_LITERAL = frozenset(_CHECKS) - {"ExternalEntityLink"}


def _start(session: Session, starting: Starting) -> Progress:
    for name, check in _CHECKS.items():
        value = starting.configuration.get(name)
        fault = check(value) if value is not None else None
        if fault:
            raise Invalid(f"configuration {name}: {fault}")
    check_known(session, named_approvers(starting.configuration))
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    job_id = enqueue(
        session,
        JOB_KIND,
        {"action_execution_id": starting.action_id},
        dedupe=f"expire_approval:{starting.action_id}",
        run_after_seconds=minutes * 60,
        subject=f"execution:{starting.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    digest = starting.source.digest
    return Progress(
        ActionStatus.WAITING,
        starting.configuration.get("CustomData", ""),
        job_id=job_id,
        token=binding(starting.execution_id, starting.definition_id, starting.action_id, starting.attempt, digest),
        expires_at=starting.now + timedelta(minutes=minutes),
    )


def _stop(session: Session, _parts: Parts, row: ActionExecution, _actor: str) -> None:
    if row.job_id is not None:
        give_up(session, row.job_id)


MANUAL = ActionKind(
    Provider(
        "Approval",
        "AWS",
        "Manual",
        (
            Setting("CustomData"),
            *(Setting(name, check=check, is_literal=name in _LITERAL) for name, check in _CHECKS.items()),
        ),
        inputs=(0, 0),
        outputs=(0, 0),
        has_timeout=True,
    ),
    _start,
    _stop,
)
