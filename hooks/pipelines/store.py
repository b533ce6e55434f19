"""Pipelines as people see them: reading what is and what was. Rows go in, frozen values come out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines.definition import PipelineDefinition, StageDefinition, from_model
from hooks.pipelines.job_courses import JobCourse, of_actions
from registry.errors import NotFound

LARGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """An execution in a list. One of the type ROLLBACK runs one stage with what ``rollback_target_id`` had there."""

    id: int
    pipeline: str
    definition_version: int
    status: str
    trigger_kind: str
    triggered_by: str
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    digest: str
    started_at: datetime
    ended_at: datetime | None
    mode: str
    execution_type: str
    rollback_target_id: int | None


@dataclass(frozen=True, slots=True)
class PipelineSummary:
    """A pipeline in a list, with its newest execution."""

    id: int
    name: str
    version: int
    updated_at: datetime
    last_execution: ExecutionSummary | None


@dataclass(frozen=True, slots=True)
class PipelineView:
    """A pipeline with one version of its definition; ``document`` is verbatim."""

    id: int
    name: str
    version: int
    current_version: int
    document: str
    definition: PipelineDefinition
    applied_by: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class ActionExecutionView:
    """An action of an execution; ``status`` None: not started. ``attempts`` are the older ones, that no longer count.

    ``job`` tells of the job of one that somebody else carries out, ``invoked_execution_id`` names what it has started.
    """

    name: str
    category: str
    provider: str
    run_order: int
    status: str | None
    summary: str = ""
    attempt: int = 0
    configuration: Mapping[str, str] | None = None
    resolved_configuration: Mapping[str, str] | None = None
    output_variables: Mapping[str, str] | None = None
    build_id: str | None = None
    deployment_id: str | None = None
    action_job_id: str | None = None
    invoked_execution_id: int | None = None
    job: JobCourse | None = None
    token: str | None = None
    expires_at: datetime | None = None
    decided_by: str | None = None
    comment: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: tuple[ActionExecutionView, ...] = ()


@dataclass(frozen=True, slots=True)
class StageExecutionView:
    """A stage of an execution; ``status`` None: not entered."""

    name: str
    status: str | None
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None
    actions: tuple[ActionExecutionView, ...]


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution with all its stages. ``assets`` is file name → SHA-256, as pinned.

    ``inbound_stage`` is the stage before which it waits, if it waits for one.
    """

    summary: ExecutionSummary
    assets: Mapping[str, str]
    publishers: tuple[str, ...]
    variables: Mapping[str, str]
    depth: int
    stop_reason: str | None
    stopped_by: str | None
    inbound_stage: str | None
    stages: tuple[StageExecutionView, ...]


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """An approval that nobody has answered, with the execution it holds up."""

    execution: ExecutionSummary
    stage: str
    action: ActionExecutionView


def list_pipelines(session: Session) -> list[PipelineSummary]:
    """All pipelines by name."""
    newest = select(func.max(Execution.id)).group_by(Execution.pipeline_id)
    last = {
        row.Execution.pipeline_id: _summary(row)
        for row in session.execute(_executions().where(Execution.id.in_(newest)))
    }
    return [
        PipelineSummary(row.id, row.name, row.current_version, row.updated_at, last.get(row.id))
        for row in session.scalars(select(Pipeline).order_by(Pipeline.name))
    ]


def get_pipeline(session: Session, name: str, version: int | None = None) -> PipelineView:
    """A pipeline with the definition in force, or with version ``version`` of it. Raises NotFound."""
    row = session.scalar(select(Pipeline).where(Pipeline.name == name))
    found = None
    if row is not None:
        found = session.scalar(
            select(PipelineDefinitionVersion).where(
                PipelineDefinitionVersion.pipeline_id == row.id,
                PipelineDefinitionVersion.version == (version or row.current_version),
            )
        )
    if row is None or found is None:
        raise NotFound("pipeline", name if version is None else f"{name}, version {version}")
    return PipelineView(
        row.id,
        row.name,
        found.version,
        row.current_version,
        found.document,
        from_model(found.model),
        found.created_by,
        found.created_at,
    )


