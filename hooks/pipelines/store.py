"""Pipelines as people see them: reading what is and what was. Rows go in, frozen values come out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import (
    ActionExecution,
    ApprovalResult,
    Execution,
    Pipeline,
    PipelineDefinitionVersion,
    StageExecution,
)
from hooks.models.pipeline_source import SourceRevision
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines.approvers import is_manual, required_approvals
from hooks.pipelines.condition_views import ConditionExecutionView, conditions_of
from hooks.pipelines.definition import PipelineDefinition, StageDefinition, from_model
from hooks.pipelines.job_courses import JobCourse, of_actions
from registry.errors import NotFound

LARGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """An execution in a list. One of the type ROLLBACK runs one stage with what ``rollback_target_id`` had there.

    ``revision_type`` PACKAGE: it is about a package version. Of GIT and OBJECT ``format`` is "", ``name`` the repository or
    the object, and ``version`` the commit or the object's version ("" until it is known).
    """

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
    revision_type: str = field(default="PACKAGE", kw_only=True)


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
class ApprovalResultView:
    """What somebody said to an approval: Approved or Rejected, of the files with this digest."""

    account: str
    verdict: str
    comment: str
    digest: str
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class PublishedView:
    """A file that was published outside. ``was_there``: the destination had these bytes before."""

    filename: str
    url: str
    sha256: str
    was_there: bool


@dataclass(frozen=True, slots=True)
class ActionExecutionView:
    """An action of an execution; ``status`` None: not started. ``attempts`` are the older ones, that no longer count.

    ``results`` are the answers to an approval so far; ``required_approvals`` how many it takes.
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
    id: int | None = None
    required_approvals: int | None = None
    results: tuple[ApprovalResultView, ...] = ()
    published: tuple[PublishedView, ...] = ()


