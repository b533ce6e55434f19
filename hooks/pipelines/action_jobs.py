"""Jobs of actions that somebody else carries out (CodePipeline's custom actions): made, handed out, and given up.

Everything is in the caller's transaction. Locks are taken in the order pipeline, execution, job; handing out takes a job alone,
by a condition on what it was.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session, load_only

from hooks.builds import artifact_reading
from hooks.builds.handing_over import keeper_of_artifacts
from hooks.builds.revision_archives import find_revision
from hooks.models.action_job import ActionJob, ActionTypeWorker, CustomActionType
from hooks.models.pipeline import Execution, PipelineDefinitionVersion
from hooks.pipelines.definition import from_model
from hooks.pipelines.handover import Handed
from hooks.pipelines.property_secrets import sealing
from hooks.pipelines.source_places import hidden_sources
from hooks.secret_store.store import Sealer
from registry import audit
from registry.access import Action, Identity
from registry.db import table_of
from registry.errors import Conflict, Invalid, NotFound
from registry.names import PackageKey, PackageName
from registry.repos.sealed_fields import SealedField
from registry.token_shape import new_token

SERVE = "entrepot:PollForJobs"
ACKNOWLEDGE_SECONDS = 60.0
"""A dispatched job that nobody acknowledges for so long is handed out again."""
_PAGE = 100
INPUTS = "inputs"
FETCHED = ""
"""The keeper of what a source action has fetched."""


class JobStatus(StrEnum):
    """CodePipeline's job statuses; its ``Created`` is never seen: a job is made as a queued one."""

    QUEUED = "Queued"
    DISPATCHED = "Dispatched"
    IN_PROGRESS = "InProgress"
    TIMED_OUT = "TimedOut"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A job that was handed out just now. ``token`` opens its artifacts, and is told this once."""

    job: ActionJob
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """What PollForJobs asks for: at most ``most`` jobs, of one value of the queryable property if ``query`` is not ""."""

    most: int
    query: str = ""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made: for which action, with which input artifacts, for how long."""

    action_execution_id: int
    execution_id: int
    stage: str
    action: str
    artifacts: Mapping[str, Handed]
    minutes: int
    now: datetime


def new_job(
    session: Session,
    wanted: NewJob,
    *,
    action_type_id: int | None = None,
    webhook: str = "",
    query_value: str = "",
) -> ActionJob:
    """Make the job of an action that starts. Raises NotFound for an input artifact that is gone."""
    row = ActionJob(
        id=str(uuid.uuid4()),
        action_execution_id=wanted.action_execution_id,
        execution_id=wanted.execution_id,
        stage=wanted.stage,
        action=wanted.action,
        action_type_id=action_type_id,
        webhook=webhook,
        query_value=query_value,
        status=JobStatus.QUEUED.value,
        details={INPUTS: _pinned(session, wanted.artifacts)},
        available_at=wanted.now,
        expires_at=wanted.now + timedelta(minutes=wanted.minutes),
        created_at=wanted.now,
    )
    session.add(row)
    session.flush()
    return row


def _pinned(session: Session, artifacts: Mapping[str, Handed]) -> dict[str, list[str]]:
    """Of each input artifact that something has made, or fetched: where it is kept, and its SHA-256 as it is now."""
    found = {}
    for name, handed in artifacts.items():
        if handed.build_id is not None:
            keeper = keeper_of_artifacts(session, handed.build_id)
            artifact, _ = artifact_reading.find(session, keeper, handed.identifier)
            found[name] = [keeper, handed.identifier, artifact.sha256]
        elif handed.identifier:
            revision, _ = find_revision(session, handed.identifier)
            found[name] = [FETCHED, handed.identifier, revision.sha256]
    return found


def poll(
    session: Session,
    sealer: Sealer | None,
    caller: Identity,
    custom: CustomActionType,
    asking: Asking,
    *,
    digest: Callable[[str], str],
    now: datetime,
) -> list[Dispatched]:
    """Hand out waiting jobs of a type to a worker that may serve it, oldest first (PollForJobs)."""
    given: list[Dispatched] = []
    for job, execution in _waiting(session, custom.id, asking.query, now):
        if len(given) >= asking.most:
            break
        if not may_work_on(session, caller, job, execution):
            continue
        if done := dispatch(session, sealer, job, caller.name, digest, now):
            given.append(done)
    return given


