"""Invoke / Entrepot / Webhook: a signed POST has somebody carry the action out, who calls back with how it went.

It stands for CodePipeline's Lambda function, which answers by PutJobSuccessResult. The job that sends it is in
``hooks.notifications.action_calls``, beside the sender of all webhooks.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.action_job import ActionJob
from hooks.pipelines import action_jobs, action_webhooks
from hooks.pipelines.actions.custom import order_of, stop_job
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid

JOB_KIND = "call_webhook"
QUEUE = "notifications"
"""That of all webhooks: receivers may be slow, and have slots of their own."""
DEFAULT_TIMEOUT_MINUTES = 20
"""CodePipeline's limit for actions of Lambda."""
CONTINUE_SECONDS = 30.0
"""After a continuation token the receiver is called again so much later."""


def _check_name(value: str) -> str | None:
    return None if action_webhooks.NAME.match(value) else "it is not the name of an action webhook"


def call_later(session: Session, job: ActionJob, seconds: float = 0) -> None:
    """Queue the call for the round that a job is in; a round is called for once."""
    enqueue(
        session,
        JOB_KIND,
        {"job_id": job.id, "round": job.round},
        queue=QUEUE,
        dedupe=f"{JOB_KIND}:{job.id}:{job.round}",
        run_after_seconds=seconds,
        subject=f"execution:{job.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )


def _start(session: Session, starting: Starting) -> Progress:
    name = starting.configuration["WebhookName"]
    if fault := _check_name(name):
        raise Invalid(f"configuration WebhookName: {fault}")
    action_webhooks.find(session, name)
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    job = action_jobs.new_job(session, order_of(starting, minutes), webhook=name)
    call_later(session, job)
    expire_later(session, starting.action_id, minutes)
    until = starting.now + timedelta(minutes=minutes)
    return Progress(ActionStatus.IN_PROGRESS, f"webhook {name} is called", action_job_id=job.id, expires_at=until)


WEBHOOK = ActionKind(
    Provider(
        "Invoke",
        "Entrepot",
        "Webhook",
        (Setting("WebhookName", is_required=True, check=_check_name, is_literal=True), Setting("UserParameters")),
        inputs=(0, 5),
        outputs=(0, 5),
        variables=None,
        has_timeout=True,
    ),
    _start,
    stop_job,
)
