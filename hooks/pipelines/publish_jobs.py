"""Publishing outside as a job: nothing of it is in a transaction but its beginning and its end."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from hooks.jobs.context import JobContext
from hooks.jobs.retry import Retry
from hooks.models.job import JobState
from hooks.pipelines.actions import timeouts
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.engine import REFUSALS, end_action, running_action
from hooks.pipelines.parts import Parts, PublishedFile, PublishOrder
from hooks.pipelines.run import pinned_version
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from registry.errors import Conflict, UpstreamUnavailable

_RETRY_SECONDS = (2, 5, 15, 30, 60, 120, 180, 300, 300)


def run_publish(parts: Parts, context: JobContext) -> None:
    """Publish what an action's execution is pinned to, and end the action.

    Running twice is harmless: what is at the destination with the same bytes is left alone, and only a running action
    is ended. What the destination refuses is the action's failure; where it does not answer it is tried again, at
    most ``publish.ATTEMPTS`` times.
    """
    order = context.step(lambda session: _order(session, context))
    if order is None:
        context.finish(JobState.SUCCEEDED, lambda session: _give_up(session, parts, context))
        return
    files: Sequence[PublishedFile] = ()
    failure = ""
    try:
        if parts.publisher is None:
            raise Conflict("this process publishes nothing")
        found = parts.publisher(order, context.should_stop)
        if found is None:
            return  # told to stop: the job ends as its lease says
        files = found
    except UpstreamUnavailable as outage:
        tries = min(context.attempt, len(_RETRY_SECONDS)) - 1
        waits = max(_RETRY_SECONDS[tries], min(outage.retry_after_seconds or 0, 300))
        raise Retry(waits, f"{order.destination} cannot be reached: {outage}") from outage
    except REFUSALS as refusal:
        failure = f"not published to {order.destination}: {refusal}"
    context.finish(JobState.SUCCEEDED, lambda session: _end(session, parts, context, order, files, failure))


def _order(session: Session, context: JobContext) -> PublishOrder | None:
    found = running_action(session, context.payload["action_execution_id"])
    if found is None or found[0].status is ExecutionStatus.STOPPING:
        return None
    run, _ = found
    asked = context.payload
    return PublishOrder(asked["destination"], pinned_version(run.execution), asked["repository"], asked["tag"])


def _give_up(session: Session, parts: Parts, context: JobContext) -> None:
    found = running_action(session, context.payload["action_execution_id"])
    if found is None:
        return
    timeouts.forget_expiry(session, found[1].id)
    told = Progress(ActionStatus.ABANDONED, "the execution was stopped before anything was published")
    end_action(session, parts, *found, told, now=parts.clock())


def _end(
    session: Session,
    parts: Parts,
    context: JobContext,
    order: PublishOrder,
    files: Sequence[PublishedFile],
    failure: str,
) -> None:
    found = running_action(session, context.payload["action_execution_id"])
    if found is None:
        return
    run, row = found
    now = parts.clock()
    timeouts.forget_expiry(session, row.id)
    if failure:
        end_action(session, parts, run, row, Progress(ActionStatus.FAILED, failure), now=now)
        return
    there = sum(file.was_there for file in files)
    row.published = [
        {"filename": file.filename, "url": file.url, "sha256": file.sha256, "was_there": file.was_there}
        for file in files
    ]
    run.record(
        session,
        now,
        run.subject,
        "version.publish-outside",
        destination=order.destination,
        files={file.filename: file.sha256 for file in files},
        sent=len(files) - there,
    )
    told = f"published to {order.destination}: {len(files) - there} sent, {there} there already"
    listed = "; ".join(f"{file.url} sha256:{file.sha256}" for file in files)
    variables = {
        "Destination": order.destination,
        "DestinationUrl": files[0].url if files else "",
        "FilesSent": str(len(files) - there),
        "FilesThere": str(there),
    }
    end_action(session, parts, run, row, Progress(ActionStatus.SUCCEEDED, f"{told}; {listed}", variables), now=now)