def _waiting(session: Session, type_id: int, query: str, now: datetime) -> Iterator[tuple[ActionJob, Execution]]:
    """Page by page, as far as they are asked for; of executions no more than tells who may work on them.

    Jobs made at one moment come in the order in which a stop of their execution locks them: neither waits for the other.
    """
    forgotten = now - timedelta(seconds=ACKNOWLEDGE_SECONDS)
    statement = (
        select(ActionJob, Execution)
        .join(Execution, Execution.id == ActionJob.execution_id)
        .options(
            load_only(Execution.domain, Execution.repository, Execution.format, Execution.namespace, Execution.name)
        )
        .where(
            ActionJob.action_type_id == type_id,
            ActionJob.expires_at > now,
            or_(
                (ActionJob.status == JobStatus.QUEUED.value) & (ActionJob.available_at <= now),
                (ActionJob.status == JobStatus.DISPATCHED.value) & (ActionJob.dispatched_at <= forgotten),
            ),
        )
        .order_by(ActionJob.created_at, ActionJob.action_execution_id)
        .limit(_PAGE)
    )
    if query:
        statement = statement.where(ActionJob.query_value == query)
    page = statement
    while rows := session.execute(page).all():
        last = rows[-1].ActionJob
        at, action_id = last.created_at, last.action_execution_id
        yield from ((row.ActionJob, row.Execution) for row in rows)
        if len(rows) < _PAGE:
            return
        is_later = (ActionJob.created_at == at) & (ActionJob.action_execution_id > action_id)
        page = statement.where(or_(ActionJob.created_at > at, is_later))


