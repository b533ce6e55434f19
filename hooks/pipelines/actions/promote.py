"""Deploy / Entrepot / Promote: the pinned files are copied, as rows, to another repository of the domain."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid
from registry.names import repository_name

JOB_KIND = "promote"


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _start(session: Session, starting: Starting) -> Progress:
    if starting.source.is_package and any(not handed.is_version for handed in starting.artifacts.values()):
        raise Invalid("the package version is what is promoted: a build's artifact is none")
    target = starting.configuration["TargetRepository"]
    source = starting.configuration.get("SourceRepository", "")
    if starting.source.is_package:
        source = source or starting.source.repository
    job_id = enqueue(
        session,
        JOB_KIND,
        {"action_execution_id": starting.action_id, "source": source, "target": target},
        dedupe=f"promote:{starting.action_id}",
        subject=f"execution:{starting.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    return Progress(
        ActionStatus.IN_PROGRESS, f"promotion from {source or 'where it was published'} to {target}", job_id=job_id
    )


def _stop(session: Session, _parts: Parts, row: ActionExecution, _actor: str) -> None:
    if row.job_id is not None:
        give_up(session, row.job_id)


PROMOTE = ActionKind(
    Provider(
        "Deploy",
        "Entrepot",
        "Promote",
        (
            Setting("TargetRepository", is_required=True, check=_check_repository),
            Setting("SourceRepository", check=_check_repository),
        ),
        inputs=(0, 1),
        outputs=(0, 0),
    ),
    _start,
    _stop,
)
