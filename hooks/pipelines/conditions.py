"""Conditions of stages as rows: asked, looked at again, decided, broken off. Under the execution's lock.

A condition that waits costs a row and a job that is due at the next moment at which one of its rules can change. It is
decided as soon as one rule has failed; then, and when somebody breaks it off, what its other rules run is stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.pipeline_condition import ConditionExecution, RuleExecution
from hooks.pipelines import freezes, happenings
from hooks.pipelines.definition import ActionDefinition, ConditionDefinition, RuleDefinition, Slot
from hooks.pipelines.handover import handed_to, own_revision
from hooks.pipelines.judging import find_rule_kind
from hooks.pipelines.judging.kind import Judging, RuleKind, Verdict, not_met, unjudged
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import Run, lock, pinned_version
from hooks.pipelines.state import ConditionStatus, StageStatus
from hooks.pipelines.values import known_values
from hooks.pipelines.variables import Unresolved, resolve
from registry.errors import Conflict, Denied, Invalid, NotFound

JOB_KIND = "judge_condition"
_REFUSALS = (NotFound, Conflict, Invalid, Denied)
_MAX_SUMMARY = 2000


def ask(session: Session, parts: Parts, run: Run, stage: str, slot: Slot, now: datetime) -> None:
    """Ask a condition: its rules start together, and those that can be judged at once are."""
    definition, row = _definition(run, stage, slot), run.stages[stage]
    last = session.scalar(
        select(func.max(ConditionExecution.attempt)).where(
            ConditionExecution.execution_id == run.execution.id,  # the index
            ConditionExecution.stage_execution_id == row.id,
            ConditionExecution.slot == slot.value,
        )
    )
    condition = ConditionExecution(
        execution_id=run.execution.id,
        stage_execution_id=row.id,
        slot=slot.value,
        attempt=(last or 0) + 1,
        is_current=True,
        result=definition.result.value,
        status=ConditionStatus.IN_PROGRESS.value,
        summary="",
        started_at=now,
    )
    session.add(condition)
    session.flush()
    run.conditions[stage, slot] = condition
    happenings.tell_condition(session, run, stage, condition, now)
    for rule in definition.rules:
        kind = find_rule_kind(rule.type)
        minutes = rule.timeout_minutes or (kind.default_minutes if kind is not None else 0)
        session.add(
            RuleExecution(
                condition_execution_id=condition.id,
                name=rule.name,
                provider=rule.type.provider,
                status=ConditionStatus.IN_PROGRESS.value,
                summary="",
                configuration=dict(rule.configuration),
                resolved_configuration={},
                started_at=now,
                expires_at=now + timedelta(minutes=minutes),
            )
        )
    session.flush()
    look(session, parts, run, stage, condition, now)


def look(session: Session, parts: Parts, run: Run, stage: str, condition: ConditionExecution, now: datetime) -> None:
    """Look at the rules of a condition in progress that are due, and decide it if they allow it."""
    definition = _definition(run, stage, Slot(condition.slot))
    rules = {rule.name: rule for rule in definition.rules}
    rows = rules_of(session, condition)
    for row in rows:
        if row.status != ConditionStatus.IN_PROGRESS:
            continue
        if row.expires_at is not None and row.expires_at <= now:
            _apply(row, not_met(f"not met in time; {row.summary}"), now)
            session.flush()
            if row.build_id is not None:
                parts.stop_build(session, row.build_id, now)
        elif row.build_id is None and (row.look_at is None or row.look_at <= now):
            _apply(row, _judge(session, parts, run, stage, condition, row, rules[row.name], now=now), now)
    settle(session, parts, run, stage, condition, rows, now=now)


def settle(
    session: Session,
    parts: Parts,
    run: Run,
    stage: str,
    condition: ConditionExecution,
    rows: Sequence[RuleExecution],
    *,
    now: datetime,
) -> None:
    """Decide a condition from its rules, or have it looked at again."""
    if all(row.status == ConditionStatus.SUCCEEDED for row in rows):
        _look_once_more(session, parts, run, stage, condition, rows, now=now)
    statuses = {row.status for row in rows}
    told = [f"{row.name}: {row.summary}" for row in rows if row.status in {"Failed", "Errored"}]
    if ConditionStatus.FAILED in statuses or ConditionStatus.ERRORED in statuses:
        # One rule that is not met decides, whatever another could not tell.
        ended = ConditionStatus.FAILED if ConditionStatus.FAILED in statuses else ConditionStatus.ERRORED
        _end_rules(session, parts, rows, ConditionStatus.CANCELLED, now)
        end(session, run, stage, condition, ended, "; ".join(told), now=now)
    elif statuses == {ConditionStatus.SUCCEEDED}:
        if not _is_frozen_out(session, run, stage, condition, now):
            end(session, run, stage, condition, ConditionStatus.SUCCEEDED, "", now=now)
    else:
        moments = [
            moment
            for row in rows
            if row.status == ConditionStatus.IN_PROGRESS
            for moment in (row.look_at, row.expires_at)
            if moment is not None
        ]
        _look_later(session, run, condition, min(moments), now)
    session.flush()


def _look_later(session: Session, run: Run, condition: ConditionExecution, at: datetime, now: datetime) -> None:
    enqueue(
        session,
        JOB_KIND,
        {"condition_execution_id": condition.id},
        # With the moment: a job that is due later must not stand in for this one.
        dedupe=f"{JOB_KIND}:{condition.id}:{at:%Y%m%d%H%M%S}",
        run_after_seconds=max(0.0, (at - now).total_seconds()),
        subject=run.subject,
        max_attempts=PATIENT_ATTEMPTS,
    )


def _look_once_more(
    session: Session,
    parts: Parts,
    run: Run,
    stage: str,
    condition: ConditionExecution,
    rows: Sequence[RuleExecution],
    *,
    now: datetime,
) -> None:
    """All rules are met, but not all now: a window may have closed while another rule waited."""
    for rule, row in zip(_definition(run, stage, Slot(condition.slot)).rules, rows, strict=True):
        kind = find_rule_kind(rule.type)
        if kind is not None and kind.is_momentary and row.ended_at is not None and row.ended_at < now:
            row.look_at = None
            _apply(row, _judge(session, parts, run, stage, condition, row, rule, now=now), now)


def _is_frozen_out(session: Session, run: Run, stage: str, condition: ConditionExecution, now: datetime) -> bool:
    """Whether a freeze began while the execution was on its way in; if so it waits on. What has begun is inside."""
    row = run.stages[stage]
    if condition.slot != Slot.BEFORE_ENTRY or row.passed_by is not None or freezes.has_begun(session, row):
        return False
    freeze = freezes.frozen(session, run.execution.pipeline_id, stage, now)
    until = None if freeze is None else freezes.holds_until(freeze, now)
    if freeze is None or until is None:
        condition.summary = ""
        return False
    condition.summary = f"frozen until {until:%Y-%m-%d %H:%M} UTC by {freeze.name} ({freeze.reason})"
    _look_later(session, run, condition, freezes.look_again_at(until, now), now)
    return True


def end(
    session: Session,
    run: Run,
    stage: str,
    condition: ConditionExecution,
    status: ConditionStatus,
    summary: str,
    *,
    now: datetime,
) -> None:
    """Write how a condition ended, and tell of it."""
    condition.status = status.value
    condition.summary = summary[:_MAX_SUMMARY]
    condition.ended_at = now
    happenings.tell_condition(session, run, stage, condition, now)


def break_off(
    session: Session, parts: Parts, run: Run, stage: str | None, status: ConditionStatus, summary: str, *, now: datetime
) -> None:
    """End the conditions in progress, of one stage or of all, without an answer."""
    for (owner, _), condition in run.conditions.items():
        if stage in {None, owner} and condition.status == ConditionStatus.IN_PROGRESS:
            # Written before any build is told to stop: its end then finds a rule that has ended.
            end(session, run, owner, condition, status, summary, now=now)
            _end_rules(session, parts, rules_of(session, condition), status, now)
    session.flush()


def end_override(
    session: Session, parts: Parts, condition: ConditionExecution, now: datetime, *, actor: str, reason: str
) -> None:
    """Somebody lets a condition count as met, whatever its rules say."""
    condition.status = ConditionStatus.OVERRIDDEN.value
    condition.summary = f"overridden by {actor}"
    condition.decided_by, condition.reason = actor, reason
    condition.ended_at = now
    session.flush()
    _end_rules(session, parts, rules_of(session, condition), ConditionStatus.OVERRIDDEN, now)


def end_build(session: Session, parts: Parts, build_id: str) -> Run | None:
    """End the rule that waits for a build, and settle its condition; the locked execution, None where nothing waits."""
    asked = session.execute(
        select(RuleExecution.id, RuleExecution.condition_execution_id).where(RuleExecution.build_id == build_id)
    ).first()
    found = None if asked is None else find_waiting(session, asked.condition_execution_id)
    outcome = parts.build_outcome(session, build_id)
    if asked is None or found is None or outcome is None:
        return None
    run, stage, condition = found
    rows, now = rules_of(session, condition), parts.clock()
    for row in rows:
        if row.id == asked.id and row.status == ConditionStatus.IN_PROGRESS:
            status = ConditionStatus.SUCCEEDED if outcome.succeeded else ConditionStatus.FAILED
            _apply(row, Verdict(status, outcome.summary), now)
    session.flush()
    settle(session, parts, run, stage, condition, rows, now=now)
    return run


def find_waiting(session: Session, condition_id: int) -> tuple[Run, str, ConditionExecution] | None:
    """A condition in progress, with its locked execution and its stage; None when it has ended, or never was."""
    execution_id = session.scalar(select(ConditionExecution.execution_id).where(ConditionExecution.id == condition_id))
    if execution_id is None:
        return None
    run = lock(session, execution_id)
    for (stage, _), condition in run.conditions.items():
        if condition.id == condition_id and condition.status == ConditionStatus.IN_PROGRESS:
            return run, stage, condition
    return None


def rules_of(session: Session, condition: ConditionExecution) -> Sequence[RuleExecution]:
    """The rules of a condition, in the document's order."""
    return session.scalars(
        select(RuleExecution)
        .where(RuleExecution.condition_execution_id == condition.id)
        .order_by(RuleExecution.id)
        .execution_options(populate_existing=True)
    ).all()


