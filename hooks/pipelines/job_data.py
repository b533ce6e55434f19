"""What whoever carries a job out gets to know of it (CodePipeline's JobData), and the files that it may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.revision_archives import find_revision
from hooks.deployments.revision_files import served_files
from hooks.models.action_job import ActionJob
from hooks.models.pipeline import ActionExecution
from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.action_jobs import FETCHED, pinned_inputs
from hooks.pipelines.definition import ActionDefinition, ActionType
from hooks.pipelines.parts import Parts, PinnedVersion
from hooks.pipelines.property_secrets import of_action
from hooks.pipelines.run import Run, look, pinned_version
from registry.errors import Conflict, NotFound
from registry.models import Blob
from registry.stores import handle_of
from storage.blobs import BlobHandle

ARTIFACTS_PATH = "/api/v1/job-artifacts"
RESULTS_PATH = "/api/v1/job-results"
ACCOUNT_ID = "000000000000"
"""A server has no accounts of AWS's kind; clients that look for one find the usual stand-in."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of an input artifact, and where it is read with the job's token."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ArtifactLocation:
    """Where an artifact is: an input's ``files``, or the ``url`` to which an output is sent, by PUT, as a zip."""

    type: str
    files: tuple[JobFile, ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True)
class JobArtifact:
    """An artifact of a job. ``revision`` of an input is its SHA-256."""

    name: str
    revision: str | None
    location: ArtifactLocation


@dataclass(frozen=True, slots=True)
class JobActionTypeId:
    """The type of a job's action."""

    category: str
    owner: str
    provider: str
    version: str


@dataclass(frozen=True, slots=True)
class JobActionConfiguration:
    """The action's settings, resolved; of secret ones the values for who holds the job, and ``****`` for others."""

    configuration: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JobStageContext:
    """The stage of a job's action."""

    name: str


@dataclass(frozen=True, slots=True)
class JobActionContext:
    """The action of a job."""

    name: str
    action_execution_id: str


@dataclass(frozen=True, slots=True)
class JobPipelineContext:
    """Where a job stands."""

    pipeline_name: str
    stage: JobStageContext
    action: JobActionContext
    pipeline_execution_id: str
    pipeline_arn: str | None = None


@dataclass(frozen=True, slots=True)
class JobPackage:
    """The package version that the execution is about."""

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class JobCredentials:
    """What opens the URLs of the artifacts, as a Bearer token, until the job has ended."""

    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class JobData:
    """CodePipeline's JobData, and the ``package``. ``artifact_credentials`` are told to who holds the job."""

    action_type_id: JobActionTypeId
    action_configuration: JobActionConfiguration
    pipeline_context: JobPipelineContext
    package: JobPackage
    input_artifacts: tuple[JobArtifact, ...]
    output_artifacts: tuple[JobArtifact, ...]
    artifact_credentials: JobCredentials | None
    continuation_token: str | None


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to be sent, with whose store has it."""

    domain_id: int
    handle: BlobHandle
    filename: str
    modified: datetime


def data_of(session: Session, parts: Parts, job: ActionJob, base_url: str, token: str | None) -> JobData:
    """A job's data; with secrets, and what opens artifacts, where the ``token`` is given."""
    run, row = look(session, job.execution_id), session.get_one(ActionExecution, job.action_execution_id)
    action, source = _action(run, job), pinned_version(run.execution)
    configuration = dict(row.resolved_configuration)
    if token is not None:
        configuration |= of_action(session, parts.sealer, run.execution.definition_id, job.stage, job.action)
    kind: ActionType = action.type
    return JobData(
        JobActionTypeId(kind.category, kind.owner, kind.provider, kind.version),
        JobActionConfiguration(configuration),
        JobPipelineContext(
            run.pipeline, JobStageContext(job.stage), JobActionContext(job.action, str(row.id)), str(run.execution.id)
        ),
        JobPackage(
            source.domain,
            source.repository,
            source.format,
            source.namespace,
            source.name,
            source.version,
            source.digest,
        ),
        tuple(_input(session, job, name, source, base_url) for name in action.inputs),
        tuple(
            JobArtifact(name, None, ArtifactLocation("Entrepot", url=_url(base_url, job, "outputs", name)))
            for name in action.outputs
        ),
        JobCredentials(token) if token is not None else None,
        job.continuation_token if token is not None else None,
    )


