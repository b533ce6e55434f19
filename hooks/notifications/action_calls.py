"""The job that calls the webhook of an action: a signed POST with the action's job, to be answered by a call back.

Address, patience and signature are those of all webhooks. It is sent at least once, under one ``webhook-id`` for each round;
what matters is the call back, which counts once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.context import JobContext
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.action_job import ActionJob
from hooks.models.job import JobState
from hooks.notifications import signing
from hooks.notifications.sending import Answer, Sender
from hooks.pipelines import action_jobs, action_webhooks
from hooks.pipelines.action_jobs import JobStatus
from hooks.pipelines.actions.webhook import JOB_KIND, QUEUE
from hooks.pipelines.engine import REFUSALS, running_action
from hooks.pipelines.job_data import ACCOUNT_ID, RESULTS_PATH, as_document, data_of
from hooks.pipelines.job_results import refuse
from hooks.pipelines.parts import Parts
from hooks.pipelines.property_secrets import sealing

PAUSES_SECONDS = (5.0, 15.0, 60.0, 120.0, 300.0)
"""Between attempts; the last one again and again, until the action's time is over."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What is sent, read in one transaction."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    body: bytes = field(repr=False)
    message_id: str


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A job that cannot be sent at all, and why."""

    job_id: str
    why: str


class ActionCaller:
    """The handler. ``digest`` is what tokens are kept by."""

    def __init__(
        self,
        sender: Sender,
        parts: Parts,
        base_url: str,
        digest: Callable[[str], str],
    ) -> None:
        self._sender = sender
        self._parts = parts
        self._base_url = base_url.rstrip("/")
        self._digest = digest

    def __call__(self, context: JobContext) -> None:
        """Call a webhook for a round of a job, and again later where it did not take it.

        Running twice is harmless: the same message goes out again under the same id, with the same token in it.
        """
        call = context.step(partial(self._prepare, context.payload))
        if call is None:
            context.finish(JobState.SUCCEEDED)
            return
        if isinstance(call, _Refusal):
            context.finish(JobState.SUCCEEDED, partial(self._refuse, call))
            return
        headers = {
            "Content-Type": "application/json",
            **signing.headers(call.message_id, int(self._parts.clock().timestamp()), call.body, [call.secret]),
        }
        post = self._sender.open()
        try:
            answer = post.send(call.url, headers, call.body)
        finally:
            post.close()
        context.finish(JobState.SUCCEEDED, partial(self._record, context.payload, answer))

    def _prepare(self, payload: dict[str, Any], session: Session) -> _Call | _Refusal | None:
        """What is to be sent now, or why nothing can be; None for a job that has ended, or is in another round."""
        job = session.get(ActionJob, payload["job_id"])
        if job is None or job.ended_at is not None or job.round != payload["round"]:
            return None
        now, name = self._parts.clock(), job.webhook
        holder = f"webhook:{name}"
        if job.status == JobStatus.QUEUED:
            action_jobs.dispatch(
                session, self._parts.sealer, job, holder, self._digest, now, status=JobStatus.IN_PROGRESS
            )
        token = action_jobs.token_of(self._parts.sealer, job)
        if token is None:
            return None
        try:
            target = action_webhooks.opened(sealing(self._parts.sealer), action_webhooks.find(session, name))
            data = data_of(session, self._parts, job, self._base_url, token)
        except REFUSALS as refusal:
            return _Refusal(job.id, f"webhook {name} cannot be called: {refusal}")
        results = f"{self._base_url}{RESULTS_PATH}/{job.id}"
        document = {
            # The shape of what CodePipeline hands to a Lambda function, and where to answer.
            "CodePipeline.job": {"id": job.id, "accountId": ACCOUNT_ID, "data": as_document(data)},
            "callback": {"successUrl": f"{results}/success", "failureUrl": f"{results}/failure"},
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        return _Call(target.url, target.secret, body, f"msg_{job.id}-{job.round}")

    def _refuse(self, refusal: _Refusal, session: Session) -> None:
        """End the action, in a transaction of its own: the one before has the job locked, and the execution comes first."""
        refuse(session, self._parts, refusal.job_id, refusal.why, now=self._parts.clock())

    def _record(self, payload: dict[str, Any], answer: Answer, session: Session) -> None:
        """Write down how the attempt went; where it was not taken, the next one is queued."""
        known = session.get(ActionJob, payload["job_id"])
        found = None if known is None else running_action(session, known.action_execution_id)
        job = session.scalar(
            select(ActionJob).where(ActionJob.id == payload["job_id"]).with_for_update(),
            execution_options={"populate_existing": True},
        )
        if found is None or job is None or job.ended_at is not None or job.round != payload["round"]:
            return  # the call back was quicker than the answer
        row = found[1]
        if answer.status is not None and 200 <= answer.status < 300:
            row.summary = f"webhook {job.webhook} has taken it"
            return
        number = int(payload.get("attempt", 0))
        row.summary = f"webhook {job.webhook} has not taken it: {_complaint(answer)}; it is called again"
        enqueue(
            session,
            JOB_KIND,
            {**payload, "attempt": number + 1},
            queue=QUEUE,
            dedupe=f"{JOB_KIND}:{job.id}:{job.round}:{number + 1}",
            run_after_seconds=PAUSES_SECONDS[min(number, len(PAUSES_SECONDS) - 1)],
            subject=f"execution:{job.execution_id}",
            max_attempts=PATIENT_ATTEMPTS,
        )


def _complaint(answer: Answer) -> str:
    """Why, in words that do not tell the address."""
    if answer.status is not None:
        return f"it answered {answer.status}"
    return "its certificate is not trusted" if answer.error.startswith("the certificate") else answer.error
