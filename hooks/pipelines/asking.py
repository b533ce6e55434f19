"""An approval as it is put to somebody: what an answer lets through, what is still missing, and whether they may give it.

One set of rules for the page, the API and the answer itself (``approvals.decide``).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from hooks.pipelines import store
from hooks.pipelines.approvers import is_named, named_approvers, required_approvals
from hooks.pipelines.consequences import lets_through
from hooks.pipelines.gates import may_answer, may_see, repositories_behind
from hooks.pipelines.parts import Parts
from registry.access import Identity

APPROVED = "Approved"

# The bar shows a number on every page: it must not cost more than a glance however much has piled up.
MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A waiting approval as it is put to somebody. ``targets`` are the repositories an approver needs the right on.

    ``lets_through`` says in words what happens when it is approved. ``given`` of ``required`` approvals count now.
    ``refusal`` says why this person cannot approve (empty: they can); they may still reject if ``may_answer``.
    """

    execution: store.ExecutionView
    stage: str
    action: store.ActionExecutionView
    targets: tuple[str, ...]
    lets_through: tuple[str, ...]
    required: int
    given: int
    approvers: tuple[str, ...]
    may_answer: bool
    refusal: str

    @property
    def leads_to(self) -> tuple[str, ...]:
        """Those of its targets that are others than where the package is."""
        summary = self.execution.summary
        return tuple(path for path in self.targets if path != f"{summary.domain}/{summary.repository}")


def questions(session: Session, parts: Parts, execution: store.ExecutionView, who: Identity) -> list[Question]:
    """What an execution waits for."""
    return [
        question(session, parts, execution, stage.name, action, who)
        for stage in execution.stages
        for action in stage.actions
        if action.status == "Waiting"
    ]


def waiting(session: Session, parts: Parts, who: Identity) -> list[Question]:
    """All that waits and that somebody may see, oldest first; at most ``MOST_WAITING``."""
    found: list[Question] = []
    approvals = store.list_waiting_approvals(session)[:MOST_WAITING]
    executions = store.get_executions(session, {approval.execution.id for approval in approvals})
    for approval in approvals:
        execution = executions.get(approval.execution.id)
        if execution is not None and may_see(who, execution):
            # From the execution: what a list has of an action is without its answers.
            found += [
                each
                for each in questions(session, parts, execution, who)
                if (each.stage, each.action.name) == (approval.stage, approval.action.name)
            ]
    return found


def question(
    session: Session,
    parts: Parts,
    execution: store.ExecutionView,
    stage: str,
    action: store.ActionExecutionView,
    who: Identity,
) -> Question:
    """One waiting approval as it is put to ``who``."""
    settings = action.resolved_configuration or {}
    targets = repositories_behind(execution, stage, action.name)
    named = named_approvers(settings)
    is_asked = may_answer(who, execution, stage, action.name)
    refusal, answers = "", False
    if not is_asked:
        refusal = f"You need the right to approve on {', '.join(targets)}."
    elif not is_named(session, named, who.name):
        refusal = f"Only these are asked: {', '.join(named)}."
    elif any(result.account == who.name for result in action.results):
        refusal = "You have answered. The others are still asked."
    else:
        answers = True
        own = own_part(session, execution, action, who.name)
        refusal = f"You {own}, so somebody else has to approve it." if own else ""
    return Question(
        execution,
        stage,
        action,
        targets,
        lets_through(execution, stage, action.name),
        required_approvals(settings),
        len(counting(session, parts, execution, stage, action)),
        named,
        answers,
        refusal,
    )


def own_part(session: Session, execution: store.ExecutionView, action: store.ActionExecutionView, account: str) -> str:
    """What somebody did for which they may not approve it (they may reject); empty for everybody else."""
    settings = action.resolved_configuration or {}
    if settings.get("NotByPublisher") == "true" and account in execution.publishers:
        return "published files of this version"
    if settings.get("NotByStarter") == "true" and account == store.started_by(session, execution.summary):
        return "started this execution"
    return ""


def counting(
    session: Session,
    parts: Parts,
    execution: store.ExecutionView,
    stage: str,
    action: store.ActionExecutionView,
) -> list[str]:
    """Whose approvals count now: who would not be allowed to give theirs any more has given none.

    So a member who was removed from the group, or an account that was disabled, before the last answer came.
    """
    settings = action.resolved_configuration or {}
    named, paths = named_approvers(settings), repositories_behind(execution, stage, action.name)
    return [
        result.account
        for result in action.results
        if result.verdict == APPROVED
        and is_named(session, named, result.account)
        and (parts.may_approve is None or parts.may_approve(session, result.account, paths))
    ]