def outputs_of(session: Session, job: ActionJob) -> tuple[str, ...]:
    """The output artifacts that a job has to leave."""
    return _action(look(session, job.execution_id), job).outputs


def secrets_of(session: Session, parts: Parts, job: ActionJob) -> Mapping[str, str]:
    """The secret properties of a job's action."""
    run = look(session, job.execution_id)
    return of_action(session, parts.sealer, run.execution.definition_id, job.stage, job.action)


def find_file(session: Session, job: ActionJob, artifact: str, filename: str) -> FoundFile:
    """A file of an input artifact, as it was pinned.

    Raises NotFound for what is none of the job's, and Conflict for what is not served any more, or was replaced.
    """
    run = look(session, job.execution_id)
    if artifact not in _action(run, job).inputs:
        raise NotFound("input artifact", artifact[:100])
    pinned = pinned_inputs(job).get(artifact)
    if pinned is not None:
        held, blob, named = _kept(session, *pinned[:2])
        if named != filename:
            raise NotFound("file", filename[:100])
        if held.sha256 != pinned[2]:
            raise Conflict(f"artifact {artifact} is not the one that was handed on")
        return FoundFile(blob.domain_id, handle_of(blob), filename, held.created_at)
    return _found_asset(session, pinned_version(run.execution), filename, run.execution.started_at)


def _kept(
    session: Session, keeper: str, identifier: str
) -> tuple[artifact_reading.Artifact | SourceRevision, Blob, str]:
    """What was handed on, with its body and the name of its file: of a build, a job, or a source."""
    if keeper == FETCHED:
        revision, blob = find_revision(session, identifier)
        return revision, blob, revision.filename
    row, blob = artifact_reading.find(session, keeper, identifier)
    return row, blob, artifact_reading.filename_of(row)


def _found_asset(session: Session, source: PinnedVersion, filename: str, modified: datetime) -> FoundFile:
    wanted = source.assets.get(filename)
    if wanted is None:
        raise NotFound("file", filename[:100])
    place: dict[str, Any] = {
        "domain": source.domain,
        "repository": source.repository,
        "format": source.format,
        "namespace": source.namespace,
        "name": source.name,
        "version": source.version,
    }
    file = served_files(session, place).get(filename)
    if file is None or file.kept is None or file.kept.handle.digest != wanted:
        raise Conflict(f"{filename} is not served any more as it was when the execution started")
    handle = file.kept.handle
    domain_id = session.scalar(select(Blob.domain_id).where(Blob.locator == handle.locator))
    if domain_id is None:
        raise Conflict(f"{filename} is being deleted")
    return FoundFile(domain_id, handle, filename, modified)


def _action(run: Run, job: ActionJob) -> ActionDefinition:
    stage = run.definition.stage(job.stage)
    action = stage.action(job.action) if stage is not None else None
    if action is None:
        raise NotFound("action", f"{job.stage}/{job.action}")
    return action


def _input(session: Session, job: ActionJob, name: str, source: PinnedVersion, base_url: str) -> JobArtifact:
    pinned = pinned_inputs(job).get(name)
    if pinned is None:
        revision, held = source.digest, dict(sorted(source.assets.items()))
    else:
        keeper, identifier, revision = pinned
        held = {_kept(session, keeper, identifier)[2]: revision}
    files = tuple(
        JobFile(filename, _url(base_url, job, "inputs", name, filename), sha256) for filename, sha256 in held.items()
    )
    return JobArtifact(name, revision, ArtifactLocation("Entrepot", files))


def _url(base_url: str, job: ActionJob, *parts: str) -> str:
    return "/".join([base_url.rstrip("/") + ARTIFACTS_PATH, job.id, *(quote(part, safe="") for part in parts)])


def as_document(value: Any) -> Any:
    """A value as JSON with CodePipeline's spelling of names; keys of mappings stay as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        return {_camel(each.name): as_document(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [as_document(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
