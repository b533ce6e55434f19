"""How statuses look: tone, word and symbol of pipelines', builds', reports' and deployments' statuses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hooks.builds.phases import BuildStatus
from hooks.builds.reports.model import CaseStatus, ReportStatus
from hooks.deployments.planning import DeploymentStatus, TargetStatus
from hooks.pipelines.state import ActionStatus, ConditionStatus, ExecutionStatus, StageStatus
from hooks.pipelines.store import ActionExecutionView, ExecutionView, StageExecutionView


@dataclass(frozen=True, slots=True)
class Look:
    """``tone`` is one of the style sheet's, ``icon`` a symbol of the sprite; ``text`` says it in a word."""

    tone: str
    text: str
    icon: str


NOT_STARTED = Look("idle", "Not started", "idle")

_LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        ExecutionStatus.IN_PROGRESS.value: Look("busy", "In progress", "busy"),
        ExecutionStatus.STOPPING.value: Look("wait", "Stopping", "stopped"),
        ExecutionStatus.STOPPED.value: Look("idle", "Stopped", "stopped"),
        ExecutionStatus.SUCCEEDED.value: Look("good", "Succeeded", "good"),
        ExecutionStatus.FAILED.value: Look("bad", "Failed", "bad"),
        ExecutionStatus.SUPERSEDED.value: Look("idle", "Superseded", "skipped"),
        ExecutionStatus.CANCELLED.value: Look("idle", "Cancelled", "stopped"),
        StageStatus.SKIPPED.value: Look("idle", "Skipped", "skipped"),
        ConditionStatus.ERRORED.value: Look("bad", "Could not be judged", "alert"),
        ConditionStatus.OVERRIDDEN.value: Look("wait", "Overridden", "check"),
        ActionStatus.WAITING.value: Look("wait", "Needs approval", "wait"),
        ActionStatus.ABANDONED.value: Look("idle", "Abandoned", "stopped"),
        BuildStatus.IN_PROGRESS.value: Look("busy", "In progress", "busy"),
        BuildStatus.SUCCEEDED.value: Look("good", "Succeeded", "good"),
        BuildStatus.FAILED.value: Look("bad", "Failed", "bad"),
        BuildStatus.FAULT.value: Look("bad", "Fault of the server", "alert"),
        BuildStatus.TIMED_OUT.value: Look("bad", "Timed out", "wait"),
        BuildStatus.STOPPED.value: Look("idle", "Stopped", "stopped"),
        ReportStatus.GENERATING.value: Look("busy", "Being read", "busy"),
        ReportStatus.INCOMPLETE.value: Look("wait", "Incomplete", "alert"),
        CaseStatus.ERROR.value: Look("bad", "Error", "alert"),
        CaseStatus.SKIPPED.value: Look("idle", "Skipped", "skipped"),
        CaseStatus.UNKNOWN.value: Look("idle", "Unknown", "idle"),
        DeploymentStatus.CREATED.value: Look("idle", "Created", "idle"),
        DeploymentStatus.QUEUED.value: Look("wait", "Queued", "wait"),
        DeploymentStatus.BAKING.value: Look("busy", "Baking", "busy"),
        DeploymentStatus.READY.value: Look("wait", "Ready", "wait"),
        TargetStatus.PENDING.value: Look("idle", "Pending", "idle"),
        TargetStatus.SKIPPED.value: Look("idle", "Skipped", "skipped"),
        TargetStatus.UNKNOWN.value: Look("idle", "Unknown", "idle"),
    }
)


def look(status: str | None) -> Look:
    """How a status looks; None is what has not started. A status of a later release is shown as its own word."""
    if status is None:
        return NOT_STARTED
    return _LOOKS.get(status, Look("idle", status, "idle"))


def look_of_stage(stage: StageExecutionView) -> Look:
    """How a stage looks: one that only waits, for somebody or for its condition, says so, though it is in progress."""
    if stage.status == ExecutionStatus.IN_PROGRESS and _waits_for_condition(stage):
        return Look("wait", "Waits for its condition", "wait")
    return _look_while(stage.status, stage.actions)


def look_of_execution(execution: ExecutionView) -> Look:
    """How an execution looks: one that only waits, for somebody or before a stage, says so, though it is in progress."""
    if execution.inbound_stage is not None and execution.summary.status == ExecutionStatus.IN_PROGRESS:
        return Look("wait", f"Waits before {execution.inbound_stage}", "wait")
    if execution.summary.status == ExecutionStatus.IN_PROGRESS and any(map(_waits_for_condition, execution.stages)):
        return Look("wait", "Waits for a condition", "wait")
    return _look_while(execution.summary.status, [action for stage in execution.stages for action in stage.actions])


def _waits_for_condition(stage: StageExecutionView) -> bool:
    return any(each.is_current and each.status == ConditionStatus.IN_PROGRESS for each in stage.conditions)


def _look_while(status: str | None, actions: Iterable[ActionExecutionView]) -> Look:
    running = {action.status for action in actions} & {ActionStatus.IN_PROGRESS.value, ActionStatus.WAITING.value}
    if status == ExecutionStatus.IN_PROGRESS and running == {ActionStatus.WAITING.value}:
        return look(ActionStatus.WAITING.value)
    return look(status)
