"""Jobs of custom actions, as workers take them: CodePipeline's PollForJobs, AcknowledgeJob, PutJobSuccessResult and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from sqlalchemy.orm import Session

from hooks.api.action_types import ActionTypeId
from hooks.models.action_job import ActionJob, CustomActionType
from hooks.models.pipeline import Execution
from hooks.pipelines import action_jobs, custom_types, job_results
from hooks.pipelines.action_jobs import JobStatus
from hooks.pipelines.engine import REFUSALS
from hooks.pipelines.job_data import ACCOUNT_ID, JobData, data_of
from hooks.services import HookServices
from registry.access import Identity
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Denied, Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api

MOST_JOBS = 10


@dataclass(frozen=True, slots=True)
class JobPoll:
    """What a worker asks for. ``query_param`` has the queryable property and its value: at most one."""

    action_type_id: ActionTypeId
    max_batch_size: Annotated[int, Between(1, MOST_JOBS)] = 1
    query_param: Annotated[dict[str, str], Length(0, 1)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolledJob:
    """A job that was handed out. The ``nonce`` acknowledges it, for a minute; then it may be handed to somebody else."""

    id: str
    nonce: str
    account_id: str
    data: JobData


@dataclass(frozen=True, slots=True)
class PolledJobs:
    """The jobs that were handed out, oldest first."""

    jobs: tuple[PolledJob, ...]


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job (GetJobDetails). What is secret in ``data`` is told to who holds the job, while it goes on."""

    id: str
    account_id: str
    status: str
    data: JobData


@dataclass(frozen=True, slots=True)
class JobNonce:
    """The nonce with which the job was handed out."""

    nonce: Annotated[str, Length(1, 50)]


@dataclass(frozen=True, slots=True)
class JobState:
    """The status of a job: Queued, Dispatched, InProgress, TimedOut, Succeeded or Failed."""

    status: str


@dataclass(frozen=True, slots=True)
class JobExecutionDetails:
    """How far it is, for people."""

    summary: Annotated[str, Length(0, 2048)] | None = None
    external_execution_id: Annotated[str, Length(1, 1500)] | None = None
    percent_complete: Annotated[int, Between(0, 100)] | None = None


@dataclass(frozen=True, slots=True)
class JobRevision:
    """What was worked on (currentRevision), for people."""

    revision: Annotated[str, Length(1, 1500)]
    change_identifier: Annotated[str, Length(1, 100)]
    created: Annotated[str, Length(1, 40)] | None = None
    revision_summary: Annotated[str, Length(1, 2048)] | None = None


