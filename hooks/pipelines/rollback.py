"""Rolling a stage back (CodePipeline's RollbackStage): it runs once more with what an earlier execution had there."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Execution, PipelineDefinitionVersion, StageExecution
from hooks.pipelines import holds, slots
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ExecutionMode, PipelineDefinition
from hooks.pipelines.engine import Started, begin, find_started
from hooks.pipelines.parts import Parts
from hooks.pipelines.rolling_back import BY_HAND, new_rollback
from hooks.pipelines.run import lock_pipeline
from hooks.pipelines.state import StageStatus
from registry.errors import Conflict, Invalid, NotFound


def rollback_stage(
    session: Session,
    parts: Parts,
    target_id: int,
    stage: str,
    *,
    actor: str,
    now: datetime,
    request_token: str | None = None,
) -> Started:
    """Start an execution of the type ROLLBACK that runs ``stage`` with the version and variables of ``target_id``.

    It begins in that stage, ends after it, and takes over what the target's actions made in the stages before. It does
    not come through the inbound transition: a stage can be closed and rolled back. Nothing of the package enters the stage
    after it until somebody releases it (``holds``). The same ``request_token`` never
    starts a second one. Raises NotFound for the execution or the stage, and Conflict where CodePipeline refuses: in a
    PARALLEL pipeline, for the source stage, while the stage is in progress, and for a target that is a rollback, has
    not succeeded in the stage, or ran on an older definition (PipelineExecutionOutdatedException).
    """
    if request_token is not None and not 1 <= len(request_token) <= 64:
        raise Invalid("a request token has 1 to 64 characters")
    target = session.get(Execution, target_id)
    if target is None:
        raise NotFound("execution", str(target_id))
    lock_pipeline(session, target.pipeline_id)
    identity = f"rollback:{request_token or uuid.uuid4().hex}"
    there = find_started(session, target.pipeline_id, identity)
    if there is not None:
        return Started(there, is_new=False)
    row, definition = current_definition(session, target.pipeline_id)
    _check(session, target, stage, row, definition)
    execution = new_rollback(target, stage, kind=BY_HAND, identity=identity, actor=actor, now=now)
    session.add(execution)
    session.flush()
    holds.hold(session, execution, stage, actor=actor, now=now)
    begin(session, parts, execution.id, now, definition=row.version, rollback_of=stage, target=target_id)
    return Started(execution.id, is_new=True)


def _check(
    session: Session, target: Execution, stage: str, row: PipelineDefinitionVersion, definition: PipelineDefinition
) -> None:
    if definition.stage(stage) is None:
        raise NotFound("stage", stage)
    if definition.execution_mode is ExecutionMode.PARALLEL:
        raise Conflict("executions of a PARALLEL pipeline have no common stages that could be rolled back")
    if stage == definition.stages[0].name:
        raise Conflict(f"{stage} is the source stage: start the pipeline for the older version instead")
    if target.rollback_stage is not None:
        raise Conflict(f"execution {target.id} is a rollback itself; name the execution it went back to")
    if target.definition_id != row.id:
        raise Conflict(f"execution {target.id} is outdated: the pipeline's definition has changed since")
    status = session.scalar(
        select(StageExecution.status).where(StageExecution.execution_id == target.id, StageExecution.name == stage)
    )
    if status != StageStatus.SUCCEEDED:
        raise Conflict(f"execution {target.id} has not succeeded in stage {stage}")
    inside = slots.slot_of(session, target.pipeline_id, stage).occupant_id
    if inside is not None:
        raise Conflict(f"execution {inside} is in stage {stage}; wait for it, or stop it")
