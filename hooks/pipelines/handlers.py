"""The jobs of pipelines, and what becomes of an action whose job could not be run. For the worker that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from hooks.jobs.claims import EndedJob
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution
from hooks.pipelines import conditions, deploy_jobs, freezes, publish_jobs
from hooks.pipelines.actions import approve, deploy, promote, publish, timeouts
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.approvals import expire
from hooks.pipelines.engine import REFUSALS, end_action, look_at_condition, running_action
from hooks.pipelines.parts import Parts, PinnedVersion
from hooks.pipelines.promote_gates import Attested, judge
from hooks.pipelines.published import published_versions
from hooks.pipelines.run import Run, pinned_version
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from hooks.pipelines.sticky import thaw


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        promote.JOB_KIND: lambda context: run_promotion(parts, context),
        approve.JOB_KIND: lambda context: run_expiry(parts, context),
        conditions.JOB_KIND: lambda context: run_condition(parts, context),
        freezes.JOB_KIND: lambda context: run_thaw(parts, context),
        **deploy_jobs.handlers(parts),
    }


def publishing_handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler, of the queue ``publish.QUEUE``: what talks to registries elsewhere has slots of its own."""
    return {publish.JOB_KIND: lambda context: publish_jobs.run_publish(parts, context)}


SETTLED = {promote.JOB_KIND: "the promotion", deploy.JOB_KIND: "the deployment",
           publish.JOB_KIND: "the publication"}  # fmt: skip
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
        if found is None:
            return
        run, row = found
        end = _promotion(session, parts, run, row, context.payload, attested)
        if end is not None:
            end_action(session, parts, run, row, end, now=parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def _attested(parts: Parts, context: JobContext) -> Attested | None:
    """Who attested the files, where a gate asks for it: read before the transaction, for it opens bodies."""
    execution_id = context.payload.get("attested_of")
    if execution_id is None or parts.attested is None:
        return None
    return parts.attested(execution_id, context.payload["source"])


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


def _promotion(
    session: Session,
    parts: Parts,
    run: Run,
    row: ActionExecution,
    payload: Mapping[str, Any],
    attested: Attested | None,
) -> Progress | None:
    """How the action ends; None where it waits, with another job to look again."""
    source, target = payload["source"], payload["target"]
    pinned = pinned_version(run.execution)
    versions = published_versions(session, run, source)
    if pinned.is_package:
        versions = [replace(pinned, repository=source)]
    where = source or "where it was published"
    if not versions:
        return Progress(ActionStatus.FAILED, f"the builds of the execution have published no package version ({where})")
    verdict = judge(session, parts, run, versions, row.resolved_configuration, attested, parts.clock())
    if verdict.wait_seconds is not None and run.status is not ExecutionStatus.STOPPING:
        settings, seconds = row.resolved_configuration, verdict.wait_seconds
        row.job_id = promote.order(session, row.id, run.execution.id, (source, target), settings, wait_seconds=seconds)
        row.summary = f"waits before the promotion from {where} to {target}: {verdict.unmet[0]}"
        return None
    if verdict.unmet:
        return Progress(ActionStatus.FAILED, f"not promoted from {where} to {target}: {'; '.join(verdict.unmet)}")
    return _promote(session, parts, run, versions, target)


def _promote(session: Session, parts: Parts, run: Run, versions: Sequence[PinnedVersion], target: str) -> Progress:
    try:
        # The savepoint takes back what a refused promotion had written before it was refused.
        with session.begin_nested():
            for version in versions:
                parts.promote(
                    session,
                    domain=version.domain,
                    format=version.format,
                    namespace=version.namespace,
                    name=version.name,
                    version=version.version,
                    assets=version.assets,
                    source=version.repository,
                    target=target,
                    actor=f"execution:{run.execution.id}",
                    now=parts.clock(),
                )
    except REFUSALS as refusal:
        return Progress(ActionStatus.FAILED, f"not promoted from {versions[0].repository} to {target}: {refusal}")
    if pinned_version(run.execution).is_package:
        return Progress(ActionStatus.SUCCEEDED, f"promoted from {versions[0].repository} to {target}")
    named = ", ".join(f"{version.full_name} {version.version}" for version in versions)
    return Progress(ActionStatus.SUCCEEDED, f"promoted to {target}: {named}")
