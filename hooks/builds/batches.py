"""Batch builds, started, stopped and retried (CodeBuild's StartBuildBatch, StopBuildBatch, RetryBuildBatch)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from hooks.builds import batch_engine
from hooks.builds.batch_engine import BatchPhase, lock
from hooks.builds.batch_plan import DOWNLOAD_SOURCE, TaskStatus
from hooks.builds.batch_tasks import config_faults, merged
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import check_variables, get_project
from hooks.builds.publishing import publish_path
from hooks.builds.records import OnFinished, lock_project, moves, request_stop_build
from hooks.builds.source import PackageSource
from hooks.builds.starting import Asked, source_of_start
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound

TOKEN_LIFE = timedelta(minutes=5)


class RetryType(StrEnum):
    """What RetryBuildBatch does anew."""

    ALL = "RETRY_ALL_BUILDS"
    FAILED = "RETRY_FAILED_BUILDS"


def start_project_batch(
    session: Session,
    name: str,
    asked: Asked,
    *,
    config: Mapping[str, Any],
    initiator: str,
    now: datetime,
    on_finished: OnFinished,
) -> BuildBatch:
    """Start a batch of a project's own source. ``config`` is the start's ``buildBatchConfigOverride``.

    Whoever starts it may publish where the project does (``project_rights.check_publishes``). Raises NotFound,
    InvalidDocument with all faults, and Conflict.
    """
    source = source_of_start(session, name, asked, now)
    return start_batch(
        session,
        name,
        source,
        asked,
        config=config,
        initiator=initiator,
        now=now,
        on_finished=on_finished,
        publishes=True,
    )


def start_batch(
    session: Session,
    name: str,
    source: PackageSource,
    asked: Asked,
    *,
    config: Mapping[str, Any],
    initiator: str,
    now: datetime,
    on_finished: OnFinished,
    subject: str | None = None,
    publishes: bool = False,
) -> BuildBatch:
    """Start a batch of ``source``: its rows, and the build that reads its document. Raises as ``start_project_batch``.

    ``publishes`` is that of ``records.start_build``, for all builds of the batch.
    """
    check_variables(asked.variables)
    project = get_project(session, name)
    holds = merged(project.document.get("buildBatchConfig") or {}, config)
    faults = config_faults(config, "buildBatchConfigOverride") or config_faults(holds)
    if faults:
        raise InvalidDocument(f"start of a batch of {name}", faults)
    lock_project(session, project)
    options = asked.options
    if options.request_token is not None:
        earlier = _same_start(session, project, options.request_token, now)
        if earlier is not None:
            return earlier
    batch = _new_batch(
        project, source, asked, holds, number=_next_number(session, project), initiator=initiator, now=now
    )
    batch.subject = subject
    batch.publish_to = publish_path(project.document) if publishes else None
    session.add(batch)
    session.flush()
    session.add(_first_group(batch))
    batch_engine.enter(batch, BatchPhase.SUBMITTED, now)
    batch_engine.enter(batch, BatchPhase.DOWNLOAD_BATCHSPEC, now)
    session.flush()
    batch_engine.begin(session, batch, now, moves(on_finished))
    return batch


def _new_batch(
    project: BuildProject,
    source: PackageSource,
    asked: Asked,
    config: Mapping[str, Any],
    *,
    number: int,
    initiator: str,
    now: datetime,
) -> BuildBatch:
    return BuildBatch(
        id=str(uuid.uuid4()),
        project_id=project.id,
        number=number,
        status=BuildStatus.IN_PROGRESS.value,
        phase=BatchPhase.SUBMITTED.value,
        phases=[],
        source=source.as_json(),
        buildspec=project.buildspec if asked.options.buildspec is None else asked.options.buildspec,
        environment=project.environment,
        variables=dict(asked.variables),
        webhook=dict(asked.options.webhook),
        config=dict(config),
        fast_fail=False,
        build_timeout_minutes=asked.options.timeout_minutes or project.timeout_minutes,
        queued_timeout_minutes=asked.options.queued_timeout_minutes or project.queued_timeout_minutes,
        priority=asked.options.priority,
        request_token=asked.options.request_token,
        debug_session=asked.options.debug_session,
        resolved_versions={},
        attempt=1,
        auto_retry_limit=_or(asked.options.auto_retry_limit, project.auto_retry_limit),
        auto_retry_number=0,
        initiator=initiator,
        message="",
        submitted_at=now,
    )


def _or(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given


def _first_group(batch: BuildBatch) -> BuildBatchGroup:
    return BuildBatchGroup(
        batch_id=batch.id,
        position=0,
        identifier=DOWNLOAD_SOURCE,
        depends_on=[],
        ignore_failure=False,
        environment=batch.environment,
        shard=[],
        chosen={},
        status=TaskStatus.PENDING.value,
        is_stopping=False,
    )


def stop_batch(session: Session, batch_id: str, *, now: datetime, on_finished: OnFinished) -> BuildBatch:
    """Stop a batch: nothing more of it starts, and what runs is told to stop. It is STOPPED when all that has ended.

    Raises NotFound, and Conflict for one that has ended.
    """
    batch = lock(session, batch_id)
    if batch.status != BuildStatus.IN_PROGRESS:
        raise Conflict(f"build batch {batch_id} has ended and cannot be stopped")
    batch_engine.end_early(session, batch, BuildStatus.STOPPED, now, moves(on_finished))
    return batch


def retry_batch(
    session: Session, batch_id: str, kind: RetryType, *, now: datetime, on_finished: OnFinished
) -> BuildBatch:
    """Go on with a batch that has not succeeded: all its builds anew, or those that failed and what depends on them.

    It is the same batch, of the same source versions and the same document. What it publishes from now on goes where the
    project says now, as whoever asks for it has to be let. Raises NotFound and Conflict.
    """
    batch = lock(session, batch_id)
    if batch.status == BuildStatus.IN_PROGRESS:
        raise Conflict(f"build batch {batch_id} has not ended; it can be retried when it has")
    if batch.status == BuildStatus.SUCCEEDED:
        raise Conflict(f"build batch {batch_id} has succeeded; only one that has not can be retried")
    project = session.get_one(BuildProject, batch.project_id)
    if project.deleted_at is not None:
        raise Conflict(f"build project {project.name} was deleted; its batches cannot be retried")
    batch.auto_retry_number = 0
    batch.publish_to = publish_path(project.document)
    batch_engine.begin_again(session, batch, now, moves(on_finished), only_failed=kind is RetryType.FAILED)
    return batch


def time_out(session: Session, batch_id: str, attempt: int, *, now: datetime, on_finished: OnFinished) -> None:
    """End a batch that goes on as TIMED_OUT, unless it was retried since its time began to count."""
    batch = lock(session, batch_id)
    if batch.status == BuildStatus.IN_PROGRESS and batch.attempt == attempt:
        batch_engine.end_early(session, batch, BuildStatus.TIMED_OUT, now, moves(on_finished))


def stop_one(session: Session, build_id: str, *, now: datetime, on_finished: OnFinished) -> bool:
    """Tell one build of a batch to stop; False when it has ended meanwhile."""
    try:
        request_stop_build(session, build_id, now=now, on_finished=on_finished)
    except (Conflict, NotFound):
        return False
    return True


def get_batch(session: Session, batch_id: str) -> BuildBatch:
    """The batch. Raises NotFound."""
    batch = session.get(BuildBatch, batch_id)
    if batch is None:
        raise NotFound("build batch", batch_id)
    return batch


def builds_of(session: Session, batch_id: str) -> Mapping[str, Sequence[Build]]:
    """The builds of a batch by group, the newest first."""
    found: dict[str, list[Build]] = {}
    for build in session.scalars(select(Build).where(Build.batch_id == batch_id).order_by(Build.number.desc())):
        found.setdefault(build.batch_group or "", []).append(build)
    return found


def list_batches(
    session: Session,
    *,
    project: str | None = None,
    status: str | None = None,
    after: str | None = None,
    is_ascending: bool = False,
    limit: int = 50,
) -> Sequence[tuple[BuildBatch, str]]:
    """Batches with their projects' names, the newest first unless ``is_ascending``; ``after`` is the last one seen.

    Raises NotFound for an unknown project, Invalid for an unknown ``after``.
    """
    statement = select(BuildBatch, BuildProject.name).join(BuildProject, BuildProject.id == BuildBatch.project_id)
    if project is not None:
        statement = statement.where(BuildBatch.project_id == get_project(session, project).id)
    if status is not None:
        statement = statement.where(BuildBatch.status == status)
    place = tuple_(BuildBatch.submitted_at, BuildBatch.id)
    if after is not None:
        last = session.get(BuildBatch, after)
        if last is None:
            raise Invalid("the batch to go on after is not there any more; start again without it")
        seen = (last.submitted_at, last.id)
        statement = statement.where(place > seen if is_ascending else place < seen)
    columns = (BuildBatch.submitted_at, BuildBatch.id)
    order = columns if is_ascending else tuple(column.desc() for column in columns)
    return [(batch, name) for batch, name in session.execute(statement.order_by(*order).limit(limit))]


def _same_start(session: Session, project: BuildProject, token: str, now: datetime) -> BuildBatch | None:
    asked = (BuildBatch.project_id == project.id) & (BuildBatch.request_token == token)
    return session.scalar(select(BuildBatch).where(asked, BuildBatch.submitted_at > now - TOKEN_LIFE).limit(1))


def _next_number(session: Session, project: BuildProject) -> int:
    # One statement: it locks the project's row, so that two starts at a time get two numbers.
    return session.execute(
        update(BuildProject)
        .where(BuildProject.id == project.id)
        .values(last_batch_number=BuildProject.last_batch_number + 1)
        .returning(BuildProject.last_batch_number),
        execution_options={"synchronize_session": False},
    ).scalar_one()
