"""The pipeline engine: executions move only here, only under their lock, only inside the transaction of a change.

Every function works in the caller's transaction and commits nothing. After a rollback everything is as it was, and the
same call may be made again; a call that comes late or twice finds nothing left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution, Execution, PipelineDefinitionVersion, StageExecution
from hooks.pipelines import conditions, happenings, invoked, retrying, rolling_back, slots
from hooks.pipelines.actions import find_kind
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import ActionDefinition, ExecutionMode, PipelineDefinition
from hooks.pipelines.giving_way import at_stage, give_way
from hooks.pipelines.handover import handed_to, own_revision
from hooks.pipelines.parts import Parts, PinnedVersion
from hooks.pipelines.pinning import About, Wanted, about
from hooks.pipelines.run import SYSTEM, Run, lock, lock_pipeline, next_attempt, pinned_version
from hooks.pipelines.state import (
    ActionStatus,
    AskCondition,
    ConditionStatus,
    EndExecution,
    EndStage,
    EnterStage,
    ExecutionStatus,
    RetryStage,
    StageStatus,
    StartAction,
    plan,
)
from hooks.pipelines.values import known_values, pipeline_variables
from hooks.pipelines.variables import Unresolved, resolve
from registry.errors import Conflict, Denied, Invalid, NotFound

MAX_DEPTH = 3
"""How many executions may follow from each other, by promoting or by invoking, before the chain is taken for a loop."""

REFUSALS = (NotFound, Conflict, Invalid, Denied)
"""What an action can be told: it ran and failed. Everything else means that it could not be run, and is tried again."""

_MAX_SUMMARY = 2000


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why an execution starts. ``identity`` is unique in its pipeline: the same one never starts a second execution.

    ``invoked_by_action_id`` is the action execution of another pipeline that waits for it.
    """

    kind: str
    identity: str
    actor: str
    depth: int = 0
    invoked_by_action_id: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """``is_new`` is False when the trigger had started this execution already."""

    execution_id: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Start:
    """What an execution is about: the pinned version, whose work it is, and the pipeline variables given.

    ``revisions`` are what sources of another kind bring, by the names of their actions; the newest for those not in it.
    """

    version: PinnedVersion | None = None
    publishers: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    revisions: Mapping[str, Wanted] = field(default_factory=dict)


def start_execution(
    session: Session, parts: Parts, pipeline_id: int, start: Start, *, trigger: Trigger, now: datetime
) -> Started:
    """Start an execution of the definition in force, once per trigger identity.

    Raises NotFound for the pipeline, Invalid for variables that are unknown or lack a value, for a version without
    files and for revisions that no source takes, and Denied for a chain of promotions deeper than ``MAX_DEPTH``.
    """
    row, definition = current_definition(session, pipeline_id)
    there = find_started(session, pipeline_id, trigger.identity)
    if there is not None:
        return Started(there, is_new=False)
    if trigger.depth > MAX_DEPTH:
        raise Denied(f"{trigger.depth} promotions in a row led here, at most {MAX_DEPTH} may; it looks like a loop")
    if start.version is not None and not start.version.assets:
        raise Invalid(f"{start.version.full_name} {start.version.version} has no files")
    if definition.execution_mode is not ExecutionMode.PARALLEL:
        lock_pipeline(session, pipeline_id)  # so that the order of the ids is that of the starts
    what = about(session, definition, start.version, start.revisions, now)
    execution = _new_execution(row, start, what, pipeline_variables(definition, start.variables), trigger, now)
    execution.mode = definition.execution_mode.value
    try:
        with session.begin_nested():
            session.add(execution)
            session.flush()
            for revision in what.rows:
                revision.execution_id = execution.id
                session.add(revision)
    except IntegrityError:
        # Another transaction started it between our look and our insert; the constraint is the arbiter.
        winner = find_started(session, pipeline_id, trigger.identity)
        if winner is None:
            raise
        return Started(winner, is_new=False)
    begin(session, parts, execution.id, now, definition=row.version)
    return Started(execution.id, is_new=True)


def begin(session: Session, parts: Parts, execution_id: int, now: datetime, **details: Any) -> None:
    """Move an execution whose row was just made: its audit entry (with ``details``), its event and its first steps."""
    run = lock(session, execution_id)
    _announce(session, run, now, **details)
    _go_on(session, parts, run, now)


