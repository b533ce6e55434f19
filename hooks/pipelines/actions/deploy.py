"""Deploy / AWS / CodeDeploy: the pinned files, or what a build of the execution has left, go to a deployment group.

The deployment is made by a job of its own, in a transaction that makes nothing else; ``hooks.pipelines.deploy_jobs``.
"""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later, forget_expiry
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid
from registry.names import repository_name

JOB_KIND = "deploy"
STOP_KIND = "deployment_stop"
DEFAULT_TIMEOUT_MINUTES = 5 * 24 * 60
"""CodePipeline's limit for actions of CodeDeploy."""
VARIABLES = frozenset({"DeploymentId", "RevisionDigest"})
_NAME = re.compile(r"[A-Za-z0-9._+=,@-]{1,100}\Z")


def _check_name(value: str) -> str | None:
    return None if _NAME.match(value) else f"{value!r}: a name has 1 to 100 letters, digits and . _ + = , @ -"


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_asset(value: str) -> str | None:
    if not value or "/" in value or any(char.isspace() or not char.isprintable() for char in value):
        return f"{value!r} is no pattern for the name of a file"
    if any(char in value for char in "[]{}()|\\^$"):
        return f"{value!r}: a pattern knows '*' and '?', and is no regular expression"
    return None


def _start(session: Session, starting: Starting) -> Progress:
    configuration = starting.configuration
    handed = next((each for each in starting.artifacts.values() if each.build_id is not None), None)
    # Of a version nothing is handed on but itself, of any other kind of source its archive.
    revision = next(
        (each.identifier for each in starting.artifacts.values() if handed is None and each.identifier), None
    )
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    place = f"{configuration['ApplicationName']}/{configuration['DeploymentGroupName']}"
    job_id = enqueue(
        session,
        JOB_KIND,
        {
            "action_execution_id": starting.action_id,
            "application": configuration["ApplicationName"],
            "group": configuration["DeploymentGroupName"],
            "repository": configuration.get("SourceRepository") or starting.source.repository,
            "asset": configuration.get("Asset"),
            "artifact": None if handed is None else [handed.build_id, handed.identifier],
            "revision": revision,
        },
        dedupe=f"{JOB_KIND}:{starting.action_id}",
        subject=f"execution:{starting.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    expire_later(session, starting.action_id, minutes)
    return Progress(
        ActionStatus.IN_PROGRESS,
        f"deployment to {place}",
        job_id=job_id,
        expires_at=starting.now + timedelta(minutes=minutes),
    )


def _stop(session: Session, _parts: Parts, row: ActionExecution, actor: str) -> None:
    """Give the job up, or have the deployment stopped by a job of its own: no transaction locks two deployments."""
    forget_expiry(session, row.id)
    if row.deployment_id is not None:
        enqueue(
            session,
            STOP_KIND,
            {"deployment_id": row.deployment_id, "actor": actor},
            subject=f"execution:{row.execution_id}",
            max_attempts=PATIENT_ATTEMPTS,
        )
    elif row.job_id is not None:
        give_up(session, row.job_id)


CODEDEPLOY = ActionKind(
    Provider(
        "Deploy",
        "AWS",
        "CodeDeploy",
        (
            Setting("ApplicationName", is_required=True, check=_check_name),
            Setting("DeploymentGroupName", is_required=True, check=_check_name),
            Setting("SourceRepository", check=_check_repository),
            Setting("Asset", check=_check_asset),
        ),
        inputs=(0, 1),
        outputs=(0, 0),
        variables=VARIABLES,
        has_timeout=True,
        of_version=frozenset({"SourceRepository", "Asset"}),
    ),
    _start,
    _stop,
)
