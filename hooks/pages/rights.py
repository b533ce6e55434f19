"""Which executions somebody gets to see and to act on."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.pipelines import store
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.gates import may_see, repositories_of
from hooks.pipelines.state import StageStatus
from registry.access import Action, Identity
from registry.errors import NotFound


def path_of(summary: store.ExecutionSummary) -> str:
    """``domain/repository`` of an execution's package."""
    return f"{summary.domain}/{summary.repository}"


def visible(session: Session, execution_id: int, who: Identity) -> store.ExecutionView:
    """The execution. Raises NotFound also when it is not for these eyes."""
    execution = store.get_execution(session, execution_id)
    if not may_see(who, execution):
        raise NotFound("execution", str(execution_id))
    return execution


def may_steer(execution: store.ExecutionView, who: Identity) -> bool:
    """Whether somebody may stop and retry: who may do what started it, publishing."""
    return who.may(Action.PUBLISH, path_of(execution.summary))


def stages_to_roll_back(execution: store.ExecutionView, who: Identity) -> list[str]:
    """The stages that somebody may roll back to this execution, as far as can be seen before asking for it."""
    summary = execution.summary
    if summary.mode == ExecutionMode.PARALLEL or summary.rollback_target_id is not None:
        return []
    return [
        stage.name
        for stage in execution.stages[1:]
        if stage.status == StageStatus.SUCCEEDED
        and all(who.may(Action.APPROVE, path) for path in repositories_of(execution, stage.name))
    ]