def _end_rules(
    session: Session, parts: Parts, rows: Sequence[RuleExecution], status: ConditionStatus, now: datetime
) -> None:
    waiting = [row for row in rows if row.status == ConditionStatus.IN_PROGRESS]
    for row in waiting:
        row.status, row.ended_at, row.look_at = status.value, now, None
    session.flush()
    for row in waiting:
        if row.build_id is not None:
            parts.stop_build(session, row.build_id, now)


def _judge(
    session: Session,
    parts: Parts,
    run: Run,
    stage: str,
    condition: ConditionExecution,
    row: RuleExecution,
    rule: RuleDefinition,
    *,
    now: datetime,
) -> Verdict:
    kind = find_rule_kind(rule.type)
    if kind is None:
        return unjudged(f"this release does not judge {rule.type}")
    try:
        row.resolved_configuration = resolve(rule.configuration, known_values(run), _json_keys(kind))
        with session.begin_nested():
            return kind.judge(session, _judging(parts, run, stage, condition, row, rule, now=now))
    except Unresolved as unresolved:
        return unjudged(str(unresolved))
    except _REFUSALS as refusal:
        return unjudged(str(refusal))


def _judging(
    parts: Parts,
    run: Run,
    stage: str,
    condition: ConditionExecution,
    row: RuleExecution,
    rule: RuleDefinition,
    *,
    now: datetime,
) -> Judging:
    slot = Slot(condition.slot)
    return Judging(
        parts=parts,
        pipeline=run.pipeline,
        execution_id=run.execution.id,
        definition_id=run.execution.definition_id,
        slot=slot,
        rule=rule,
        configuration=row.resolved_configuration,
        source=pinned_version(run.execution),
        now=now,
        began_at=condition.started_at,
        settled_at=_settled_at(run, stage) if slot is Slot.BEFORE_ENTRY else condition.started_at,
        looked_for=row.look_at,
        artifacts=handed_to(run, ActionDefinition(rule.name, rule.type, inputs=rule.inputs)),
        own_revision=own_revision(run),
    )


def _settled_at(run: Run, stage: str) -> datetime:
    """When the nearest stage before this one that was not skipped succeeded; the start where there is none."""
    found = run.execution.started_at
    for each in run.definition.stages:
        if each.name == stage:
            return found
        row = run.stages.get(each.name)
        if row is not None and row.status == StageStatus.SUCCEEDED and row.ended_at is not None:
            found = row.ended_at
    return found


def _json_keys(kind: RuleKind) -> set[str]:
    return {setting.name for setting in kind.provider.settings if setting.is_json}


def _apply(row: RuleExecution, verdict: Verdict, now: datetime) -> None:
    row.status = verdict.status.value
    row.summary = verdict.summary[:_MAX_SUMMARY]
    row.look_at = verdict.look_at
    row.build_id = verdict.build_id or row.build_id
    row.ended_at = None if verdict.status is ConditionStatus.IN_PROGRESS else now


def _definition(run: Run, stage: str, slot: Slot) -> ConditionDefinition:
    owner = run.definition.stage(stage)
    if owner is None or slot not in owner.conditions:
        raise NotFound("condition", f"{slot} of stage {stage}")
    return owner.conditions[slot]
