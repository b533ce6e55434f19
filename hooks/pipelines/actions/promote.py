"""Deploy / Entrepot / Promote: the pinned files are copied, as rows, to another repository of the domain."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, call_off, enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines import promote_gates
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Check, Provider, Setting
from hooks.pipelines.state import ActionStatus
from hooks.pipelines.which_packages import SETTING, check_packages
from registry.errors import Invalid
from registry.names import repository_name

JOB_KIND = "promote"


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_flag(value: str) -> str | None:
    return None if value in {"true", "false"} else f"{value!r} is neither 'true' nor 'false'"


# What must not be chosen by a build, or by whoever publishes: none of it takes variables.
GATES: Mapping[str, Check] = {
    "RequireReports": _check_flag,
    "MinimumTests": promote_gates.check_number,
    "MinimumAge": promote_gates.check_age,
    "WaitForAge": _check_flag,
    "BlockAdvisories": promote_gates.check_severity,
    "RequireAttestations": promote_gates.check_attestations,
}


def _start(session: Session, starting: Starting) -> Progress:
    if starting.source.is_package and any(not handed.is_version for handed in starting.artifacts.values()):
        raise Invalid("the package version is what is promoted: a build's artifact is none")
    target = starting.configuration["TargetRepository"]
    source = starting.configuration.get("SourceRepository", "")
    if starting.source.is_package:
        source = source or starting.source.repository
    job_id = order(session, starting.action_id, starting.execution_id, (source, target), starting.configuration)
    return Progress(
        ActionStatus.IN_PROGRESS, f"promotion from {source or 'where it was published'} to {target}", job_id=job_id
    )


def order(
    session: Session,
    action_id: int,
    execution_id: int,
    place: tuple[str, str],
    configuration: Mapping[str, str],
    *,
    wait_seconds: float = 0.0,
) -> int | None:
    """Queue the promotion of an action, or its next look at the gates if it has to wait; the job's number.

    ``place`` is from where to where, of the version's domain; from "" is wherever the builds have published.
    """
    by_publisher = ":" in configuration.get("RequireAttestations", "")
    return enqueue(
        session,
        JOB_KIND,
        {
            "action_execution_id": action_id,
            "source": place[0],
            "target": place[1],
            "by_publisher": by_publisher,
        },
        # The one that asks to be called again is still running under the other name.
        dedupe=f"promote:{action_id}:{uuid.uuid4().hex}" if wait_seconds else f"promote:{action_id}",
        run_after_seconds=wait_seconds,
        subject=f"execution:{execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )


def _stop(session: Session, _parts: Parts, row: ActionExecution, _actor: str) -> None:
    if row.job_id is not None:
        give_up(session, row.job_id)


def _wind_down(session: Session, _parts: Parts, row: ActionExecution, actor: str) -> Progress | None:
    """Give up a promotion that waits for its gates. One that is at work, or about to be, comes to its end."""
    if row.job_id is None or not call_off(session, row.job_id):
        return None
    return Progress(ActionStatus.ABANDONED, f"abandoned while it waited: {actor} stopped the execution")


PROMOTE = ActionKind(
    Provider(
        "Deploy",
        "Entrepot",
        "Promote",
        (
            Setting("TargetRepository", is_required=True, check=_check_repository),
            Setting("SourceRepository", check=_check_repository),
            Setting(SETTING, check=check_packages, is_literal=True),
            *(Setting(name, check=check, is_literal=True) for name, check in GATES.items()),
        ),
        inputs=(0, 1),
        outputs=(0, 0),
    ),
    _start,
    _stop,
    _wind_down,
)
