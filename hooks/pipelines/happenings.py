"""The events of executions, their stages, actions and approvals: each in the transaction of the change it tells of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution
from hooks.models.pipeline_condition import ConditionExecution
from hooks.pipelines import gates, store
from hooks.pipelines.approvers import named_approvers, required_approvals
from hooks.pipelines.consequences import lets_through
from hooks.pipelines.definition import Slot
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus, ConditionStatus, ExecutionStatus, StageStatus
from registry import events

_STARTED = "started"
_LONGEST_WHY = 500
_SAY_NO = {ConditionStatus.FAILED, ConditionStatus.ERRORED}


def _declare(subject: str, what: str, statuses: tuple[str, ...]) -> None:
    for status in statuses:
        kind = _kind(subject, status)
        events.declare(kind, f"{what}: {kind.rpartition('.')[2]}.")


def _kind(subject: str, status: str) -> str:
    return f"{subject}.{_STARTED if status == 'InProgress' else status.lower()}"


_declare("execution", "An execution of a pipeline", tuple(ExecutionStatus))
_declare("stage", "A stage of an execution", tuple(StageStatus))
_declare("action", "An action of an execution", tuple(status for status in ActionStatus if status != "Waiting"))
_declare("condition", "A condition of a stage", tuple(ConditionStatus))
STAGE_RETRIED = events.declare("stage.retried", "A failed stage is tried again.")
APPROVAL_NEEDED = events.declare("approval.needed", "An execution waits for somebody's approval.")
APPROVAL_ANSWERED = events.declare("approval.answered", "Somebody approved, and further approvals are needed.")
APPROVAL_DECIDED = events.declare("approval.decided", "An approval was answered; its verdict says how.")
APPROVAL_EXPIRED = events.declare("approval.expired", "Nobody answered an approval in time.")
events.audited("pipeline.create", "pipeline.created", "-/pipeline", tells="A pipeline was made.")
events.audited("pipeline.update", "pipeline.changed", "-/pipeline", tells="A pipeline's definition changed.")
events.audited(
    "transition.disable",
    "transition.disabled",
    "-/pipeline",
    "stage",
    "reason",
    tells="The way into a stage was closed.",
)
events.audited(
    "transition.enable", "transition.enabled", "-/pipeline", "stage", tells="The way into a stage was opened."
)
events.audited("freeze.create", "freeze.created", "-/freeze", "reason", tells="A freeze window was made.")
events.audited("freeze.delete", "freeze.deleted", "-/freeze", tells="A freeze window was taken away.")
events.audited(
    "hold.release",
    "hold.released",
    "-/pipeline",
    "stage",
    "reason",
    tells="What a rollback had held before a stage may enter it again.",
)
events.audited("build_project.create", "build-project.created", "-/project", tells="A build project was made.")
events.audited("build_project.update", "build-project.changed", "-/project", tells="A build project changed.")


def tell(session: Session, run: Run, kind: str, now: datetime, **more: Any) -> None:
    """The event ``kind`` of an execution: where its package is, on which definition it runs, and who started it."""
    row = run.execution
    events.note(
        session,
        kind,
        now,
        domain=row.domain,
        repository=row.repository,
        format=row.format,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        pipeline=run.pipeline,
        execution=row.id,
        **{
            "pipeline_version": run.definition_version,
            "start_time": row.started_at.isoformat(),
            "trigger": row.trigger_kind,
            "started_by": row.triggered_by,
            **more,
        },
    )


def tell_status(session: Session, run: Run, now: datetime) -> None:
    """The execution has the status it has now."""
    row = run.execution
    why = {"by": row.stopped_by, "reason": row.stop_reason} if row.stopped_by is not None else {}
    if row.status == ExecutionStatus.FAILED:
        failed = [action.summary for action in run.actions.values() if action.status == ActionStatus.FAILED]
        # A condition fails its stage where it is not met or could not be judged; one on failure only says what follows.
        failed += [
            f"condition {slot} of {stage}: {row.summary}"
            for (stage, slot), row in run.conditions.items()
            if row.status in _SAY_NO and slot != Slot.ON_FAILURE and run.stages[stage].status == StageStatus.FAILED
        ]
        why = {"reason": "; ".join(failed)[:_LONGEST_WHY]}
    tell(session, run, _kind("execution", row.status), now, digest=row.digest, **why)


def tell_stage(session: Session, run: Run, stage: str, now: datetime) -> None:
    """A stage has the status it has now."""
    row = run.stages[stage]
    tell(session, run, _kind("stage", row.status), now, stage=stage, attempt=row.attempt)


def tell_condition(session: Session, run: Run, stage: str, row: ConditionExecution, now: datetime) -> None:
    """A condition has the status it has now."""
    told = {"stage": stage, "condition": row.slot, "result": row.result, "attempt": row.attempt}
    tell(session, run, _kind("condition", row.status), now, **told, summary=row.summary, by=row.decided_by)


def tell_decision(session: Session, run: Run, row: ActionExecution, verdict: str, now: datetime) -> None:
    """Somebody answered an approval, which ended its action."""
    told = {"action": row.name, "verdict": verdict, "by": row.decided_by, "comment": row.comment or ""}
    told["digest"] = run.execution.digest
    tell(session, run, APPROVAL_DECIDED, now, stage=_stage_of(run, row), **told)
    tell_action(session, run, row, now)


def tell_action(session: Session, run: Run, row: ActionExecution, now: datetime) -> None:
    """An action has the status it has now."""
    stage = _stage_of(run, row)
    told: dict[str, Any] = {"stage": stage, "action": row.name, "attempt": row.attempt, "provider": row.provider}
    found = run.definition.stage(stage)
    action = found.action(row.name) if found is not None else None
    told |= {"category": row.category, "owner": action.type.owner if action is not None else None}
    told |= {"summary": row.summary[:_LONGEST_WHY], "deployment": row.deployment_id}
    if row.status == ActionStatus.WAITING and row.expires_at is not None:
        told["until"] = row.expires_at.isoformat()
    kind = _kind("action", row.status)
    if row.status == ActionStatus.WAITING:
        kind = APPROVAL_NEEDED
        told |= _whom_to_ask(session, run, row)
    tell(session, run, kind, now, **told, build=row.build_id)


def _whom_to_ask(session: Session, run: Run, row: ActionExecution) -> dict[str, Any]:
    """Who can answer: on which repositories they need the right to approve, and who is named, if anybody is."""
    stage = _stage_of(run, row)
    session.flush()
    execution = store.get_execution(session, run.execution.id)
    return {
        "approve_on": list(gates.repositories_behind(execution, stage, row.name)),
        "approvers": list(named_approvers(row.resolved_configuration)),
        "required": required_approvals(row.resolved_configuration),
        "lets_through": list(lets_through(execution, stage, row.name)),
    }


def _stage_of(run: Run, row: ActionExecution) -> str:
    return next((stage for (stage, _), other in run.actions.items() if other is row), "")
