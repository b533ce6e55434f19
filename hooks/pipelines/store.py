"""Pipelines as people see them: applying documents, and reading what is and what was. Rows go in, frozen values come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.pipelines.actions import PROVIDERS
from hooks.pipelines.declaration import Declared, parse_documents
from hooks.pipelines.definition import BuildProjectDeclaration, PipelineDefinition, from_model, to_model
from hooks.pipelines.parts import Parts
from registry import audit
from registry.errors import NotFound

LARGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one document. ``kind`` is ``pipeline`` or ``build project``; ``version`` is a pipeline's.

    ``change`` is ``created``, ``updated`` or ``unchanged``.
    """

    kind: str
    name: str
    change: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """An execution in a list."""

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
    """An action of an execution; ``status`` None: not started. ``attempts`` are the older ones, that no longer count."""

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
    """An execution with all its stages. ``assets`` is file name → SHA-256, as pinned."""

    summary: ExecutionSummary
    assets: Mapping[str, str]
    publishers: tuple[str, ...]
    variables: Mapping[str, str]
    depth: int
    stop_reason: str | None
    stopped_by: str | None
    stages: tuple[StageExecutionView, ...]


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """An approval that nobody has answered, with the execution it holds up."""

    execution: ExecutionSummary
    stage: str
    action: ActionExecutionView


def apply_document(session: Session, parts: Parts, text: str, *, actor: str, now: datetime) -> list[Applied]:
    """Create or update everything that ``text`` declares; all of it or, with InvalidDocument, nothing.

    Text that is in force already changes nothing, so that applying a file again is harmless. Executions in progress
    stay on the definition they started with.
    """
    return [_apply(session, parts, declared, actor, now) for declared in parse_documents(text, PROVIDERS)]


def _apply(session: Session, parts: Parts, declared: Declared, actor: str, now: datetime) -> Applied:
    if isinstance(declared.declares, BuildProjectDeclaration):
        project = declared.declares
        change = parts.apply_build_project(session, project, now)
        if change != "unchanged":
            audit.record(session, now, actor, f"build_project.{change[:-1]}", f"build-project/{project.name}")
        return Applied("build project", project.name, change)
    return _apply_pipeline(session, declared.declares, declared.text, actor, now)


def _apply_pipeline(session: Session, definition: PipelineDefinition, text: str, actor: str, now: datetime) -> Applied:
    # Locked, so that two who apply at once get two versions one after the other.
    row = session.scalar(select(Pipeline).where(Pipeline.name == definition.name).with_for_update())
    change = "updated"
    if row is None:
        change = "created"
        row = Pipeline(name=definition.name, current_version=0, created_at=now, updated_at=now)
        session.add(row)
        session.flush()
    elif text == session.scalar(_documents(row.id, row.current_version)):
        return Applied("pipeline", row.name, "unchanged", row.current_version)
    row.current_version += 1
    row.updated_at = now
    session.add(
        PipelineDefinitionVersion(
            pipeline_id=row.id,
            version=row.current_version,
            document=text,
            model=to_model(definition),
            created_at=now,
            created_by=actor,
        )
    )
    session.flush()
    action = "pipeline.create" if change == "created" else "pipeline.update"
    audit.record(session, now, actor, action, f"pipeline/{row.name}", version=row.current_version)
    return Applied("pipeline", row.name, change, row.current_version)


def _documents(pipeline_id: int, version: int) -> Select[Any]:
    return select(PipelineDefinitionVersion.document).where(
        PipelineDefinitionVersion.pipeline_id == pipeline_id, PipelineDefinitionVersion.version == version
    )


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
    return ExecutionView(
        _summary(row),
        execution.assets,
        tuple(execution.publishers),
        execution.variables,
        execution.depth,
        execution.stop_reason,
        execution.stopped_by,
        _stage_views(definition, stages, attempts),
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
    definition: PipelineDefinition,
    stages: Mapping[str, StageExecution],
    attempts: Mapping[tuple[int, str], Sequence[ActionExecution]],
) -> tuple[StageExecutionView, ...]:
    views = []
    for stage in definition.stages:
        row = stages.get(stage.name)
        actions = []
        for action in stage.actions:
            rows = attempts.get((row.id, action.name), ()) if row is not None else ()
            older = tuple(_attempt(old, action.run_order) for old in rows if not old.is_current)
            current = next((found for found in rows if found.is_current), None)
            actions.append(
                _attempt(current, action.run_order, older)
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


def _attempt(row: ActionExecution, run_order: int, older: tuple[ActionExecutionView, ...] = ()) -> ActionExecutionView:
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
    )
