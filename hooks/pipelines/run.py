"""An execution's rows, read under its lock: the one place where two writers of an execution meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.pipelines.definition import PipelineDefinition, from_model
from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.state import ActionStatus, ActionView, ExecutionStatus, StageStatus, StageView, View
from registry import audit
from registry.errors import NotFound

SYSTEM = "system"
"""Who acts when nobody does: an audit entry's actor for what follows from rows alone. No account: it has no token."""


@dataclass(slots=True)
class Run:
    """A locked execution with its pinned definition, the stages it entered, and the attempts that count."""

    execution: Execution
    pipeline: str
    definition: PipelineDefinition
    stages: dict[str, StageExecution] = field(default_factory=dict)
    actions: dict[tuple[str, str], ActionExecution] = field(default_factory=dict)

    @property
    def status(self) -> ExecutionStatus:
        """The execution's status."""
        return ExecutionStatus(self.execution.status)

    @property
    def path(self) -> str:
        """How audit entries name the execution."""
        return f"pipeline/{self.pipeline}/execution/{self.execution.id}"

    def view(self) -> View:
        """The rows as values, for ``state.plan``."""
        return View(
            self.status,
            tuple(
                StageView(
                    stage.name,
                    StageStatus(self.stages[stage.name].status) if stage.name in self.stages else None,
                    tuple(
                        ActionView(action.name, action.run_order, self.status_of(stage.name, action.name))
                        for action in stage.actions
                    ),
                )
                for stage in self.definition.stages
            ),
        )

    def status_of(self, stage: str, action: str) -> ActionStatus | None:
        """The status of the attempt that counts; None when there is none."""
        row = self.actions.get((stage, action))
        return None if row is None else ActionStatus(row.status)

    def running(self, stage: str | None = None) -> list[ActionExecution]:
        """The actions that have not ended, of one stage or of all."""
        return [
            row
            for (owner, _), row in self.actions.items()
            if stage in {None, owner} and ActionStatus(row.status).is_running
        ]

    def record(self, session: Session, now: datetime, actor: str, action: str, **details: Any) -> None:
        """Write an audit entry about this execution."""
        audit.record(session, now, actor, action, self.path, **details)


def pinned_version(execution: Execution) -> PinnedVersion:
    """What the execution is pinned to."""
    return PinnedVersion(
        domain=execution.domain,
        repository=execution.repository,
        format=execution.format,
        namespace=execution.namespace,
        name=execution.name,
        version=execution.version,
        assets=execution.assets,
    )


def lock(session: Session, execution_id: int) -> Run:
    """Lock an execution until the transaction ends, and read it. Raises NotFound.

    SQLite has no row locks and needs none: its write transactions exclude each other from their first statement.
    Everything is read after the lock was got, and replaces what the session had read before.
    """
    session.flush()
    fresh = {"populate_existing": True}
    execution = session.scalar(
        select(Execution).where(Execution.id == execution_id).with_for_update(), execution_options=fresh
    )
    if execution is None:
        raise NotFound("execution", str(execution_id))
    pinned = session.get_one(PipelineDefinitionVersion, execution.definition_id)
    name = session.get_one(Pipeline, execution.pipeline_id).name
    run = Run(execution, name, from_model(pinned.model))
    stages = session.scalars(
        select(StageExecution).where(StageExecution.execution_id == execution_id), execution_options=fresh
    ).all()
    run.stages = {stage.name: stage for stage in stages}
    names = {stage.id: stage.name for stage in stages}
    actions = session.scalars(
        select(ActionExecution)
        .where(ActionExecution.execution_id == execution_id, ActionExecution.is_current)
        .order_by(ActionExecution.id),
        execution_options=fresh,
    )
    run.actions = {(names[row.stage_execution_id], row.name): row for row in actions}
    return run


def next_attempt(session: Session, stage_execution_id: int, name: str) -> int:
    """The number of the next attempt at an action."""
    last = session.scalar(
        select(func.max(ActionExecution.attempt)).where(
            ActionExecution.stage_execution_id == stage_execution_id, ActionExecution.name == name
        )
    )
    return (last or 0) + 1
