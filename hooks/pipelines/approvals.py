"""Answers to approvals: who may, who did, and on exactly which bytes. The first answer is the only one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import update
from sqlalchemy.orm import Session

from hooks.jobs.queue import give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines import happenings
from hooks.pipelines.actions.approve import binding
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.engine import advance, end_action, running_action
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import SYSTEM, Run, lock, pinned_version
from hooks.pipelines.state import ActionStatus
from registry.errors import Conflict, Denied, Invalid, NotFound

MAX_COMMENT_CHARACTERS = 512


class Verdict(StrEnum):
    """PutApprovalResult's two answers."""

    APPROVED = "Approved"
    REJECTED = "Rejected"


def decide(
    session: Session,
    parts: Parts,
    execution_id: int,
    stage: str,
    action: str,
    *,
    verdict: Verdict,
    comment: str,
    actor: str,
    now: datetime,
    token: str | None = None,
) -> None:
    """Answer an approval. Rejected ends the action as failed; the stage can then be retried, which asks again.

    ``token`` is what the approver's page was made from (None: whatever waits now). Raises NotFound for no such
    approval, Invalid for a comment over 512 characters, Denied for the publisher's own approval where
    ``NotByPublisher`` is set, and Conflict when it was answered already, is over, or ``token`` is another request's.
    """
    if len(comment) > MAX_COMMENT_CHARACTERS:
        raise Invalid(f"the comment has {len(comment)} characters, at most {MAX_COMMENT_CHARACTERS} are allowed")
    run = lock(session, execution_id)
    row = run.actions.get((stage, action))
    if row is None or (row.category, row.provider) != ("Approval", "Manual"):
        raise NotFound("approval", f"{stage}/{action} of execution {execution_id}")
    _check_answerable(run, row, token, now)
    by_others_only = row.resolved_configuration.get("NotByPublisher") == "true"
    if verdict is Verdict.APPROVED and by_others_only and actor in run.execution.publishers:
        raise Denied(f"{actor} published files of this version and may not approve it")
    status = ActionStatus.SUCCEEDED if verdict is Verdict.APPROVED else ActionStatus.FAILED
    # The condition is the arbiter of two answers at once; the lock above only orders them.
    won = session.scalars(
        update(ActionExecution)
        .where(ActionExecution.id == row.id, ActionExecution.status == ActionStatus.WAITING.value)
        .values(
            status=status.value,
            summary=f"{verdict.lower()} by {actor}",
            decided_by=actor,
            comment=comment,
            ended_at=now,
        )
        .returning(ActionExecution.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not won:
        raise Conflict(f"approval {stage}/{action} was answered already")
    if row.job_id is not None:
        give_up(session, row.job_id)
    run.record(
        session,
        now,
        actor,
        f"approval.{verdict.lower()}",
        approval=f"{stage}/{action}",
        comment=comment,
        digest=run.execution.digest,
    )
    session.refresh(row)
    happenings.tell_decision(session, run, row, verdict.value, now)
    advance(session, parts, execution_id, now)


def expire(session: Session, parts: Parts, action_execution_id: int, now: datetime) -> None:
    """End an approval that nobody answered in time as failed. Nothing happens when it was answered or abandoned."""
    found = running_action(session, action_execution_id)
    if found is None:
        return
    run, row = found
    run.record(session, now, SYSTEM, "approval.expire", approval=row.name)
    happenings.tell(session, run, happenings.APPROVAL_EXPIRED, now, action=row.name)
    end_action(session, parts, run, row, Progress(ActionStatus.FAILED, "nobody answered in time"), now=now)


def _check_answerable(run: Run, row: ActionExecution, token: str | None, now: datetime) -> None:
    if row.status != ActionStatus.WAITING:
        raise Conflict(f"approval {row.name} was answered already, or is over: {row.summary}")
    if row.expires_at is not None and now >= row.expires_at:
        raise Conflict(f"the time to answer approval {row.name} is over")
    digest = pinned_version(run.execution).digest
    bound_to = binding(run.execution.id, run.execution.definition_id, row.id, row.attempt, digest)
    if row.token != bound_to or digest != run.execution.digest:
        raise Conflict(f"approval {row.name} is not bound to what this execution holds; nothing was decided")
    if token is not None and token != row.token:
        raise Conflict(f"approval {row.name} was asked for anew since; look at it again")
