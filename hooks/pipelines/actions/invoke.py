"""Invoke / AWS / CodePipeline: another pipeline is started with this execution's package version, and its end is awaited.

The execution is started by a job of its own, which locks the other pipeline alone; ``hooks.pipelines.invoke_jobs``.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later, forget_expiry
from hooks.pipelines.definition import NAME, VARIABLE
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from hooks.pipelines.variables import has_reference
from registry.errors import Invalid
from registry.names import repository_name

JOB_KIND = "invoke_pipeline"
STOP_KIND = "invoked_execution_stop"
DEFAULT_TIMEOUT_MINUTES = 7 * 24 * 60
"""As long as an approval in the other pipeline may wait."""


def variables_of(value: str) -> dict[str, str]:
    """The setting Variables: a JSON list of {name, value}, or an object. Raises Invalid."""
    try:
        found: Any = json.loads(value)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Invalid("Variables: not a JSON list of {name, value}") from error
    if isinstance(found, list):
        if any(not isinstance(item, dict) or set(item) != {"name", "value"} for item in found):
            raise Invalid("Variables: each member has a name and a value")
        names = [item["name"] for item in found]
        if len({str(name) for name in names}) < len(names):
            raise Invalid("Variables: a name is there twice")
        found = {str(item["name"]): item["value"] for item in found}
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise Invalid("Variables: names and values are text")
    for name, text in found.items():
        if not VARIABLE.match(name) or len(text) > 1000:
            raise Invalid("Variables: a name has 1 to 128 letters, digits and @ _ -, a value at most 1000 characters")
    return found


def _check_variables(value: str) -> str | None:
    try:
        variables_of(value)
    except Invalid as error:
        return error.rule
    return None


def _check_name(value: str) -> str | None:
    return None if NAME.match(value) else "it is not the name of a pipeline"


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _start(session: Session, starting: Starting) -> Progress:
    configuration = starting.configuration
    name = configuration["PipelineName"]
    if has_reference(name) or (fault := _check_name(name)):
        raise Invalid(f"configuration PipelineName: {fault}")
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    job_id = enqueue(
        session,
        JOB_KIND,
        {
            "action_execution_id": starting.action_id,
            "pipeline": name,
            "repository": configuration.get("SourceRepository") or starting.source.repository,
            "variables": variables_of(configuration.get("Variables") or "{}"),
        },
        dedupe=f"{JOB_KIND}:{starting.action_id}",
        subject=f"execution:{starting.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    expire_later(session, starting.action_id, minutes)
    until = starting.now + timedelta(minutes=minutes)
    return Progress(ActionStatus.IN_PROGRESS, f"an execution of {name}", job_id=job_id, expires_at=until)


def _pass_on(session: Session, row: ActionExecution, actor: str, *, abandon: bool) -> None:
    if row.invoked_execution_id is not None:
        enqueue(
            session,
            STOP_KIND,
            {"execution_id": row.invoked_execution_id, "actor": actor, "abandon": abandon},
            subject=f"execution:{row.execution_id}",
            max_attempts=PATIENT_ATTEMPTS,
        )


def _stop(session: Session, _parts: Parts, row: ActionExecution, actor: str) -> None:
    forget_expiry(session, row.id)
    if row.invoked_execution_id is None and row.job_id is not None:
        give_up(session, row.job_id)
    _pass_on(session, row, actor, abandon=True)


def _wind_down(session: Session, _parts: Parts, row: ActionExecution, actor: str) -> None:
    _pass_on(session, row, actor, abandon=False)


PIPELINE = ActionKind(
    Provider(
        "Invoke",
        "AWS",
        "CodePipeline",
        (
            Setting("PipelineName", is_required=True, check=_check_name, is_literal=True),
            Setting("Variables", check=_check_variables, is_json=True),
            Setting("SourceRepository", check=_check_repository, is_literal=True),
        ),
        inputs=(0, 0),
        outputs=(0, 0),
        variables=frozenset({"PipelineExecutionId"}),
        has_timeout=True,
    ),
    _start,
    _stop,
    _wind_down,
)
