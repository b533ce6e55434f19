"""Deployments of actions, as jobs: made, and their end written down. Running one twice is harmless.

Locks are taken in the order pipeline, execution, deployment, group. So who ends a deployment, and has it locked, does not
touch its execution: a job does, which is queued in the transaction of the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.context import Handler, JobContext
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.deployment import Deployment
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution, PipelineDefinitionVersion
from hooks.pipelines.actions import deploy, timeouts
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.engine import REFUSALS, abandon, advance, end_action, running_action
from hooks.pipelines.parts import DeploymentOrder, Parts
from hooks.pipelines.run import SYSTEM, Run, pinned_version
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from registry.errors import Conflict, NotFound

ENDED_KIND = "deployment_ended"


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        deploy.JOB_KIND: partial(run_deploy, parts),
        ENDED_KIND: partial(run_ended, parts),
        deploy.STOP_KIND: partial(run_stop, parts),
        timeouts.JOB_KIND: partial(run_expiry, parts),
    }


def on_deployment_ended(session: Session, row: Deployment) -> None:
    """Wake the action that waits for a deployment, in the transaction that ends it."""
    if row.subject is None or not row.subject.startswith("execution:"):
        return
    enqueue(
        session,
        ENDED_KIND,
        {"deployment_id": row.id},
        dedupe=f"{ENDED_KIND}:{row.id}",
        subject=row.subject,
        max_attempts=PATIENT_ATTEMPTS,
    )


def run_deploy(parts: Parts, context: JobContext) -> None:
    """Make the deployment of an action. What refuses it is the action's failure; an outage is raised, and tried again."""

    def unit(session: Session) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is None or found[1].deployment_id is not None:
            return
        run, row = found
        progress = _make(session, parts, run, context)
        if progress.deployment_id is None:
            timeouts.forget_expiry(session, row.id)
            end_action(session, parts, run, row, progress, now=parts.clock())
        else:
            row.deployment_id, row.summary = progress.deployment_id, progress.summary

    context.finish(JobState.SUCCEEDED, unit)


def _make(session: Session, parts: Parts, run: Run, context: JobContext) -> Progress:
    if run.status is ExecutionStatus.STOPPING:
        return Progress(ActionStatus.ABANDONED, "the execution was stopped before anything was deployed")
    asked = context.payload
    artifact = asked["artifact"]
    order = DeploymentOrder(
        application=asked["application"],
        group=asked["group"],
        source=pinned_version(run.execution),
        repository=asked["repository"],
        pipeline=run.pipeline,
        author=session.get_one(PipelineDefinitionVersion, run.execution.definition_id).created_by,
        subject=run.subject,
        asset=asked["asset"],
        artifact=None if artifact is None else (artifact[0], artifact[1]),
        revision=asked.get("revision"),
    )
    place = f"{order.application}/{order.group}"
    try:
        if parts.deployer is None:
            raise Conflict("this process deploys nothing")
        # The savepoint takes back what a refused deployment had written before it was refused.
        with session.begin_nested():
            deployment_id = parts.deployer.create(session, order, parts.clock())
    except REFUSALS as refusal:
        return Progress(ActionStatus.FAILED, f"not deployed to {place}: {refusal}")
    return Progress(ActionStatus.IN_PROGRESS, f"deployment {deployment_id} to {place}", deployment_id=deployment_id)


def run_ended(parts: Parts, context: JobContext) -> None:
    """End the action whose deployment has ended. One that was abandoned, or has timed out, stays as it is."""

    def unit(session: Session) -> None:
        deployment_id = context.payload["deployment_id"]
        made = select(ActionExecution.id).where(ActionExecution.deployment_id == deployment_id)
        action_id = session.scalar(made)
        found = None if action_id is None else running_action(session, action_id)
        if found is None or parts.deployer is None:
            return
        end = _end(session, parts, deployment_id)
        if end is not None:
            timeouts.forget_expiry(session, found[1].id)
            end_action(session, parts, *found, end, now=parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def _end(session: Session, parts: Parts, deployment_id: str) -> Progress | None:
    try:
        outcome = parts.deployer.outcome(session, deployment_id) if parts.deployer is not None else None
    except NotFound as gone:
        return Progress(ActionStatus.FAILED, f"nobody knows how it ended: {gone}")
    if outcome is None:
        return None
    if not outcome.succeeded:
        return Progress(ActionStatus.FAILED, outcome.summary)
    variables = {"DeploymentId": deployment_id, "RevisionDigest": f"sha256:{outcome.digest}"}
    return Progress(ActionStatus.SUCCEEDED, outcome.summary, variables)


def run_stop(parts: Parts, context: JobContext) -> None:
    """Stop the deployment of an action that was given up. One that has ended, or is being stopped, stays as it is."""

    def unit(session: Session) -> None:
        if parts.deployer is None:
            raise Conflict("this process deploys nothing")
        parts.deployer.stop(session, context.payload["deployment_id"], context.payload["actor"], parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def run_expiry(parts: Parts, context: JobContext) -> None:
    """Let an action fail whose time is over, and stop what it has started. One that has ended stays as it is."""

    def unit(session: Session) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is None:
            return
        run, row = found
        now, minutes = parts.clock(), context.payload["minutes"]
        told = f"it had not ended after {minutes} minutes" + (f": {row.summary}" if row.summary else "")
        run.record(session, now, SYSTEM, "action.expire", expired=row.name, minutes=minutes)
        failed = Progress(ActionStatus.FAILED, told)
        abandon(session, parts, run, row, failed, actor=run.subject, now=now)
        advance(session, parts, run.execution.id, now)

    context.finish(JobState.SUCCEEDED, unit)
