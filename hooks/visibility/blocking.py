"""What keeps executions from going on: whose approval, which closed way in, what failed, what a deployment waits for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.parts import Patience
from hooks.deployments.rights import may_see
from hooks.deployments.waiting import WaitReason, wait_reasons
from hooks.models.deployment import Deployment, DeploymentApplication
from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_stage import StageSlot
from hooks.pipelines.gates import repositories_behind
from hooks.pipelines.state import ActionStatus, ExecutionStatus
from hooks.pipelines.store import ActionExecutionView, ExecutionView
from hooks.visibility.life_shapes import Blocker
from registry.access import Identity


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
    they are known already. It costs four queries, however many they are.
    """
    slots = _slots(session, executions)
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
    return {each.summary.id: tuple(_of(each, slots, reasons)) for each in executions}


def _slots(session: Session, executions: Collection[ExecutionView]) -> dict[tuple[str, str], StageSlot]:
    wanted = {each.summary.pipeline for each in executions if each.inbound_stage is not None}
    if not wanted:
        return {}
    rows = session.execute(
        select(Pipeline.name, StageSlot)
        .join(StageSlot, StageSlot.pipeline_id == Pipeline.id)
        .where(Pipeline.name.in_(wanted))
    )
    return {(name, slot.stage): slot for name, slot in rows}


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
    slots: Mapping[tuple[str, str], StageSlot],
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
            if execution.inbound_stage is not None:
                return [_inbound(execution, slots.get((summary.pipeline, execution.inbound_stage)))]
            return [
                each for stage, action in _open_actions(execution) for each in _open(execution, stage, action, reasons)
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
    return found or [
        Blocker("failed", "it failed", summary.id, summary.pipeline, _last_stage(execution), None, summary.ended_at)
    ]


def _why(action: ActionExecutionView) -> str:
    told = action.summary or "failed"
    return f"{told}: {action.comment}" if action.comment else told


def _inbound(execution: ExecutionView, slot: StageSlot | None) -> Blocker:
    summary, stage = execution.summary, execution.inbound_stage or ""
    if slot is not None and not slot.is_open:
        told = f"{slot.changed_by} closed the way into {stage}: {slot.disabled_reason}"
        return Blocker("transition", told, summary.id, summary.pipeline, stage, None, slot.changed_at)
    inside = f"execution {slot.occupant_id}" if slot is not None and slot.occupant_id else "another execution"
    told = f"{inside} is in stage {stage}, which takes one at a time"
    return Blocker("stage", told, summary.id, summary.pipeline, stage, None, None)


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
