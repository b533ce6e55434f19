"""What people do to an execution besides answering it: stop it, or retry a stage that failed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hooks.models.pipeline import StageExecution
from hooks.pipelines import conditions, happenings, slots
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.engine import abandon as abandon_action
from hooks.pipelines.engine import advance
from hooks.pipelines.parts import Parts
from hooks.pipelines.retrying import MANUAL, begin_again
from hooks.pipelines.run import Run, lock
from hooks.pipelines.state import ActionStatus, ConditionStatus, ExecutionStatus, StageStatus
from registry.errors import Conflict, Invalid, NotFound

MAX_REASON_CHARACTERS = 200


def stop_execution(
    session: Session, parts: Parts, execution_id: int, *, actor: str, reason: str, abandon: bool, now: datetime
) -> None:
    """Stop an execution: let running actions end (``Stopping``), or abandon them.

    A waiting approval is abandoned either way: nothing of it runs. Unlike CodePipeline, the builds of abandoned
    actions are told to stop, and their deployments as well, in the name of ``actor``. May be repeated with ``abandon``
    while stopping. Raises NotFound, Invalid for a reason that is too long, and Conflict for an execution that has ended
    or is stopping already.
    """
    if len(reason) > MAX_REASON_CHARACTERS:
        raise Invalid(f"the reason has {len(reason)} characters, at most {MAX_REASON_CHARACTERS} are allowed")
    run = lock(session, execution_id)
    if run.status.is_final:
        raise Conflict(f"execution {execution_id} has ended already: {run.status}")
    if run.status is ExecutionStatus.STOPPING and not abandon:
        raise Conflict(f"execution {execution_id} is stopping already")
    run.execution.status = ExecutionStatus.STOPPING.value
    run.execution.stopped_by = actor
    run.execution.stop_reason = reason
    for stage in run.stages.values():
        if StageStatus(stage.status).is_open:
            stage.status = StageStatus.STOPPING.value
    for row in run.running():
        if abandon or row.status == ActionStatus.WAITING:
            told = Progress(ActionStatus.ABANDONED, f"abandoned: {actor} stopped the execution")
            abandon_action(session, parts, run, row, told, actor=actor, now=now)
    broken = ConditionStatus.ABANDONED if abandon else ConditionStatus.CANCELLED
    conditions.break_off(session, parts, run, None, broken, f"{actor} stopped the execution", now=now)
    run.record(session, now, actor, "execution.stop", reason=reason, abandon=abandon)
    happenings.tell_status(session, run, now)
    advance(session, parts, execution_id, now)


def retry_stage(
    session: Session, parts: Parts, execution_id: int, stage: str, mode: RetryMode, *, actor: str, now: datetime
) -> None:
    """Try a failed or stopped stage again, in the same execution, on the definition it is pinned to.

    ``FAILED_ACTIONS`` may be asked for as soon as one action has failed, while others of the stage still run. Raises
    NotFound, and Conflict when nothing of the stage failed, it is being stopped, actions still run that ``ALL_ACTIONS``
    would start a second time, or another execution of the package has entered the stage since (CodePipeline's
    NotLatestPipelineExecutionException).
    """
    run = lock(session, execution_id)
    if run.definition.stage(stage) is None:
        raise NotFound("stage", stage)
    row = run.stages.get(stage)
    attempts = [action for (owner, _), action in run.actions.items() if owner == stage]
    again = [action for action in attempts if action.status in {ActionStatus.FAILED, ActionStatus.ABANDONED}]
    is_stopped = row is not None and row.status == StageStatus.STOPPED
    is_failed = row is not None and row.status == StageStatus.FAILED  # by a condition, where no action is to blame
    is_skipped = row is not None and row.status == StageStatus.SKIPPED
    if row is None or is_skipped or not (again or is_stopped or is_failed):
        raise Conflict(f"nothing of stage {stage} failed, so that there is nothing to retry")
    _refuse_if_busy(run, stage, mode)
    if run.goes_one_by_one and not StageStatus(row.status).is_open:
        go_back_in(session, run, row)
    begin_again(session, parts, run, stage, mode, trigger=MANUAL, now=now)
    run.execution.status = ExecutionStatus.IN_PROGRESS.value
    run.execution.ended_at = None
    run.execution.stopped_by = run.execution.stop_reason = None
    run.record(session, now, actor, "stage.retry", stage=stage, mode=mode.value, attempt=row.attempt)
    happenings.tell(session, run, happenings.STAGE_RETRIED, now, stage=stage, attempt=row.attempt, by=actor)
    advance(session, parts, execution_id, now)


def go_back_in(session: Session, run: Run, stage: StageExecution) -> None:
    """Take the stage again that the execution left when it failed there."""
    later = slots.entered_later(session, run.execution, stage)
    if later is not None:
        raise Conflict(f"execution {later} entered stage {stage.name} since: only the latest one can be retried there")
    inside = slots.slot_of(session, run.execution.pipeline_id, stage.name).occupant_id
    if inside is not None:
        raise Conflict(f"execution {inside} is in stage {stage.name}; retry when it has left it")
    slots.occupy(session, run.execution, stage.name)


def _refuse_if_busy(run: Run, stage: str, mode: RetryMode) -> None:
    if run.status is ExecutionStatus.STOPPING:
        raise Conflict(f"execution {run.execution.id} is being stopped")
    if mode is RetryMode.ALL_ACTIONS and run.running(stage):
        raise Conflict(f"actions of stage {stage} still run; wait for them, or retry the failed ones only")
