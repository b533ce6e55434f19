"""How jobs went (PutJobSuccessResult, PutJobFailureResult): once, under the execution's lock, and the action ends with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionArtifact, ActionJob
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.action_jobs import JobStatus, end, note
from hooks.pipelines.actions import timeouts, webhook
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.declaration import MASK
from hooks.pipelines.engine import end_action, running_action
from hooks.pipelines.parts import Parts
from hooks.pipelines.property_secrets import of_action
from hooks.pipelines.run import SYSTEM, Run
from hooks.pipelines.state import ActionStatus
from registry.errors import Conflict, Invalid

FAILURE_TYPES = (
    "JobFailed",
    "ConfigurationError",
    "PermissionError",
    "RevisionOutOfSync",
    "RevisionUnavailable",
    "SystemUnavailable",
)
MOST_VARIABLE_BYTES = 122_880
_KEY = re.compile(r"[A-Za-z0-9@_-]{1,128}\Z")
_LEAST_MASKED = 4
"""A shorter secret would mask half of every sentence."""


@dataclass(frozen=True, slots=True)
class Success:
    """PutJobSuccessResult. With a ``continuation_token`` the job is not finished, and is handed out once more with it."""

    continuation_token: str | None = None
    summary: str | None = None
    external_execution_id: str | None = None
    percent_complete: int | None = None
    current_revision: Mapping[str, Any] | None = None
    output_variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """PutJobFailureResult's ``failureDetails``."""

    type: str
    message: str
    external_execution_id: str | None = None


def succeed(session: Session, parts: Parts, job_id: str, told: Success, *, actor: str, now: datetime) -> None:
    """Take a success down. Raises Invalid, and Conflict for a job that is not in progress, or lacks an output artifact."""
    _check_variables(told.output_variables)
    run, row, job = _in_progress(session, job_id, actor)
    mask = _Mask(session, parts, run, job)
    _note(job, told, mask)
    if told.continuation_token is not None:
        _continue(session, run, row, job, told.continuation_token, actor, now)
        return
    missing = _missing(session, run, job)
    if missing:
        raise Conflict(f"InvalidJobState: the job has not uploaded its artifact {' and not '.join(missing)}")
    note(job, percentComplete=100)
    summary = job.details.get("summary") or f"carried out by {actor}"
    variables = {name: mask(value) for name, value in told.output_variables.items()}
    run.record(session, now, actor, "job.succeed", job=job.id, job_action=f"{job.stage}/{job.action}")
    _finish(
        session, parts, run, row, job, JobStatus.SUCCEEDED, Progress(ActionStatus.SUCCEEDED, summary, variables), now
    )


def fail(session: Session, parts: Parts, job_id: str, told: Failure, *, actor: str, now: datetime) -> None:
    """Take a failure down. Raises Invalid, and Conflict for a job that is not in progress."""
    if told.type not in FAILURE_TYPES:
        raise Invalid(f"failureDetails type is one of {', '.join(FAILURE_TYPES)}")
    run, row, job = _in_progress(session, job_id, actor)
    mask = _Mask(session, parts, run, job)
    message = mask(told.message)
    note(job, externalExecutionId=mask(told.external_execution_id) if told.external_execution_id else None)
    run.record(session, now, actor, "job.fail", job=job.id, job_action=f"{job.stage}/{job.action}", type=told.type)
    ended = Progress(ActionStatus.FAILED, f"{told.type}: {message}")
    _finish(session, parts, run, row, job, JobStatus.FAILED, ended, now)


def refuse(session: Session, parts: Parts, job_id: str, why: str, *, now: datetime) -> None:
    """End a job that cannot be handed out at all, and its action with it. One that has ended stays as it is."""
    known = session.get(ActionJob, job_id)
    found = None if known is None else running_action(session, known.action_execution_id)
    job = session.scalar(
        select(ActionJob).where(ActionJob.id == job_id).with_for_update(), execution_options={"populate_existing": True}
    )
    if found is None or job is None or job.ended_at is not None:
        return
    run, row = found
    run.record(
        session, now, SYSTEM, "job.fail", job=job.id, job_action=f"{job.stage}/{job.action}", type="ConfigurationError"
    )
    ended = Progress(ActionStatus.FAILED, f"ConfigurationError: {why}")
    _finish(session, parts, run, row, job, JobStatus.FAILED, ended, now)


def _in_progress(session: Session, job_id: str, actor: str) -> tuple[Run, ActionExecution, ActionJob]:
    known = session.get(ActionJob, job_id)
    found = None if known is None else running_action(session, known.action_execution_id)
    job = session.scalar(
        select(ActionJob).where(ActionJob.id == job_id).with_for_update(), execution_options={"populate_existing": True}
    )
    if found is None or job is None or job.status != JobStatus.IN_PROGRESS:
        raise Conflict(f"InvalidJobState: the job is {job.status if job is not None else 'gone'}")
    if job.held_by != actor:
        raise Conflict("InvalidJobState: somebody else has the job")
    return *found, job


def _continue(
    session: Session, run: Run, row: ActionExecution, job: ActionJob, token: str, actor: str, now: datetime
) -> None:
    job.status, job.available_at = JobStatus.QUEUED.value, now
    job.continuation_token, job.round = token, job.round + 1
    job.nonce, job.sealed_token, job.token_digest, job.held_by = "", None, None, None
    row.summary = str(job.details.get("summary") or "goes on")[:2000]
    run.record(session, now, actor, "job.continue", job=job.id, job_action=f"{job.stage}/{job.action}")
    if job.action_type_id is None:
        webhook.call_later(session, job, webhook.CONTINUE_SECONDS)
    session.flush()


def _finish(
    session: Session,
    parts: Parts,
    run: Run,
    row: ActionExecution,
    job: ActionJob,
    status: JobStatus,
    progress: Progress,
    now: datetime,
) -> None:
    end(job, status, now)
    timeouts.forget_expiry(session, row.id)
    end_action(session, parts, run, row, progress, now=now)


def _missing(session: Session, run: Run, job: ActionJob) -> list[str]:
    stage = run.definition.stage(job.stage)
    action = stage.action(job.action) if stage is not None else None
    left = set(session.scalars(select(ActionArtifact.identifier).where(ActionArtifact.job_id == job.id)))
    return [name for name in (action.outputs if action is not None else ()) if name not in left]


def _note(job: ActionJob, told: Success, mask: _Mask) -> None:
    revision = told.current_revision
    note(
        job,
        summary=mask(told.summary) if told.summary else None,
        externalExecutionId=mask(told.external_execution_id) if told.external_execution_id else None,
        percentComplete=told.percent_complete,
        currentRevision={key: mask(str(value)) for key, value in revision.items()} if revision else None,
    )


def _check_variables(variables: Mapping[str, str]) -> None:
    for name in variables:
        if not _KEY.match(name):
            raise Invalid("outputVariables: a name has 1 to 128 letters, digits, '@', '_' and '-'")
    if sum(len(name.encode()) + len(value.encode()) for name, value in variables.items()) > MOST_VARIABLE_BYTES:
        raise Invalid(f"outputVariables: at most {MOST_VARIABLE_BYTES} bytes in all")


class _Mask:
    """Takes the secret properties of a job out of what is told of it."""

    def __init__(self, session: Session, parts: Parts, run: Run, job: ActionJob) -> None:
        found = of_action(session, parts.sealer, run.execution.definition_id, job.stage, job.action)
        self._secrets = sorted((each for each in found.values() if len(each) >= _LEAST_MASKED), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text
