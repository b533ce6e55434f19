"""Which executions somebody gets to see and to act on."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.pipelines import store
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.gates import check_release, may_see, repositories_of, repositories_to_override
from hooks.pipelines.holds import holds_of
from hooks.pipelines.overriding import OVERRIDABLE
from hooks.pipelines.pipeline_state import StageState
from hooks.pipelines.state import StageStatus
from registry.access import Action, Identity
from registry.errors import Denied, NotFound


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


def may_release(session: Session, who: Identity, pipeline_id: int, stage: StageState) -> bool:
    """Whether something is held before a stage that somebody may let go."""
    for row in holds_of(session, pipeline_id, stage.stage_name) if stage.holds else ():
        try:
            check_release(session, who, row)
        except (Denied, NotFound):
            continue
        return True
    return False


def stages_to_override(execution: store.ExecutionView, who: Identity) -> dict[str, str]:
    """Stage → the condition that waits, or has failed it, and that somebody may let count as met."""
    found = {}
    for stage in execution.stages:
        if stage.status not in {StageStatus.IN_PROGRESS, StageStatus.FAILED}:
            continue
        for condition in stage.conditions:
            is_open = condition.status in {"InProgress", "Failed", "Errored"} and condition.is_current
            if is_open and condition.condition_type in OVERRIDABLE:
                found[stage.name] = condition.condition_type
    return {
        stage: slot
        for stage, slot in found.items()
        if all(who.may(Action.APPROVE, path) for path in repositories_to_override(execution, stage, slot))
    }
