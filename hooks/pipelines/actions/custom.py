"""Custom actions: a job waits until a worker takes it (CodePipeline "Create and add a custom action").

One kind stands for all types that somebody makes (``hooks.pipelines.custom_types``); workers come by ``hooks.api.jobs``.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution
from hooks.pipelines import action_jobs, custom_types
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later, forget_expiry
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid

DEFAULT_TIMEOUT_MINUTES = 24 * 60
"""CodePipeline's limit for custom actions."""


def _start(session: Session, starting: Starting) -> Progress:
    of = starting.definition.type
    # Locked by nobody: a type that is deleted at this moment leaves a job that no worker gets, and that times out.
    row = custom_types.find(session, of.category, of.provider, of.version)
    custom = custom_types.type_of(row)
    for each in custom.configuration_properties:
        if each.required and not starting.configuration.get(each.name):
            raise Invalid(f"configuration {each.name} is empty")
    query = starting.configuration.get(custom.queryable, "") if custom.queryable else ""
    if query and (fault := custom_types.check_query_value(query)):
        raise Invalid(f"configuration {custom.queryable}: {fault}")
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    wanted = order_of(starting, minutes)
    job = action_jobs.new_job(session, wanted, action_type_id=row.id, query_value=query)
    expire_later(session, starting.action_id, minutes)
    until = starting.now + timedelta(minutes=minutes)
    return Progress(ActionStatus.IN_PROGRESS, "waits for a worker", action_job_id=job.id, expires_at=until)


def order_of(starting: Starting, minutes: int) -> action_jobs.NewJob:
    """The job of an action that starts."""
    return action_jobs.NewJob(
        starting.action_id,
        starting.execution_id,
        starting.stage,
        starting.definition.name,
        starting.artifacts,
        minutes,
        starting.now,
    )


def stop_job(session: Session, parts: Parts, row: ActionExecution, _actor: str) -> None:
    """Give up the job of an action: what its worker still reports is refused."""
    forget_expiry(session, row.id)
    action_jobs.give_up(session, row.action_job_id, parts.clock())


KIND = ActionKind(
    Provider("*", custom_types.OWNER, "*", (), inputs=(0, 5), outputs=(0, 5), variables=None, has_timeout=True),
    _start,
    stop_job,
)