def dispatch(
    session: Session,
    sealer: Sealer | None,
    job: ActionJob,
    holder: str,
    digest: Callable[[str], str],
    now: datetime,
    *,
    status: JobStatus = JobStatus.DISPATCHED,
) -> Dispatched | None:
    """Give a job a new nonce and a new token, if it is still as it was read: what was given out before is worth nothing."""
    token, nonce = new_token(), secrets.token_hex(16)
    won = session.scalars(
        update(ActionJob)
        .where(ActionJob.id == job.id, ActionJob.status == job.status, ActionJob.nonce == job.nonce)
        .values(
            status=status.value,
            nonce=nonce,
            sealed_token=sealing(sealer).seal(token.encode(), context_of(job.id)),
            token_digest=digest(token),
            held_by=holder,
            dispatched_at=now,
        )
        .returning(ActionJob.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not won:
        return None
    session.refresh(job)
    return Dispatched(job, token)


def acknowledge(session: Session, job: ActionJob, nonce: str, caller: Identity, now: datetime) -> JobStatus:
    """Take a dispatched job on (AcknowledgeJob); its status then. The first wins, and may say it again.

    Raises Invalid for a nonce that is not that of the last dispatch to this caller, Conflict for a job that has ended.
    """
    mine = (ActionJob.id == job.id, ActionJob.nonce == nonce, ActionJob.held_by == caller.name)
    won = session.scalars(
        update(ActionJob)
        .where(*mine, ActionJob.status == JobStatus.DISPATCHED.value)
        .values(status=JobStatus.IN_PROGRESS.value)
        .returning(ActionJob.id)
        .execution_options(synchronize_session=False)
    ).all()
    session.refresh(job)
    if won:
        at = f"{job.stage}/{job.action}"
        audit.record(session, now, caller.name, "job.acknowledge", f"job/{job.id}", job_action=at)
    if not won and (job.nonce != nonce or job.held_by != caller.name):
        raise Invalid("InvalidNonce: the job was not dispatched to you with this nonce, or to somebody else since")
    if not won and job.status != JobStatus.IN_PROGRESS:
        raise Conflict(f"InvalidJobState: the job is {job.status}")
    return JobStatus(job.status)


def find(session: Session, job_id: str) -> ActionJob:
    """A job of a worker. Raises NotFound."""
    row = session.get(ActionJob, job_id)
    if row is None or row.action_type_id is None:
        raise NotFound("job", job_id[:100])
    return row


def by_token(session: Session, job_id: str, digest: str, now: datetime) -> ActionJob | None:
    """The job in progress that a token was given for; None where it opens nothing (any more)."""
    return session.scalar(
        select(ActionJob).where(
            ActionJob.id == job_id,
            ActionJob.token_digest == digest,
            ActionJob.status == JobStatus.IN_PROGRESS.value,
            ActionJob.expires_at > now,
        )
    )


def of_token(session: Session, digest: str, now: datetime) -> str | None:
    """The id of the job in progress that a token was given for."""
    return session.scalar(
        select(ActionJob.id).where(
            ActionJob.token_digest == digest,
            ActionJob.status == JobStatus.IN_PROGRESS.value,
            ActionJob.expires_at > now,
        )
    )


def token_of(sealer: Sealer | None, job: ActionJob) -> str | None:
    """The token of a job; None when it has none. Raises storage.errors.Damaged or KeyUnavailable."""
    if job.sealed_token is None:
        return None
    return sealing(sealer).unseal(job.sealed_token, context_of(job.id)).decode()


def may_serve(session: Session, caller: Identity, custom: CustomActionType) -> bool:
    """Whether a caller may get jobs of a type: one of its workers, or an administrator of the server."""
    return session.get(ActionTypeWorker, (custom.id, caller.account_id)) is not None or caller.may(Action.ADMIN)


def may_work_on(session: Session, caller: Identity, job: ActionJob, execution: Execution) -> bool:
    """Whether a caller may get a job of an execution: who reads its package, and is not denied to work on it.

    A job that takes what another source has fetched is for those who may read where that belongs as well.
    """
    key = PackageKey(execution.format, execution.namespace, PackageName(execution.name))
    if not caller.may(Action.READ, f"{execution.domain}/{execution.repository}", key, permission=SERVE):
        return False
    inputs = job.details.get(INPUTS, {}).values()
    fetched = {identifier.partition("/")[2] for keeper, identifier, _ in inputs if keeper == FETCHED}
    if not fetched:
        return True
    definition = from_model(session.get_one(PipelineDefinitionVersion, execution.definition_id).model)
    return fetched.isdisjoint(hidden_sources(session, definition, caller))


def end(job: ActionJob, status: JobStatus, now: datetime) -> None:
    """Write a job's end: its token opens nothing from here on."""
    job.status, job.ended_at = status.value, now
    job.sealed_token = job.token_digest = job.continuation_token = None


def give_up(session: Session, job_id: str | None, now: datetime) -> None:
    """End a job whose action was given up, or whose time is over. One that has ended stays so."""
    if job_id is None:
        return
    job = session.scalar(
        select(ActionJob).where(ActionJob.id == job_id).with_for_update(), execution_options={"populate_existing": True}
    )
    if job is not None and job.ended_at is None:
        end(job, JobStatus.TIMED_OUT if now >= job.expires_at else JobStatus.FAILED, now)


def note(job: ActionJob, **told: Any) -> None:
    """Keep what was told of a job's course; None says nothing."""
    job.details = {**job.details, **{name: value for name, value in told.items() if value is not None}}


def pinned_inputs(job: ActionJob) -> Mapping[str, Sequence[str]]:
    """Input artifact → (keeper, identifier, SHA-256) of those that something has made; the others are the version."""
    return dict(job.details.get(INPUTS, {}))


def context_of(job_id: str) -> str:
    """What the box of a token is bound to."""
    return f"action-job:{job_id}:token"


def sealed_tokens() -> SealedField:
    """Where the tokens lie, for whoever rotates the server's keys."""
    table = table_of(ActionJob)
    rows = select(table.c.id, table.c.sealed_token)
    return SealedField("tokens of actions' jobs", table, "sealed_token", rows, lambda row: context_of(row.id))
