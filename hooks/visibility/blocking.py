"""What keeps executions from going on: whose approval, which closed way in, freeze, hold or condition, what failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Patience
from hooks.deployments.rights import may_see
from hooks.deployments.waiting import WaitReason, wait_reasons
from hooks.models.deployment import Deployment, DeploymentApplication
from hooks.pipelines.definition import Slot
from hooks.pipelines.gates import repositories_behind
from hooks.pipelines.inbound import FREEZE, Keeper, keepers
from hooks.pipelines.state import ActionStatus, ConditionStatus, ExecutionStatus, StageStatus
from hooks.pipelines.store import ActionExecutionView, ExecutionView
from hooks.visibility.life_shapes import Blocker
from registry.access import Identity

CONDITION = "condition"
_SAY_NO = {ConditionStatus.FAILED, ConditionStatus.ERRORED}
_CALLED = {
    Slot.BEFORE_ENTRY: "the condition before {} is entered",
    Slot.ON_SUCCESS: "the condition on success of {}",
    Slot.ON_FAILURE: "the condition on failure of {}",
}


def blockers(
    session: Session,
    executions: Collection[ExecutionView],
    caller: Identity,
    patience: Patience,
    now: datetime,
    *,
    deployments: Sequence[Deployment] | None = None,
) -> Mapping[int, tuple[Blocker, ...]]:
    """What keeps each of these executions, by their numbers; nothing for those that have succeeded or were superseded.

    Why a deployment waits is told to who may see its application; ``deployments`` are those that the caller may see, where
    they are known already. It costs a handful of queries, however many they are.
    """
    kept_out = keepers(session, executions, now)
    running = [
        action.deployment_id
        for execution in executions
        for _, action in _open_actions(execution)
        if action.deployment_id is not None
    ]
    if deployments is None:
        deployments = _deployments(session, running, caller)
    else:
        deployments = [row for row in deployments if row.id in running]
    reasons = wait_reasons(session, deployments, patience, now)
    return {each.summary.id: tuple(_of(each, kept_out, reasons)) for each in executions}


def _deployments(session: Session, ids: Sequence[str], caller: Identity) -> list[Deployment]:
    """Those that the caller may see."""
    if not ids:
        return []
    rows = session.execute(
        select(Deployment, DeploymentApplication.domain)
        .join(DeploymentApplication, DeploymentApplication.id == Deployment.application_id)
        .where(Deployment.id.in_(ids))
    )
    return [row for row, domain in rows if may_see(caller, domain)]


def _of(
    execution: ExecutionView,
    kept_out: Mapping[int, Keeper],
    reasons: Mapping[str, tuple[WaitReason, ...]],
) -> list[Blocker]:
    summary = execution.summary
    about = {"execution_id": summary.id, "pipeline": summary.pipeline}
    match summary.status:
        case ExecutionStatus.STOPPED | ExecutionStatus.CANCELLED:
            stage = _last_stage(execution)
            by = (
                f"{summary.status.lower()} by {execution.stopped_by}"
                if execution.stopped_by
                else summary.status.lower()
            )
            told = f"{by}: {execution.stop_reason}" if execution.stop_reason else by
            return [Blocker("stopped", told, stage=stage, action=None, since=summary.ended_at, **about)]  # type: ignore[arg-type]
        case ExecutionStatus.FAILED:
            return _failures(execution)
        case ExecutionStatus.IN_PROGRESS | ExecutionStatus.STOPPING:
            if summary.id in kept_out:
                return [_inbound(execution, kept_out[summary.id])]
            return [
                *_conditions(execution, CONDITION),
                *(
                    each
                    for stage, action in _open_actions(execution)
                    for each in _open(execution, stage, action, reasons)
                ),
            ]
        case _:
            return []


def _failures(execution: ExecutionView) -> list[Blocker]:
    summary = execution.summary
    found = [
        Blocker("failed", _why(action), summary.id, summary.pipeline, stage.name, action.name, action.ended_at,
                build_id=action.build_id, deployment_id=action.deployment_id)
        for stage in execution.stages
        for action in stage.actions
        if action.status == ActionStatus.FAILED
    ]  # fmt: skip
    found += _conditions(execution, "failed")
    return found or [
        Blocker("failed", "it failed", summary.id, summary.pipeline, _last_stage(execution), None, summary.ended_at)
    ]


def _why(action: ActionExecutionView) -> str:
    told = action.summary or "failed"
    return f"{told}: {action.comment}" if action.comment else told


def _inbound(execution: ExecutionView, keeper: Keeper) -> Blocker:
    summary, stage = execution.summary, execution.inbound_stage or ""
    told = f"{stage} is {keeper.told}" if keeper.kind == FREEZE else keeper.told
    return Blocker(keeper.kind, told, summary.id, summary.pipeline, stage, None, keeper.since)


def _conditions(execution: ExecutionView, kind: str) -> list[Blocker]:
    """What the conditions say that have not let it go on: those that are judged yet, or (``failed``) that have failed it."""
    summary = execution.summary
    return [
        Blocker(kind, f"{_CALLED[Slot(each.condition_type)].format(stage.name)}: {each.summary or each.status}", summary.id,
                summary.pipeline, stage.name, None, each.ended_at or each.started_at)
        for stage in execution.stages
        for each in stage.conditions
        if each.is_current
        and (
            each.status == ConditionStatus.IN_PROGRESS
            if kind == CONDITION
            # One on failure does not fail anything, and what it skips goes on.
            else each.status in _SAY_NO and each.condition_type != Slot.ON_FAILURE and stage.status == StageStatus.FAILED
        )
    ]  # fmt: skip


def _open_actions(execution: ExecutionView) -> list[tuple[str, ActionExecutionView]]:
    return [
        (stage.name, action)
        for stage in execution.stages
        for action in stage.actions
        if action.status in {ActionStatus.IN_PROGRESS.value, ActionStatus.WAITING.value}
    ]


def _open(
    execution: ExecutionView,
    stage: str,
    action: ActionExecutionView,
    reasons: Mapping[str, tuple[WaitReason, ...]],
) -> list[Blocker]:
    summary = execution.summary
    at = (summary.id, summary.pipeline, stage, action.name)
    if action.status == ActionStatus.WAITING:
        asked = repositories_behind(execution, stage, action.name)
        told = f"approval {stage}/{action.name} waits for somebody with the right to approve on {', '.join(asked)}"
        return [Blocker("approval", told, *at, action.started_at, asked)]
    if action.deployment_id is not None:
        why = reasons.get(action.deployment_id, ())
        if why:
            return [
                Blocker("deployment", f"deployment {action.deployment_id} waits: {each.text}", *at, each.since,
                        deployment_id=action.deployment_id)
                for each in why
            ]  # fmt: skip
    told = action.summary or f"{action.provider} is at work"
    return [
        Blocker("running", told, *at, action.started_at, build_id=action.build_id, deployment_id=action.deployment_id)
    ]


def _last_stage(execution: ExecutionView) -> str:
    entered = [stage.name for stage in execution.stages if stage.status is not None]
    return entered[-1] if entered else execution.stages[0].name
