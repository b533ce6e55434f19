"""An execution's rows, read under its lock: the one place where two writers of an execution meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.models.pipeline_condition import ConditionExecution
from hooks.pipelines.definition import ExecutionMode, PipelineDefinition, Result, Slot, StageDefinition, from_model
from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.state import (
    ActionStatus,
    ActionView,
    ConditionStatus,
    ConditionView,
    ExecutionStatus,
    StageStatus,
    StageView,
    View,
)
from registry import audit
from registry.errors import NotFound

SYSTEM = "system"
"""Who acts when nobody does: an audit entry's actor for what follows from rows alone. No account: it has no token."""


@dataclass(slots=True)
class Run:
    """A locked execution with its pinned definition and its version, the stages it entered, and the attempts that count.

    ``inherited`` is what a rollback takes over from the execution it goes back to: the actions of the stages before.
    """

    execution: Execution
    pipeline: str
    definition: PipelineDefinition
    definition_version: int
    stages: dict[str, StageExecution] = field(default_factory=dict)
    actions: dict[tuple[str, str], ActionExecution] = field(default_factory=dict)
    inherited: dict[tuple[str, str], ActionExecution] = field(default_factory=dict)
    conditions: dict[tuple[str, Slot], ConditionExecution] = field(default_factory=dict)

    @property
    def goes_one_by_one(self) -> bool:
        """Whether its stages let in one execution at a time."""
        return self.execution.mode != ExecutionMode.PARALLEL

    @property
    def route(self) -> tuple[StageDefinition, ...]:
        """The stages that it goes through: all, or the one that is rolled back."""
        only = self.execution.rollback_stage
        return tuple(stage for stage in self.definition.stages if only in {None, stage.name})

    @property
    def status(self) -> ExecutionStatus:
        """The execution's status."""
        return ExecutionStatus(self.execution.status)

    @property
    def path(self) -> str:
        """How audit entries name the execution."""
        return f"pipeline/{self.pipeline}/execution/{self.execution.id}"

    @property
    def subject(self) -> str:
        """How what it has started names it."""
        return f"execution:{self.execution.id}"

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
                    self._conditions_of(stage),
                    self.stages[stage.name].auto_retries if stage.name in self.stages else 0,
                )
                for stage in self.route
            ),
        )

    def _conditions_of(self, stage: StageDefinition) -> dict[Slot, ConditionView]:
        """The conditions that count. A rollback passes none before entry, and never leads to another rollback."""
        goes_back = self.execution.rollback_stage is not None
        # An approval that gives way to a newer version is no failure that somebody wants undone, skipped or repeated.
        gives_way = any(
            action is not None and action.status == ActionStatus.FAILED and action.decided_by == SYSTEM
            for action in (self.actions.get((stage.name, each.name)) for each in stage.actions)
        )
        found = {}
        for slot, condition in stage.conditions.items():
            if (goes_back and slot is Slot.BEFORE_ENTRY) or (gives_way and slot is Slot.ON_FAILURE):
                continue
            row = self.conditions.get((stage.name, slot))
            result = Result.FAIL if goes_back and condition.result is Result.ROLLBACK else condition.result
            status = None if row is None else ConditionStatus(row.status)
            found[slot] = ConditionView(result, status, bool(condition.rules), condition.retry_mode)
        return found

    def status_of(self, stage: str, action: str) -> ActionStatus | None:
        """The status of the attempt that counts; None when there is none."""
        row = self.actions.get((stage, action))
        return None if row is None else ActionStatus(row.status)

    def made_by(self, stage: str, action: str) -> ActionExecution | None:
        """The attempt whose output counts: its own, or what a rollback takes over; None when there is none."""
        return self.actions.get((stage, action)) or self.inherited.get((stage, action))

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


def lock_pipeline(session: Session, pipeline_id: int) -> None:
    """Lock a pipeline until the transaction ends: always before any of its executions.

    Not against rows that come to refer to it: executions in parallel start without waiting for this.
    """
    session.execute(select(Pipeline.id).where(Pipeline.id == pipeline_id).with_for_update(key_share=True))


def lock(session: Session, execution_id: int) -> Run:
    """Lock an execution until the transaction ends, and read it. Raises NotFound.

    Where stages let in one execution at a time the pipeline is locked first: what one does moves others. SQLite has no
    row locks and needs none: its write transactions exclude each other from their first statement. Everything is read
    after the locks were got, and replaces what the session had read before.
    """
    session.flush()
    fresh = {"populate_existing": True}
    # Neither ever changes, so that they may be read before the lock.
    place = session.execute(select(Execution.pipeline_id, Execution.mode).where(Execution.id == execution_id)).first()
    if place is not None and place.mode != ExecutionMode.PARALLEL:
        lock_pipeline(session, place.pipeline_id)
    execution = session.scalar(
        select(Execution).where(Execution.id == execution_id).with_for_update(), execution_options=fresh
    )
    if execution is None:
        raise NotFound("execution", str(execution_id))
    return _read(session, execution)


def look(session: Session, execution_id: int) -> Run:
    """Read an execution without a lock, for who changes nothing of it. Raises NotFound."""
    execution = session.get(Execution, execution_id)
    if execution is None:
        raise NotFound("execution", str(execution_id))
    return _read(session, execution)


def _read(session: Session, execution: Execution) -> Run:
    execution_id = execution.id
    pinned = session.get_one(PipelineDefinitionVersion, execution.definition_id)
    name = session.get_one(Pipeline, execution.pipeline_id).name
    run = Run(execution, name, from_model(pinned.model), pinned.version)
    run.stages, run.actions = _rows(session, execution_id)
    if run.definition.has_conditions:
        run.conditions = _conditions(session, run)
    if execution.rollback_target_id is not None:
        names = [stage.name for stage in run.definition.stages]
        before = set(names[: names.index(execution.rollback_stage)] if execution.rollback_stage in names else ())
        _, made = _rows(session, execution.rollback_target_id)
        run.inherited = {place: row for place, row in made.items() if place[0] in before}
    return run


def _rows(
    session: Session, execution_id: int
) -> tuple[dict[str, StageExecution], dict[tuple[str, str], ActionExecution]]:
    fresh = {"populate_existing": True}
    stages = session.scalars(
        select(StageExecution).where(StageExecution.execution_id == execution_id), execution_options=fresh
    ).all()
    names = {stage.id: stage.name for stage in stages}
    actions = session.scalars(
        select(ActionExecution)
        .where(ActionExecution.execution_id == execution_id, ActionExecution.is_current)
        .order_by(ActionExecution.id),
        execution_options=fresh,
    )
    return {stage.name: stage for stage in stages}, {(names[row.stage_execution_id], row.name): row for row in actions}


def _conditions(session: Session, run: Run) -> dict[tuple[str, Slot], ConditionExecution]:
    names = {stage.id: stage.name for stage in run.stages.values()}
    rows = session.scalars(
        select(ConditionExecution).where(
            ConditionExecution.execution_id == run.execution.id, ConditionExecution.is_current
        ),
        execution_options={"populate_existing": True},
    )
    return {(names[row.stage_execution_id], Slot(row.slot)): row for row in rows}


def next_attempt(session: Session, stage_execution_id: int, name: str) -> int:
    """The number of the next attempt at an action."""
    last = session.scalar(
        select(func.max(ActionExecution.attempt)).where(
            ActionExecution.stage_execution_id == stage_execution_id, ActionExecution.name == name
        )
    )
    return (last or 0) + 1