@dataclass(frozen=True, slots=True)
class StageExecutionView:
    """A stage of an execution; ``status`` None: not entered. ``conditions`` are all judgements, older ones as well."""

    name: str
    status: str | None
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None
    actions: tuple[ActionExecutionView, ...]
    conditions: tuple[ConditionExecutionView, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisionView:
    """What a source that takes no package version has brought; ``kind`` is GIT or OBJECT.

    ``trigger`` is what it is called (``branch/main``), ``revision`` the commit or the object's version, "" until it is
    known; ``sha256`` is that of the archive, "" until it was fetched. ``message`` and ``url`` are a commit's.
    """

    action: str
    kind: str
    location: str
    trigger: str
    revision: str
    sha256: str
    message: str
    url: str


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
    revisions: tuple[RevisionView, ...] = ()


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
    found = get_executions(session, [execution_id]).get(execution_id)
    if found is None:
        raise NotFound("execution", str(execution_id))
    return found


def get_executions(session: Session, execution_ids: Collection[int]) -> dict[int, ExecutionView]:
    """These executions with their stages, actions and attempts, as far as there are such. It costs two queries."""
    return find_executions(session, Execution.id.in_(execution_ids)) if execution_ids else {}


def find_executions(
    session: Session, which: ColumnElement[bool], *, limit: int | None = None
) -> dict[int, ExecutionView]:
    """The executions of which ``which`` is true, the newest ``limit`` of them, by their numbers. It costs two queries."""
    rows = session.execute(
        _executions()
        .add_columns(PipelineDefinitionVersion.model, InboundExecution.stage.label("inbound"))
        .outerjoin(InboundExecution, InboundExecution.execution_id == Execution.id)
        .where(which)
        .order_by(Execution.id.desc())
        .limit(limit)
    ).all()
    if not rows:
        return {}
    stages: dict[int, dict[str, StageExecution]] = {}
    attempts: dict[tuple[int, str], list[ActionExecution]] = {}
    for stage, action in session.execute(
        select(StageExecution, ActionExecution)
        .outerjoin(ActionExecution, ActionExecution.stage_execution_id == StageExecution.id)
        .where(StageExecution.execution_id.in_([row.Execution.id for row in rows]))
        .order_by(ActionExecution.id)
    ):
        stages.setdefault(stage.execution_id, {})[stage.name] = stage
        if action is not None:
            attempts.setdefault((stage.id, action.name), []).append(action)
    definitions = {row.Execution.id: from_model(row.model) for row in rows}
    judged = [execution_id for execution_id, definition in definitions.items() if definition.has_conditions]
    conditions = conditions_of(session, judged) if judged else {}
    brought = {row.Execution.rollback_target_id or row.Execution.id for row in rows}
    said = _results(session, list(definitions))
    courses = of_actions(session, [row for tried in attempts.values() for row in tried])
    histories = _Histories(attempts, conditions, said, _revisions(session, brought), courses)
    return {
        execution_id: _view(row, definitions[execution_id], stages.get(execution_id, {}), histories)
        for row in rows
        for execution_id in [row.Execution.id]
    }


@dataclass(frozen=True, slots=True)
class _Histories:
    """What was tried, judged and said: by (stage execution, action), by stage execution, by action execution.

    ``revisions`` is what sources have brought, by execution; ``courses`` how far jobs are, by their ids.
    """

    attempts: Mapping[tuple[int, str], Sequence[ActionExecution]]
    conditions: Mapping[int, tuple[ConditionExecutionView, ...]]
    results: _Said
    revisions: Mapping[int, tuple[RevisionView, ...]]
    courses: Mapping[str, JobCourse]


_NOTHING = _Histories({}, {}, {}, {}, {})


def _view(
    row: Any,
    definition: PipelineDefinition,
    stages: Mapping[str, StageExecution],
    histories: _Histories,
) -> ExecutionView:
    execution: Execution = row.Execution
    route = [stage for stage in definition.stages if execution.rollback_stage in {None, stage.name}]
    return ExecutionView(
        _summary(row),
        execution.assets,
        tuple(execution.publishers),
        execution.variables,
        execution.depth,
        execution.stop_reason,
        execution.stopped_by,
        row.inbound,
        _stage_views(route, stages, histories),
        # A rollback has what the execution that it goes back to has brought.
        histories.revisions.get(execution.rollback_target_id or execution.id, ()),
    )


def _revisions(session: Session, executions: Collection[int]) -> Mapping[int, tuple[RevisionView, ...]]:
    """Execution → what its sources have brought."""
    found: dict[int, tuple[RevisionView, ...]] = {}
    for row in session.scalars(
        select(SourceRevision).where(SourceRevision.execution_id.in_(executions)).order_by(SourceRevision.action)
    ):
        view = RevisionView(
            row.action,
            row.kind,
            row.location,
            row.trigger,
            row.revision,
            row.sha256,
            row.facts.get("CommitMessage", ""),
            row.facts.get("CommitUrl", ""),
        )
        found[row.execution_id] = (*found.get(row.execution_id, ()), view)
    return found


def started_by(session: Session, summary: ExecutionSummary) -> str:
    """The account whose start it goes back to: one that follows from another's promotion is its starter's work."""
    by = summary.triggered_by
    # Ends: an execution follows from older ones only.
    while by.startswith("execution:"):
        row = session.get(Execution, int(by.partition(":")[2]))
        if row is None:
            break
        by = row.triggered_by
    return by


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
    histories: _Histories,
) -> tuple[StageExecutionView, ...]:
    views = []
    for stage in route:
        row = stages.get(stage.name)
        actions = []
        for action in stage.actions:
            rows = histories.attempts.get((row.id, action.name), ()) if row is not None else ()
            older = tuple(_attempt(old, action.run_order, histories=histories) for old in rows if not old.is_current)
            current = next((found for found in rows if found.is_current), None)
            actions.append(
                _attempt(current, action.run_order, older, histories)
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
                histories.conditions.get(row.id, ()) if row else (),
            )
        )
    return tuple(views)


_Said = Mapping[int, tuple[ApprovalResultView, ...]]


def _results(session: Session, executions: Sequence[int]) -> _Said:
    """Action execution → what was said to it."""
    found: dict[int, tuple[ApprovalResultView, ...]] = {}
    for row in session.scalars(
        select(ApprovalResult)
        .join(ActionExecution, ActionExecution.id == ApprovalResult.action_execution_id)
        .where(ActionExecution.execution_id.in_(executions))
        .order_by(ApprovalResult.answered_at, ApprovalResult.account)
    ):
        view = ApprovalResultView(row.account, row.verdict, row.comment, row.digest, row.answered_at)
        found[row.action_execution_id] = (*found.get(row.action_execution_id, ()), view)
    return found


def _attempt(
    row: ActionExecution,
    run_order: int,
    older: tuple[ActionExecutionView, ...] = (),
    histories: _Histories = _NOTHING,
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
        job=histories.courses.get(row.action_job_id or ""),
        token=row.token,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        comment=row.comment,
        started_at=row.started_at,
        ended_at=row.ended_at,
        attempts=older,
        id=row.id,
        required_approvals=required_approvals(row.resolved_configuration)
        if is_manual(row.category, row.provider)
        else None,
        results=histories.results.get(row.id, ()),
        published=tuple(PublishedView(**file) for file in row.published or ()),
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
        revision_type=execution.revision_type,
    )
