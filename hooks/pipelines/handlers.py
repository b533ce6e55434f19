"""The jobs of pipelines, and what becomes of an action whose job could not be run. For the worker that runs them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hooks.jobs.claims import EndedJob
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.pipelines import deploy_jobs, invoke_jobs, service_jobs
from hooks.pipelines.actions import approve, deploy, deploy_service, invoke, promote
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.approvals import expire
from hooks.pipelines.engine import REFUSALS, end_action, running_action
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        promote.JOB_KIND: lambda context: run_promotion(parts, context),
        approve.JOB_KIND: lambda context: run_expiry(parts, context),
        **deploy_jobs.handlers(parts),
        **invoke_jobs.handlers(parts),
        **service_jobs.handlers(parts),
    }


SETTLED = {
    promote.JOB_KIND: "the promotion",
    deploy.JOB_KIND: "the deployment",
    deploy_service.JOB_KIND: "the deployment",
    invoke.JOB_KIND: "the start of the other pipeline",
}
"""Kinds of jobs that an action waits for, and what each is called."""


def settle(session: Session, parts: Parts, ended: EndedJob) -> None:
    """End the action of a job that could not be run (it failed for good, was lost or was stopped)."""
    found = running_action(session, ended.payload["action_execution_id"])
    if found is not None:
        told = f"{SETTLED[ended.kind]} could not be run: {ended.error or ended.state}"
        end_action(session, parts, *found, Progress(ActionStatus.FAILED, told), now=parts.clock())


def run_promotion(parts: Parts, context: JobContext) -> None:
    """Promote what an action's execution is pinned to, and end the action.

    Running twice is harmless: copy, action's end and job's end are one transaction, and only a running action is acted
    on. A refusal (other bytes, no such repository) is the action's failure; an outage is raised, and tried again.
    """

    def unit(session: Session) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is None:
            return
        run, row = found
        end_action(session, parts, run, row, _promote(session, parts, run, context), now=parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def run_expiry(parts: Parts, context: JobContext) -> None:
    """Expire an approval. Running twice is harmless: only a waiting one is touched, in the transaction of the end."""
    context.finish(
        JobState.SUCCEEDED,
        lambda session: expire(session, parts, context.payload["action_execution_id"], parts.clock()),
    )


def _promote(session: Session, parts: Parts, run: Run, context: JobContext) -> Progress:
    execution = run.execution
    source, target = context.payload["source"], context.payload["target"]
    try:
        # The savepoint takes back what a refused promotion had written before it was refused.
        with session.begin_nested():
            parts.promote(
                session,
                domain=execution.domain,
                format=execution.format,
                namespace=execution.namespace,
                name=execution.name,
                version=execution.version,
                assets=execution.assets,
                source=source,
                target=target,
                actor=f"execution:{execution.id}",
                now=parts.clock(),
            )
    except REFUSALS as refusal:
        return Progress(ActionStatus.FAILED, f"not promoted from {source} to {target}: {refusal}")
    return Progress(ActionStatus.SUCCEEDED, f"promoted from {source} to {target}")
