"""Which executions, builds and approvals somebody gets to see and to act on, and what an answer would let through."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from hooks.pipelines import store
from hooks.pipelines.definition import ExecutionMode
from hooks.pipelines.gates import check_release, may_answer, may_see, repositories_behind, repositories_of
from hooks.pipelines.holds import holds_of
from hooks.pipelines.overriding import OVERRIDABLE
from hooks.pipelines.pipeline_state import StageState
from hooks.pipelines.state import StageStatus
from registry.access import Action, Identity
from registry.errors import Denied, NotFound

# The bar shows a number on every page: it must not cost more than a glance however much has piled up.
MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A waiting approval as it is put to somebody. ``targets`` are what an answer opens the way to.

    ``refusal`` says why this person cannot approve (empty: they can); they may still reject if ``may_answer``.
    """

    execution: store.ExecutionView
    stage: str
    action: store.ActionExecutionView
    targets: tuple[str, ...]
    promotes: bool
    may_answer: bool
    refusal: str


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
        if all(who.may(Action.APPROVE, path) for path in repositories_of(execution, stage))
    }


def questions(execution: store.ExecutionView, who: Identity) -> list[Question]:
    """What an execution waits for."""
    return [
        _question(execution, stage.name, action, who)
        for stage in execution.stages
        for action in stage.actions
        if action.status == "Waiting"
    ]


def _question(execution: store.ExecutionView, stage: str, action: store.ActionExecutionView, who: Identity) -> Question:
    targets = repositories_behind(execution, stage, action.name)
    answers = may_answer(who, execution, stage, action.name)
    refusal = ""
    if not answers:
        refusal = f"You need the right to approve on {', '.join(targets)}."
    elif (action.resolved_configuration or {}).get("NotByPublisher") == "true" and who.name in execution.publishers:
        refusal = "You published files of this version, so somebody else has to approve it."
    return Question(execution, stage, action, targets, targets != (path_of(execution.summary),), answers, refusal)


def waiting(session: Session, who: Identity) -> list[Question]:
    """All that waits and that somebody may see, oldest first; at most ``MOST_WAITING``."""
    found: list[Question] = []
    for approval in store.list_waiting_approvals(session)[:MOST_WAITING]:
        execution = store.get_execution(session, approval.execution.id)
        if may_see(who, execution):
            found.append(_question(execution, approval.stage, approval.action, who))
    return found