def list_executions(
    session: Session,
    *,
    pipeline: str | None = None,
    package: tuple[str, str, str, str] | None = None,
    version: str | None = None,
    status: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[ExecutionSummary]:
    """Executions, newest first; the next page begins ``before_id`` the last one's id.

    ``package`` is domain, format, namespace and name.
    """
    statement = _executions().order_by(Execution.id.desc()).limit(max(1, min(limit, LARGEST_PAGE)))
    if pipeline is not None:
        statement = statement.where(Pipeline.name == pipeline)
    if package is not None:
        for column, value in zip(
            (Execution.domain, Execution.format, Execution.namespace, Execution.name), package, strict=True
        ):
            statement = statement.where(column == value)
    if version is not None:
        statement = statement.where(Execution.version == version)
    if status is not None:
        statement = statement.where(Execution.status == status)
    if before_id is not None:
        statement = statement.where(Execution.id < before_id)
    return [_summary(row) for row in session.execute(statement)]


def summaries(session: Session, execution_ids: Collection[int]) -> list[ExecutionSummary]:
    """The executions of these numbers, as far as there are such."""
    return [_summary(row) for row in session.execute(_executions().where(Execution.id.in_(execution_ids)))]


def get_execution(session: Session, execution_id: int) -> ExecutionView:
    """An execution with its stages, actions and their attempts. Raises NotFound."""
    row = session.execute(_executions().where(Execution.id == execution_id)).one_or_none()
    if row is None:
        raise NotFound("execution", str(execution_id))
    execution: Execution = row.Execution
    definition = from_model(session.get_one(PipelineDefinitionVersion, execution.definition_id).model)
    stages = {
        stage.name: stage
        for stage in session.scalars(select(StageExecution).where(StageExecution.execution_id == execution_id))
    }
    attempts: dict[tuple[int, str], list[ActionExecution]] = {}
    for action in session.scalars(
        select(ActionExecution).where(ActionExecution.execution_id == execution_id).order_by(ActionExecution.id)
    ):
        attempts.setdefault((action.stage_execution_id, action.name), []).append(action)
    inbound = session.get(InboundExecution, execution_id)
    return ExecutionView(
        _summary(row),
        execution.assets,
        tuple(execution.publishers),
        execution.variables,
        execution.depth,
        execution.stop_reason,
        execution.stopped_by,
        inbound.stage if inbound is not None else None,
        _stage_views(
            [stage for stage in definition.stages if execution.rollback_stage in {None, stage.name}],
            stages,
            attempts,
            of_actions(session, [row for rows in attempts.values() for row in rows]),
        ),
    )


def list_waiting_approvals(session: Session) -> list[WaitingApproval]:
    """What waits for an answer, oldest first."""
    statement = (
        _executions()
        .add_columns(StageExecution, ActionExecution)
        .join(ActionExecution, ActionExecution.execution_id == Execution.id)
        .join(StageExecution, StageExecution.id == ActionExecution.stage_execution_id)
        .where(ActionExecution.status == "Waiting", ActionExecution.is_current)
        .order_by(ActionExecution.id)
    )
    return [
        WaitingApproval(_summary(row), row.StageExecution.name, _attempt(row.ActionExecution, 0))
        for row in session.execute(statement)
    ]


def _stage_views(
    route: Sequence[StageDefinition],
    stages: Mapping[str, StageExecution],
    attempts: Mapping[tuple[int, str], Sequence[ActionExecution]],
    courses: Mapping[str, JobCourse],
) -> tuple[StageExecutionView, ...]:
    views = []
    for stage in route:
        row = stages.get(stage.name)
        actions = []
        for action in stage.actions:
            rows = attempts.get((row.id, action.name), ()) if row is not None else ()
            older = tuple(_attempt(old, action.run_order, (), courses) for old in rows if not old.is_current)
            current = next((found for found in rows if found.is_current), None)
            actions.append(
                _attempt(current, action.run_order, older, courses)
                if current is not None
                else ActionExecutionView(
                    action.name,
                    action.type.category,
                    action.type.provider,
                    action.run_order,
                    None,
                    configuration=action.configuration,
                    attempts=older,
                )
            )
        views.append(
            StageExecutionView(
                stage.name,
                row.status if row else None,
                row.attempt if row else 0,
                row.started_at if row else None,
                row.ended_at if row else None,
                tuple(actions),
            )
        )
    return tuple(views)


def _attempt(
    row: ActionExecution,
    run_order: int,
    older: tuple[ActionExecutionView, ...] = (),
    courses: Mapping[str, JobCourse] = MappingProxyType({}),
) -> ActionExecutionView:
    return ActionExecutionView(
        name=row.name,
        category=row.category,
        provider=row.provider,
        run_order=run_order,
        status=row.status,
        summary=row.summary,
        attempt=row.attempt,
        configuration=row.configuration,
        resolved_configuration=row.resolved_configuration,
        output_variables=row.output_variables,
        build_id=row.build_id,
        deployment_id=row.deployment_id,
        action_job_id=row.action_job_id,
        invoked_execution_id=row.invoked_execution_id,
        job=courses.get(row.action_job_id or ""),
        token=row.token,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        comment=row.comment,
        started_at=row.started_at,
        ended_at=row.ended_at,
        attempts=older,
    )


def _executions() -> Any:
    return (
        select(Execution, Pipeline.name.label("pipeline"), PipelineDefinitionVersion.version.label("definition"))
        .join(Pipeline, Pipeline.id == Execution.pipeline_id)
        .join(PipelineDefinitionVersion, PipelineDefinitionVersion.id == Execution.definition_id)
    )


def _summary(row: Any) -> ExecutionSummary:
    execution: Execution = row.Execution
    return ExecutionSummary(
        id=execution.id,
        pipeline=row.pipeline,
        definition_version=row.definition,
        status=execution.status,
        trigger_kind=execution.trigger_kind,
        triggered_by=execution.triggered_by,
        domain=execution.domain,
        repository=execution.repository,
        format=execution.format,
        namespace=execution.namespace,
        name=execution.name,
        version=execution.version,
        digest=execution.digest,
        started_at=execution.started_at,
        ended_at=execution.ended_at,
        mode=execution.mode,
        execution_type=execution.execution_type,
        rollback_target_id=execution.rollback_target_id,
    )
