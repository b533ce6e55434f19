"""Deploy / AWS / CodeDeployToECS: a service's documents, out of artifacts, go to a deployment group of containers.

The documents are read by a job, before anything is locked, and the deployment is made by the same;
``hooks.pipelines.service_jobs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.handing_over import keeper_of_artifacts
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.pipelines.actions.deploy import (
    DEFAULT_TIMEOUT_MINUTES,
    VARIABLES,
    check_name,
    check_repository,
    stop_deployment,
)
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later
from hooks.pipelines.definition import ARTIFACT
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid

JOB_KIND = "deploy_service"
TASK_DEFINITION, APPSPEC, IMAGE_DETAIL = "taskdef.json", "appspec.yaml", "imageDetail.json"
MOST_IMAGES = 4


def _check_artifact(value: str) -> str | None:
    return None if ARTIFACT.match(value) else f"{value!r} is not the name of an artifact"


def _check_path(value: str) -> str | None:
    parts = value.split("/")
    if not value.isprintable() or any(part in {"", ".", ".."} for part in parts):
        return f"{value!r} is no path of a file in an artifact"
    return None


def _check_placeholder(value: str) -> str | None:
    return None if ARTIFACT.match(value) else f"{value!r}: a placeholder is written without its angle brackets"


def _start(session: Session, starting: Starting) -> Progress:
    configuration = starting.configuration
    place = f"{configuration['ApplicationName']}/{configuration['DeploymentGroupName']}"
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    job_id = enqueue(
        session,
        JOB_KIND,
        {
            "action_execution_id": starting.action_id,
            "application": configuration["ApplicationName"],
            "group": configuration["DeploymentGroupName"],
            "repository": configuration.get("SourceRepository") or starting.source.repository,
            "texts": _texts(session, starting),
        },
        dedupe=f"{JOB_KIND}:{starting.action_id}",
        subject=f"execution:{starting.execution_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
    expire_later(session, starting.action_id, minutes)
    until = starting.now + timedelta(minutes=minutes)
    return Progress(ActionStatus.IN_PROGRESS, f"deployment to {place}", job_id=job_id, expires_at=until)


def _texts(session: Session, starting: Starting) -> Mapping[str, Sequence[str | None]]:
    """What is read of which artifact: ``taskdef``, ``appspec``, and ``image NAME`` → (keeper, identifier, SHA-256, path)."""
    said = starting.configuration

    def pinned(setting: str, path: str) -> list[str | None]:
        artifact = said[setting]
        if artifact not in starting.artifacts:
            raise Invalid(f"configuration {setting}: {artifact!r} is none of the input artifacts")
        handed = starting.artifacts[artifact]
        if handed.build_id is None and handed.identifier:
            raise Invalid(f"configuration {setting}: {artifact} is an archive of sources; name the artifact of a build")
        if handed.build_id is None:
            return [None, "", "", path]
        keeper = keeper_of_artifacts(session, handed.build_id)
        row, _ = artifact_reading.find(session, keeper, handed.identifier)
        return [keeper, handed.identifier, row.sha256, path]

    found = {
        "taskdef": pinned("TaskDefinitionTemplateArtifact", said.get("TaskDefinitionTemplatePath") or TASK_DEFINITION),
        "appspec": pinned("AppSpecTemplateArtifact", said.get("AppSpecTemplatePath") or APPSPEC),
    }
    for number in range(1, MOST_IMAGES + 1):
        artifact, name = f"Image{number}ArtifactName", f"Image{number}ContainerName"
        if (artifact in said) != (name in said):
            raise Invalid(f"configuration {artifact} and {name} belong together")
        if artifact in said:
            found[f"image {said[name]}"] = pinned(artifact, IMAGE_DETAIL)
    return found


_IMAGES = tuple(
    setting
    for number in range(1, MOST_IMAGES + 1)
    for setting in (
        Setting(f"Image{number}ArtifactName", check=_check_artifact),
        Setting(f"Image{number}ContainerName", check=_check_placeholder),
    )
)

SERVICE = ActionKind(
    Provider(
        "Deploy",
        "AWS",
        "CodeDeployToECS",
        (
            Setting("ApplicationName", is_required=True, check=check_name),
            Setting("DeploymentGroupName", is_required=True, check=check_name),
            Setting("TaskDefinitionTemplateArtifact", is_required=True, check=_check_artifact),
            Setting("TaskDefinitionTemplatePath", check=_check_path),
            Setting("AppSpecTemplateArtifact", is_required=True, check=_check_artifact),
            Setting("AppSpecTemplatePath", check=_check_path),
            *_IMAGES,
            Setting("SourceRepository", check=check_repository),
        ),
        inputs=(1, 5),
        outputs=(0, 0),
        variables=VARIABLES,
        has_timeout=True,
        names_inputs=frozenset(
            {
                "TaskDefinitionTemplateArtifact",
                "AppSpecTemplateArtifact",
                *(f"Image{number}ArtifactName" for number in range(1, MOST_IMAGES + 1)),
            }
        ),
    ),
    _start,
    stop_deployment,
)