@dataclass(frozen=True, slots=True)
class JobSuccess:
    """How it went well. With a ``continuation_token`` it is not finished: it is handed out again with that."""

    continuation_token: Annotated[str, Length(1, 2048)] | None = None
    execution_details: JobExecutionDetails | None = None
    current_revision: JobRevision | None = None
    output_variables: Annotated[dict[str, str], Length(0, 500)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobFailureDetails:
    """Why it failed; ``type`` is one of CodePipeline's.

    JobFailed, ConfigurationError, PermissionError, RevisionOutOfSync, RevisionUnavailable, SystemUnavailable.
    """

    type: Annotated[str, Length(1, 32)]
    message: Annotated[str, Length(1, 5000)]
    external_execution_id: Annotated[str, Length(1, 1500)] | None = None


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why it did not go well."""

    failure_details: JobFailureDetails


class JobViews:
    """The operations of workers. Who may: the workers of the action type, where they read the execution's package."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table: what a caller may serve depends on the type, so that each operation looks there."""
        door, one = signed_in_api, "/jobs/<job>"
        return (
            Route("POST", "/jobs/poll", door, self.poll_for_jobs, body=JobPoll, answer=PolledJobs),
            Route("GET", one, door, self.get_job_details, answer=JobDetails),
            Route("POST", f"{one}/acknowledge", door, self.acknowledge_job, body=JobNonce, answer=JobState),
            Route("POST", f"{one}/success", door, self.put_job_success, body=JobSuccess, answer=JobState),
            Route("POST", f"{one}/failure", door, self.put_job_failure, body=JobFailure, answer=JobState),
        )

    def poll_for_jobs(self, body: JobPoll) -> PolledJobs:
        """Jobs of a custom action type that wait (PollForJobs); each is to be acknowledged.

        For the type's workers, of executions whose package they may read (`entrepot:PollForJobs`).
        """
        services, caller = self._services, context.caller()
        wanted = body.action_type_id
        if wanted.owner != custom_types.OWNER:
            raise Invalid("actionTypeId owner: workers serve custom action types")
        digest = context.services().accounts.digest

        def unit(session: Session) -> tuple[list[PolledJob], list[tuple[str, str]]]:
            custom = custom_types.find(session, wanted.category, wanted.provider, wanted.version)
            _check_serves(session, caller, custom)
            asking = action_jobs.Asking(body.max_batch_size, _query(custom, body.query_param))
            sealer, now = services.actions.sealer, services.clock()
            given = action_jobs.poll(session, sealer, caller, custom, asking, digest=digest, now=now)
            told: list[PolledJob] = []
            refused: list[tuple[str, str]] = []
            for each in given:
                try:
                    data = self._data(session, each.job, each.token)
                except REFUSALS as refusal:
                    refused.append((each.job.id, str(refusal)))
                else:
                    told.append(PolledJob(each.job.id, each.job.nonce, ACCOUNT_ID, data))
            return told, refused

        told, refused = services.db.retry(unit)
        for job_id, why in refused:
            services.db.retry(partial(self._refuse, job_id, why))
        return PolledJobs(tuple(told))

    def get_job_details(self, job: str) -> JobDetails:
        """A job (GetJobDetails). For the type's workers; its secrets for who holds it."""
        services, caller = self._services, context.caller()
        with services.db.read() as session:
            row = _served(session, caller, job)
            holds = row.held_by == caller.name and row.status in {JobStatus.DISPATCHED, JobStatus.IN_PROGRESS}
            token = action_jobs.token_of(services.actions.sealer, row) if holds else None
            return JobDetails(row.id, ACCOUNT_ID, row.status, self._data(session, row, token))

    def acknowledge_job(self, job: str, body: JobNonce) -> JobState:
        """Take a job on (AcknowledgeJob), with the nonce that it was handed out with. The first wins."""
        caller = context.caller()

        def unit(session: Session) -> JobState:
            row = _served(session, caller, job)
            return JobState(action_jobs.acknowledge(session, row, body.nonce, caller, self._services.clock()))

        return self._services.db.retry(unit)

    def put_job_success(self, job: str, body: JobSuccess) -> JobState:
        """Say that a job went well (PutJobSuccessResult), or goes on (`continuationToken`). For who holds it."""
        caller, services = context.caller(), self._services

        def unit(session: Session) -> JobState:
            _served(session, caller, job)
            now = services.clock()
            job_results.succeed(session, services.actions, job, success_of(body), actor=caller.name, now=now)
            return JobState(action_jobs.find(session, job).status)

        return services.db.retry(unit)

    def put_job_failure(self, job: str, body: JobFailure) -> JobState:
        """Say that a job failed (PutJobFailureResult). For who holds it."""
        caller, services = context.caller(), self._services

        def unit(session: Session) -> JobState:
            _served(session, caller, job)
            now = services.clock()
            job_results.fail(session, services.actions, job, failure_of(body), actor=caller.name, now=now)
            return JobState(action_jobs.find(session, job).status)

        return services.db.retry(unit)

    def _refuse(self, job_id: str, why: str, session: Session) -> None:
        """Fail a job that cannot be handed out, so that it holds up no others.

        Each in a transaction of its own, after the poll's: that one holds jobs, and pipeline and execution come before them.
        A server killed in between hands the job out again in a minute, and refuses it then.
        """
        job_results.refuse(session, self._services.actions, job_id, why, now=self._services.clock())

    def _data(self, session: Session, job: ActionJob, token: str | None) -> JobData:
        return data_of(session, self._services.actions, job, self._services.notifications.base_url, token)


def success_of(body: JobSuccess) -> job_results.Success:
    """What was sent, as the engine takes it."""
    details, revision = body.execution_details or JobExecutionDetails(), body.current_revision
    told: Mapping[str, str | None] | None = None
    if revision is not None:
        told = {
            "revision": revision.revision,
            "changeIdentifier": revision.change_identifier,
            "created": revision.created,
            "revisionSummary": revision.revision_summary,
        }
    return job_results.Success(
        body.continuation_token,
        details.summary,
        details.external_execution_id,
        details.percent_complete,
        None if told is None else {name: value for name, value in told.items() if value is not None},
        body.output_variables,
    )


def failure_of(body: JobFailure) -> job_results.Failure:
    """What was sent, as the engine takes it."""
    told = body.failure_details
    return job_results.Failure(told.type, told.message, told.external_execution_id)


def _check_serves(session: Session, caller: Identity, custom: CustomActionType) -> None:
    if not action_jobs.may_serve(session, caller, custom):
        name = f"{custom.category}/{custom.provider}/{custom.version}"
        raise Denied(f"{caller.name} is no worker of the action type {name}")


def _served(session: Session, caller: Identity, job_id: str) -> ActionJob:
    """A job of a type that the caller may serve, and of an execution that they may work on. Raises NotFound, Denied."""
    job = action_jobs.find(session, job_id)
    _check_serves(session, caller, session.get_one(CustomActionType, job.action_type_id))
    if not action_jobs.may_work_on(session, caller, job, session.get_one(Execution, job.execution_id)):
        raise NotFound("job", job_id[:100])
    return job


def _query(custom: CustomActionType, asked: Mapping[str, str]) -> str:
    queryable = custom_types.type_of(custom).queryable
    for name, value in asked.items():
        if name != queryable:
            raise Invalid(f"queryParam: {name[:50]!r} is not the type's queryable property")
        if fault := custom_types.check_query_value(value):
            raise Invalid(f"queryParam: {fault}")
        return value
    return ""