def _announce(session: Session, run: Run, now: datetime, **details: Any) -> None:
    row, source = run.execution, pinned_version(run.execution)
    run.record(
        session,
        now,
        row.triggered_by,
        "execution.start",
        trigger=row.trigger_kind,
        package=source.purl,
        repository=f"{source.domain}/{source.repository}",
        digest=row.digest,
        depth=row.depth,
        **details,
    )
    happenings.tell_status(session, run, now)


def _new_execution(
    definition: PipelineDefinitionVersion,
    start: Start,
    what: About,
    variables: dict[str, str],
    trigger: Trigger,
    now: datetime,
) -> Execution:
    source = what.version
    return Execution(
        pipeline_id=definition.pipeline_id,
        definition_id=definition.id,
        status=ExecutionStatus.IN_PROGRESS.value,
        trigger_kind=trigger.kind,
        trigger_identity=trigger.identity,
        triggered_by=trigger.actor,
        revision_type=what.revision_type,
        domain=source.domain,
        repository=source.repository,
        format=source.format,
        namespace=source.namespace,
        name=source.name,
        version=source.version,
        digest=source.digest,
        assets=dict(source.assets),
        publishers=sorted({*start.publishers, *what.publishers}),
        variables=variables,
        depth=trigger.depth,
        invoked_by_action_id=trigger.invoked_by_action_id,
        started_at=now,
    )


def advance(session: Session, parts: Parts, execution_id: int, now: datetime) -> None:
    """Move an execution as far as its rows allow. Harmless at any time and any number of times. Raises NotFound."""
    _go_on(session, parts, lock(session, execution_id), now)


def on_build_finished(session: Session, parts: Parts, build_id: str) -> None:
    """End the action or the rule that waits for a build, in the transaction that ends the build.

    Nothing happens for a build of no pipeline, or of an action that was abandoned meanwhile.
    """
    execution_id = session.scalar(select(ActionExecution.execution_id).where(ActionExecution.build_id == build_id))
    if execution_id is None:
        of_rule = conditions.end_build(session, parts, build_id)
        if of_rule is not None:
            _go_on(session, parts, of_rule, parts.clock())
        return
    run = lock(session, execution_id)
    row = next((row for row in run.running() if row.build_id == build_id), None)
    outcome = parts.build_outcome(session, build_id)
    if row is None or outcome is None:
        return
    status = ActionStatus.SUCCEEDED if outcome.succeeded else ActionStatus.FAILED
    end_action(session, parts, run, row, Progress(status, outcome.summary, outcome.variables), now=parts.clock())


def look_at_condition(session: Session, parts: Parts, condition_id: int, now: datetime) -> None:
    """Look at the rules of a condition that waits, and move on. Harmless at any time: it asks what is due alone."""
    found = conditions.find_waiting(session, condition_id)
    if found is not None:
        run, stage, condition = found
        conditions.look(session, parts, run, stage, condition, now)
        _go_on(session, parts, run, now)


def running_action(session: Session, action_execution_id: int) -> tuple[Run, ActionExecution] | None:
    """An action that has not ended, with its locked execution; None when it has, was replaced, or never was."""
    execution_id = session.scalar(select(ActionExecution.execution_id).where(ActionExecution.id == action_execution_id))
    if execution_id is None:
        return None
    run = lock(session, execution_id)
    row = next((row for row in run.running() if row.id == action_execution_id), None)
    return None if row is None else (run, row)


def end_action(session: Session, parts: Parts, run: Run, row: ActionExecution, end: Progress, *, now: datetime) -> None:
    """Write how a running action of the locked ``run`` ended, and move on."""
    _apply(row, end, now)
    happenings.tell_action(session, run, row, now)
    _go_on(session, parts, run, now)


def abandon(
    session: Session, parts: Parts, run: Run, row: ActionExecution, told: Progress, *, actor: str, now: datetime
) -> None:
    """Give a running action up: what it has started is told to stop, and what that still reports is not listened to."""
    stage = next(stage for (stage, _), other in run.actions.items() if other is row)
    _apply(row, told, now)
    happenings.tell_action(session, run, row, now)
    # Written before anything is told to stop: what then reports its end finds an action that has ended.
    session.flush()
    kind = kind_of(run.definition, stage, row.name)
    if kind is not None:
        kind.stop(session, parts, row, actor)


def wind_down(session: Session, parts: Parts, run: Run, row: ActionExecution, *, actor: str) -> None:
    """Tell a running action that its execution is being stopped; it comes to its end by itself."""
    stage = next(stage for (stage, _), other in run.actions.items() if other is row)
    kind = kind_of(run.definition, stage, row.name)
    if kind is not None:
        kind.wind_down(session, parts, row, actor)


