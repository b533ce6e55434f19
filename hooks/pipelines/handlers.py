"""The jobs of pipelines, and what becomes of an action whose job could not be run. For the worker that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.jobs.claims import EndedJob
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution
from hooks.pipelines import conditions, deploy_jobs, freezes, invoke_jobs, publish_jobs, service_jobs
from hooks.pipelines.actions import approve, deploy, deploy_service, invoke, promote, publish, timeouts
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.approvals import expire
from hooks.pipelines.engine import REFUSALS, end_action, look_at_condition, running_action
from hooks.pipelines.parts import Parts
from hooks.pipelines.promote_gates import Attested, judge
from hooks.pipelines.promoted import Promoted, promoted_by
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from hooks.pipelines.sticky import thaw
from hooks.pipelines.which_packages import SETTING
from registry.errors import Conflict


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        promote.JOB_KIND: lambda context: run_promotion(parts, context),
        approve.JOB_KIND: lambda context: run_expiry(parts, context),
        conditions.JOB_KIND: lambda context: run_condition(parts, context),
        freezes.JOB_KIND: lambda context: run_thaw(parts, context),
        **deploy_jobs.handlers(parts),
        **invoke_jobs.handlers(parts),
        **service_jobs.handlers(parts),
    }


def publishing_handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler, of the queue ``publish.QUEUE``: what talks to registries elsewhere has slots of its own."""
    return {publish.JOB_KIND: lambda context: publish_jobs.run_publish(parts, context)}


SETTLED = {
    promote.JOB_KIND: "the promotion",
    deploy.JOB_KIND: "the deployment",
    deploy_service.JOB_KIND: "the deployment",
    publish.JOB_KIND: "the publication",
    invoke.JOB_KIND: "the start of the other pipeline",
}
"""Kinds of jobs that an action waits for, and what each is called."""


def settle(session: Session, parts: Parts, ended: EndedJob) -> None:
    """End the action of a job that could not be run (it failed for good, was lost or was stopped)."""
    found = running_action(session, ended.payload["action_execution_id"])
    if found is not None:
        timeouts.forget_expiry(session, found[1].id)
        told = f"{SETTLED[ended.kind]} could not be run: {ended.error or ended.state}"
        end_action(session, parts, *found, Progress(ActionStatus.FAILED, told), now=parts.clock())


def run_promotion(parts: Parts, context: JobContext) -> None:
    """Promote what an action's execution is pinned to, and end the action.

    Running twice is harmless: copy, action's end and job's end are one transaction, and only a running action is acted
    on. A refusal (other bytes, no such repository) and a gate that is not met are the action's failure; an outage is
    raised, and tried again. A version that is only too young, where that is waited for, is a job of its own.
    """
    attested = _attested(parts, context)

    def unit(session: Session) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        if found is not None:
            _promote(session, parts, *found, attested, context)

    context.finish(JobState.SUCCEEDED, unit)


def _attested(parts: Parts, context: JobContext) -> Attested | None:
    """Who attested the files, where a gate asks for it: read before the transaction, for it opens bodies."""
    read = parts.attested
    if not context.payload.get("by_publisher") or read is None:
        return None

    def unit(session: Session) -> tuple[str, list[Promoted]]:
        found = running_action(session, context.payload["action_execution_id"])
        if found is None:
            return "", []
        try:
            return found[0].execution.domain, promoted_by(
                session, found[0], found[1].resolved_configuration, context.payload["source"]
            )
        except Conflict:
            return "", []  # the promotion itself will say so

    domain, versions = context.step(unit)
    return {
        (each.repository, each.key, each.version): read(f"{domain}/{each.repository}", each.key, each.version)
        for each in versions
    }


def _promote(
    session: Session, parts: Parts, run: Run, row: ActionExecution, attested: Attested | None, context: JobContext
) -> None:
    """Judge and promote, and end the action; or let it wait, as a job of its own."""
    settings, now = row.resolved_configuration, parts.clock()
    source, target = context.payload["source"], context.payload["target"]
    way = f"from {source or 'where it was published'} to {target}"
    try:
        versions = promoted_by(session, run, settings, source)
        verdict = judge(session, parts, run, settings, versions, attested, now)
        if verdict.wait_seconds is not None and run.status is not ExecutionStatus.STOPPING:
            row.job_id = promote.order(
                session, row.id, run.execution.id, (source, target), settings, wait_seconds=verdict.wait_seconds
            )
            row.summary = f"waits before the promotion {way}: {'; '.join(verdict.unmet)}"
            return
        if verdict.wait_seconds is not None:
            end = Progress(
                ActionStatus.ABANDONED, f"not promoted {way}: the execution was stopped while it was too young"
            )
        elif verdict.unmet:
            end = Progress(ActionStatus.FAILED, f"not promoted {way}: {'; '.join(verdict.unmet)}")
        else:
            # The savepoint takes back what a refused promotion had written before it was refused.
            with session.begin_nested():
                for each in versions:
                    _copy(session, parts, run, each, target, now)
            told = f"promoted {way}"
            if len(versions) > 1 or settings.get(SETTING) or not run.execution.format:
                told = f"promoted to {target}: " + ", ".join(f"{each.key.path} {each.version}" for each in versions)
            end = Progress(ActionStatus.SUCCEEDED, told)
    except REFUSALS as refusal:
        end = Progress(ActionStatus.FAILED, f"not promoted {way}: {refusal}")
    end_action(session, parts, run, row, end, now=now)


def _copy(session: Session, parts: Parts, run: Run, promoted: Promoted, target: str, now: datetime) -> None:
    parts.promote(
        session,
        domain=run.execution.domain,
        format=promoted.key.format,
        namespace=promoted.key.namespace,
        name=promoted.key.name,
        version=promoted.version,
        assets=promoted.assets,
        source=promoted.repository,
        target=target,
        actor=run.subject,
        now=now,
    )


def run_expiry(parts: Parts, context: JobContext) -> None:
    """Expire an approval. Running twice is harmless: only a waiting one is touched, in the transaction of the end."""
    context.finish(
        JobState.SUCCEEDED,
        lambda session: expire(session, parts, context.payload["action_execution_id"], parts.clock()),
    )


def run_condition(parts: Parts, context: JobContext) -> None:
    """Look at a condition that waits. Running twice is harmless: only rules in progress that are due are looked at."""
    context.finish(
        JobState.SUCCEEDED,
        lambda session: look_at_condition(session, parts, context.payload["condition_execution_id"], parts.clock()),
    )


def run_thaw(parts: Parts, context: JobContext) -> None:
    """Look again at what waits before a pipeline's stages. Running twice is harmless: what has entered does not wait."""
    pipeline_id, only = context.payload["pipeline_id"], context.payload["execution_id"]
    context.finish(JobState.SUCCEEDED, lambda session: thaw(session, parts, pipeline_id, parts.clock(), only=only))
