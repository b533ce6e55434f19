"""Answers to approvals: who may, who did, and on exactly which bytes. Each person answers once; one no is a no."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.jobs.queue import give_up
from hooks.models.pipeline import ActionExecution, ApprovalResult
from hooks.pipelines import asking, happenings, store
from hooks.pipelines.actions.approve import binding
from hooks.pipelines.actions.kind import Progress
from hooks.pipelines.approvers import is_named, named_approvers, required_approvals
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
) -> bool:
    """Take one person's answer to an approval, and end the action if that decides it; whether it does.

    One rejection ends it as failed; the stage can then be retried, which asks everybody again. It has succeeded with
    the ``RequiredApprovals``-th approval of people who may still approve at that moment. ``token`` is what the
    approver's page was made from (None: whatever waits now). That ``actor`` has the right to approve is the caller's to
    check. Raises NotFound for no such approval, Invalid for a comment over 512 characters, Denied for somebody who is
    not among ``Approvers``, and for an approval of one's own work where ``NotByPublisher`` or ``NotByStarter`` is set,
    and Conflict when ``actor`` has answered already, when it is over, or ``token`` is another request's.
    """
    if len(comment) > MAX_COMMENT_CHARACTERS:
        raise Invalid(f"the comment has {len(comment)} characters, at most {MAX_COMMENT_CHARACTERS} are allowed")
    run = lock(session, execution_id)
    row = run.actions.get((stage, action))
    if row is None or row.category != "Approval":
        raise NotFound("approval", f"{stage}/{action} of execution {execution_id}")
    _check_answerable(run, row, token, now)
    _check_asked(session, run, stage, row, verdict, actor)
    _keep(session, run, row, verdict, comment, actor, now)
    execution = store.get_execution(session, execution_id)
    given = asking.counting(session, parts, execution, stage, _view(execution, stage, action))
    required = required_approvals(row.resolved_configuration)
    run.record(
        session,
        now,
        actor,
        f"approval.{verdict.lower()}",
        approval=f"{stage}/{action}",
        comment=comment,
        digest=run.execution.digest,
        approvals=f"{len(given)} of {required}",
    )
    if verdict is Verdict.APPROVED and len(given) < required:
        told = {"stage": stage, "action": action, "by": actor, "given": len(given), "required": required}
        happenings.tell(session, run, happenings.APPROVAL_ANSWERED, now, **told)
        return False
    _end(session, run, row, verdict, given if verdict is Verdict.APPROVED else [actor], comment, actor, now)
    advance(session, parts, execution_id, now)
    return True


def _check_asked(session: Session, run: Run, stage: str, row: ActionExecution, verdict: Verdict, actor: str) -> None:
    named = named_approvers(row.resolved_configuration)
    if not is_named(session, named, actor):
        raise Denied(f"{actor} is not among those who may answer approval {row.name}: {', '.join(named)}")
    if verdict is Verdict.APPROVED:
        execution = store.get_execution(session, run.execution.id)
        own = asking.own_part(session, execution, _view(execution, stage, row.name), actor)
        if own:
            raise Denied(f"{actor} {own} and may not approve it")


def _keep(
    session: Session, run: Run, row: ActionExecution, verdict: Verdict, comment: str, actor: str, now: datetime
) -> None:
    """The answer's row. Its key is the arbiter of two answers of one person at once; the lock only orders them."""
    said = ApprovalResult(
        action_execution_id=row.id,
        account=actor,
        verdict=verdict.value,
        comment=comment,
        digest=run.execution.digest,
        answered_at=now,
    )
    try:
        with session.begin_nested():
            session.add(said)
    except IntegrityError as error:
        raise Conflict(f"{actor} has answered approval {row.name} already") from error


def _end(
    session: Session,
    run: Run,
    row: ActionExecution,
    verdict: Verdict,
    by: Sequence[str],
    comment: str,
    actor: str,
    now: datetime,
) -> None:
    status = ActionStatus.SUCCEEDED if verdict is Verdict.APPROVED else ActionStatus.FAILED
    # The condition is the arbiter of two last answers at once; the lock above only orders them.
    won = session.scalars(
        update(ActionExecution)
        .where(ActionExecution.id == row.id, ActionExecution.status == ActionStatus.WAITING.value)
        .values(
            status=status.value,
            summary=f"{verdict.lower()} by {', '.join(by)}",
            decided_by=actor,
            comment=comment,
            ended_at=now,
        )
        .returning(ActionExecution.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not won:
        raise Conflict(f"approval {row.name} was answered already")
    if row.job_id is not None:
        give_up(session, row.job_id)
    session.refresh(row)
    happenings.tell_decision(session, run, row, verdict.value, now)


def _view(execution: store.ExecutionView, stage: str, action: str) -> store.ActionExecutionView:
    found = next(each for each in execution.stages if each.name == stage)
    return next(each for each in found.actions if each.name == action)


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
