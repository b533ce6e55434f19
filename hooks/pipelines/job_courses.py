"""How far the jobs of actions are, as their workers told it, and where that is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionJob, CustomActionType
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.custom_types import TypeSettings, type_of

_PLACE = re.compile(r"\{(Config:[A-Za-z0-9_.@-]{1,50}|ExternalExecutionId)\}")


@dataclass(frozen=True, slots=True)
class JobCourse:
    """What was told of a job, with addresses of the type's templates. ``status`` is the job's, ``holder`` who has it."""

    status: str = ""
    holder: str | None = None
    percent_complete: int | None = None
    external_execution_id: str | None = None
    external_execution_url: str | None = None
    entity_url: str | None = None
    current_revision: Mapping[str, str] | None = None


NONE = JobCourse()
"""Of an action without a job, and of a job of which nothing was told."""


def of_actions(session: Session, rows: Sequence[ActionExecution]) -> Mapping[str, JobCourse]:
    """Job → its course, of those actions that have one."""
    wanted = {row.action_job_id: row for row in rows if row.action_job_id is not None}
    if not wanted:
        return {}
    found = session.execute(
        select(ActionJob, CustomActionType)
        .outerjoin(CustomActionType, CustomActionType.id == ActionJob.action_type_id)
        .where(ActionJob.id.in_(wanted))
    )
    return {job.id: _course(job, custom, wanted[job.id].resolved_configuration) for job, custom in found}


def _course(job: ActionJob, custom: CustomActionType | None, configuration: Mapping[str, str]) -> JobCourse:
    settings, told = type_of(custom).settings if custom is not None else TypeSettings(), job.details
    external = told.get("externalExecutionId")
    # What is secret is masked in the configuration already.
    values = {f"Config:{name}": value for name, value in configuration.items()}
    entity = _filled(settings.entity_url_template, values)
    if external is not None:
        values["ExternalExecutionId"] = str(external)
    return JobCourse(
        job.status,
        job.held_by,
        told.get("percentComplete"),
        external,
        _filled(settings.execution_url_template, values),
        entity,
        told.get("currentRevision"),
    )


def _filled(template: str, values: Mapping[str, str]) -> str | None:
    """The address; None where there is no template, or not yet all that it is made of."""
    if not template or any(match[1] not in values for match in _PLACE.finditer(template)):
        return None
    return _PLACE.sub(lambda match: quote(values[match[1]], safe=""), template)
