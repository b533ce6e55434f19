"""A stage is tried again: which attempts count no more, whoever asks for it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hooks.pipelines import conditions, happenings
from hooks.pipelines.definition import RetryMode, Slot
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import SYSTEM, Run
from hooks.pipelines.state import ActionStatus, ConditionStatus, StageStatus

AUTOMATED, MANUAL = "AutomatedStageRetry", "ManualStageRetry"
"""CodePipeline's ``latestRetryTrigger``."""


def begin_again(
    session: Session, parts: Parts, run: Run, stage: str, mode: RetryMode, *, trigger: str, now: datetime
) -> None:
    """Let the attempts at a stage that are to be repeated count no more, and open the stage.

    ``FAILED_ACTIONS`` keeps the actions that succeeded or still run, and the condition that has let the execution in.
    """
    conditions.break_off(session, parts, run, stage, ConditionStatus.CANCELLED, "the stage is tried again", now=now)
    for slot in Slot:
        condition = run.conditions.get((stage, slot))
        is_kept = mode is RetryMode.FAILED_ACTIONS and slot is Slot.BEFORE_ENTRY
        if condition is not None and not (is_kept and ConditionStatus(condition.status).lets_in):
            condition.is_current = False
            del run.conditions[stage, slot]
    for at, action in list(run.actions.items()):
        is_bad = action.status in {ActionStatus.FAILED, ActionStatus.ABANDONED}
        if at[0] == stage and (is_bad or mode is RetryMode.ALL_ACTIONS):
            action.is_current = False
            del run.actions[at]
    row = run.stages[stage]
    row.status = StageStatus.IN_PROGRESS.value
    row.attempt += 1
    row.latest_retry = trigger
    row.ended_at = None
    # Before anything starts anew: of two attempts that count, even for a moment, the database takes one.
    session.flush()


def by_rule(session: Session, parts: Parts, run: Run, stage: str, mode: RetryMode, now: datetime) -> None:
    """What ``onFailure`` says: once, by itself."""
    begin_again(session, parts, run, stage, mode, trigger=AUTOMATED, now=now)
    row = run.stages[stage]
    row.auto_retries += 1
    run.record(session, now, SYSTEM, "stage.retry", stage=stage, mode=mode.value, attempt=row.attempt)
    happenings.tell(session, run, happenings.STAGE_RETRIED, now, stage=stage, attempt=row.attempt, by=SYSTEM)
