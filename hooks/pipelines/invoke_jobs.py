"""Executions of other pipelines, as jobs of the actions that ask for them. Running one twice is harmless.

No transaction locks two pipelines: the execution is started in one that holds the other pipeline alone, and written down in
the next, which holds this one's. Its end is a job again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy.orm import Session

from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution, Execution, PipelineDefinitionVersion
from hooks.pipelines import invoked
from hooks.pipelines.actions import invoke, timeouts
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.engine import REFUSALS, end_action, running_action
from hooks.pipelines.parts import InvocationOrder, Parts
from hooks.pipelines.run import SYSTEM, look, pinned_version
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from hooks.pipelines.steering import stop_execution
from registry.errors import Conflict, NotFound


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {
        invoke.JOB_KIND: partial(run_invoke, parts),
        invoked.ENDED_KIND: partial(run_ended, parts),
        invoke.STOP_KIND: partial(run_stop, parts),
    }


def run_invoke(parts: Parts, context: JobContext) -> None:
    """Start the execution of an action. What refuses it is the action's failure; an outage is raised, and tried again.

    Started twice it is the same execution: the action is its trigger. A worker may be killed, and the execution stopped,
    between the start and the note of it: then whoever comes next finds what was started, and passes the stop on.
    """
    action_id = context.payload["action_execution_id"]
    made = context.step(lambda session: _make(session, parts, context))

    def unit(session: Session) -> None:
        found = running_action(session, action_id)
        if isinstance(made, int):
            if found is None:
                ended = session.get(ActionExecution, action_id)
                if ended is not None and ended.invoked_execution_id is None:
                    # It was given up meanwhile, and had nothing yet that could be told to stop.
                    invoke.stop_later(session, made, SYSTEM, abandon=True)
                return
            run, row = found
            row.invoked_execution_id = made
            row.summary = f"execution {made} of {context.payload['pipeline']}"
            if run.status is ExecutionStatus.STOPPING:  # maybe since before it could be seen
                invoke.stop_later(session, made, run.execution.stopped_by or SYSTEM, abandon=False)
        elif made is not None and found is not None:
            timeouts.forget_expiry(session, action_id)
            end_action(session, parts, *found, made, now=parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def _make(session: Session, parts: Parts, context: JobContext) -> int | Progress | None:
    """The execution's number, or how the action has ended, or None for one that needs none any more."""
    asked = context.payload
    row = session.get(ActionExecution, asked["action_execution_id"])
    if row is None:
        return None
    there = invoked.started_by(session, row)
    if there is not None:  # an earlier attempt was killed behind it: nothing that is asked below undoes it
        return there
    if not ActionStatus(row.status).is_running:
        return None
    run = look(session, row.execution_id)
    if run.status is ExecutionStatus.STOPPING:
        return Progress(ActionStatus.ABANDONED, "the execution was stopped before another was started")
    order = InvocationOrder(
        pipeline=asked["pipeline"],
        source=pinned_version(run.execution),
        repository=asked["repository"],
        variables=asked["variables"],
        publishers=tuple(run.execution.publishers),
        author=session.get_one(PipelineDefinitionVersion, run.execution.definition_id).created_by,
        execution_id=run.execution.id,
        action_execution_id=row.id,
        depth=run.execution.depth + 1,
    )
    try:
        if parts.invoker is None:
            raise Conflict("this process starts no pipelines")
        # The savepoint takes back what a refused start had written before it was refused.
        with session.begin_nested():
            return parts.invoker(session, order, parts.clock())
    except REFUSALS as refusal:
        return Progress(ActionStatus.FAILED, f"pipeline {order.pipeline} was not started: {refusal}")


def run_ended(parts: Parts, context: JobContext) -> None:
    """End the action whose execution has ended. One that was abandoned, or has timed out, stays as it is."""

    def unit(session: Session) -> None:
        found = running_action(session, context.payload["action_execution_id"])
        execution = session.get(Execution, context.payload["execution_id"])
        if found is None or execution is None or not ExecutionStatus(execution.status).is_final:
            return  # somebody may have retried it since, and then it goes on
        timeouts.forget_expiry(session, found[1].id)
        status = ExecutionStatus(execution.status)
        told = f"execution {execution.id}: {status}" + (f", {execution.stop_reason}" if execution.stop_reason else "")
        end = ActionStatus.SUCCEEDED if status is ExecutionStatus.SUCCEEDED else ActionStatus.FAILED
        variables = {"PipelineExecutionId": str(execution.id)} if end is ActionStatus.SUCCEEDED else {}
        progress = Progress(end, told, variables, invoked_execution_id=execution.id)
        end_action(session, parts, *found, progress, now=parts.clock())

    context.finish(JobState.SUCCEEDED, unit)


def run_stop(parts: Parts, context: JobContext) -> None:
    """Stop the execution of an action that was given up, or whose own is being stopped. One that has ended stays so."""

    def unit(session: Session) -> None:
        asked = context.payload
        try:
            stop_execution(
                session,
                parts,
                asked["execution_id"],
                actor=asked["actor"],
                reason="the execution that started it was stopped",
                abandon=asked["abandon"],
                now=parts.clock(),
            )
        except (Conflict, NotFound):
            return  # it has ended, or is stopping already

    context.finish(JobState.SUCCEEDED, unit)