def find_started(session: Session, pipeline_id: int, identity: str) -> int | None:
    """The execution that a trigger of this identity has started already, if any."""
    return session.scalar(
        select(Execution.id).where(Execution.pipeline_id == pipeline_id, Execution.trigger_identity == identity)
    )


def let_in(session: Session, parts: Parts, pipeline_id: int, stage: str, now: datetime) -> None:
    """Let what waits before a stage of the locked pipeline go in, if it may now."""
    following = slots.next_inbound(session, pipeline_id, stage, now)
    held = at_stage(session, pipeline_id, stage, now) if following is None else lock(session, following)
    if held is not None:
        _go_on(session, parts, held, now)


def _go_on(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    """Move ``run``, then all that waited for a stage that it, or one of those, has left."""
    moving = [run]
    # Ends: each further one goes into a stage, and as it went before it goes on, never back; what gives way to a newer
    # one has one approval less that waits; a rollback brings no other.
    while moving:
        current = moving.pop(0)
        left, begun = _move(session, parts, current, now)
        for execution_id in begun:
            rollback = lock(session, execution_id)
            _announce(
                session, rollback, now, rollback_of=rollback.execution.rollback_stage, failed=current.execution.id
            )
            moving.append(rollback)
        for stage in left:
            following = slots.next_inbound(session, current.execution.pipeline_id, stage, now)
            if following is not None:
                moving.append(lock(session, following))
        moving += give_way(session, current, now)
    session.flush()


def _move(session: Session, parts: Parts, run: Run, now: datetime) -> tuple[list[str], list[int]]:
    """Move one execution as far as its rows allow; returns the stages that it left free, and rollbacks to begin."""
    left: list[str] = []
    begun: list[int] = []
    # Ends: every step turns something that had not started or ended into something that has.
    while steps := plan(run.view()):
        for step in steps:
            match step:
                case EnterStage(stage):
                    way = _way_in(session, run, stage, now)
                    if way is None:
                        if run.execution.status == ExecutionStatus.SUPERSEDED:
                            left.append(stage)  # it was let in and went: whoever waits behind it is next
                        return left, begun
                    _enter(session, run, stage, now, way)
                case AskCondition(stage, slot):
                    conditions.ask(session, parts, run, stage, slot, now)
                case StartAction(stage, action):
                    _start(session, parts, run, stage, action, now=now)
                case RetryStage(stage, mode):
                    retrying.by_rule(session, parts, run, stage, mode, now)
                case EndStage(stage, status, rolls_back):
                    left += _leave(session, run, stage, status, now)
                    begun += rolling_back.by_rule(session, run, stage, now) if rolls_back else ()
                case EndExecution(status):
                    _end(session, run, status, now)
    session.flush()
    return left, begun


def _leave(session: Session, run: Run, stage: str, status: StageStatus, now: datetime) -> list[str]:
    """End a stage; the stage, if that leaves it free for another execution."""
    run.stages[stage].status = status.value
    run.stages[stage].ended_at = now
    happenings.tell_stage(session, run, stage, now)
    return [stage] if run.goes_one_by_one and slots.leave(session, run.execution, stage) else []


def _way_in(session: Session, run: Run, stage: str, now: datetime) -> slots.Way | None:
    """How the execution has come into the stage; None: it waits before it, or is superseded itself."""
    execution = run.execution
    if not run.goes_one_by_one:
        is_first = stage == run.definition.stages[0].name
        return slots.OPEN_WAY if is_first else slots.may_come_in(session, execution, stage, now)
    if execution.rollback_stage is not None:  # that the stage is free was seen to when it was asked for
        slots.occupy(session, execution, stage)
        return slots.OPEN_WAY
    if execution.mode == ExecutionMode.SUPERSEDED:
        if slots.is_overtaken(session, execution, stage):
            _end(session, run, ExecutionStatus.SUPERSEDED, now)
            return None
        for older in slots.superseded_by(session, execution, stage):
            _end(session, lock(session, older), ExecutionStatus.SUPERSEDED, now)
    return slots.try_to_enter(session, execution, stage, now)


def _enter(session: Session, run: Run, stage: str, now: datetime, way: slots.Way) -> None:
    row = StageExecution(
        execution_id=run.execution.id,
        name=stage,
        status=StageStatus.IN_PROGRESS.value,
        attempt=1,
        passed_by=way.passed_by,
        pass_reason=way.pass_reason,
        started_at=now,
    )
    session.add(row)
    session.flush()
    run.stages[stage] = row
    happenings.tell_stage(session, run, stage, now)


def _end(session: Session, run: Run, status: ExecutionStatus, now: datetime) -> None:
    run.execution.status = status.value
    run.execution.ended_at = now
    if run.goes_one_by_one or status is ExecutionStatus.STOPPED:
        slots.stop_waiting(session, run.execution)
    invoked.tell_end(session, run.execution)
    failed = [f"{stage}/{name}" for (stage, name), row in run.actions.items() if row.status == ActionStatus.FAILED]
    judged = {ConditionStatus.FAILED, ConditionStatus.ERRORED}
    conditions_failed = [f"{stage}/{slot}" for (stage, slot), row in run.conditions.items() if row.status in judged]
    more = {"failed_conditions": conditions_failed} if conditions_failed else {}
    run.record(session, now, SYSTEM, f"execution.{status.lower()}", failed_actions=failed, **more)
    happenings.tell_status(session, run, now)


def _start(session: Session, parts: Parts, run: Run, stage: str, action: str, *, now: datetime) -> None:
    definition = _definition_of(run.definition, stage, action)
    row = ActionExecution(
        execution_id=run.execution.id,
        stage_execution_id=run.stages[stage].id,
        name=action,
        attempt=next_attempt(session, run.stages[stage].id, action),
        is_current=True,
        category=definition.type.category,
        provider=definition.type.provider,
        status=ActionStatus.IN_PROGRESS.value,
        summary="",
        configuration=dict(definition.configuration),
        resolved_configuration={},
        output_variables={},
        started_at=now,
    )
    session.add(row)
    session.flush()
    run.actions[stage, action] = row
    happenings.tell_action(session, run, row, now)
    _apply(row, _begin(session, parts, run, row, stage, definition, now=now), now)
    if row.status != ActionStatus.IN_PROGRESS:
        happenings.tell_action(session, run, row, now)
    if row.status == ActionStatus.WAITING:
        run.record(session, now, SYSTEM, "approval.request", approval=f"{stage}/{action}", token=row.token)
    session.flush()


def _begin(
    session: Session,
    parts: Parts,
    run: Run,
    row: ActionExecution,
    stage: str,
    definition: ActionDefinition,
    *,
    now: datetime,
) -> Progress:
    kind = find_kind(definition.type)
    if kind is None:
        return Progress(ActionStatus.FAILED, f"this release does not carry out {definition.type}")
    json_keys = {setting.name for setting in kind.provider.settings if setting.is_json}
    try:
        row.resolved_configuration = resolve(definition.configuration, known_values(run), json_keys)
        with session.begin_nested():
            return kind.start(
                session,
                Starting(
                    parts=parts,
                    pipeline=run.pipeline,
                    execution_id=run.execution.id,
                    definition_id=run.execution.definition_id,
                    action_id=row.id,
                    attempt=row.attempt,
                    definition=definition,
                    configuration=row.resolved_configuration,
                    source=pinned_version(run.execution),
                    now=now,
                    stage=stage,
                    artifacts=handed_to(run, definition),
                    own_revision=own_revision(run),
                ),
            )
    except Unresolved as unresolved:
        return Progress(ActionStatus.FAILED, str(unresolved))
    except REFUSALS as refusal:
        return Progress(ActionStatus.FAILED, str(refusal))


def _apply(row: ActionExecution, progress: Progress, now: datetime) -> None:
    row.status = progress.status.value
    row.summary = progress.summary[:_MAX_SUMMARY]
    row.output_variables = dict(progress.variables)
    row.build_id = progress.build_id or row.build_id
    row.deployment_id = progress.deployment_id or row.deployment_id
    row.action_job_id = progress.action_job_id or row.action_job_id
    row.invoked_execution_id = progress.invoked_execution_id or row.invoked_execution_id
    row.job_id = progress.job_id or row.job_id
    row.token = progress.token or row.token
    row.expires_at = progress.expires_at or row.expires_at
    row.ended_at = None if progress.status.is_running else now


def _definition_of(definition: PipelineDefinition, stage: str, action: str) -> ActionDefinition:
    owner = definition.stage(stage)
    found = owner.action(action) if owner else None
    if found is None:
        raise NotFound("action", f"{stage}/{action}")
    return found


def kind_of(definition: PipelineDefinition, stage: str, action: str) -> ActionKind | None:
    """What carries out an action, or None when this release does not. Raises NotFound."""
    return find_kind(_definition_of(definition, stage, action).type)
