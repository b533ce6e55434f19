"""Conditions as people see them: how they were judged, rule by rule. Rows go in, frozen values come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline_condition import ConditionExecution, RuleExecution
from hooks.pipelines.definition import Slot


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule of a condition. While it waits ``look_at`` is when it is looked at again, ``expires_at`` when it has failed."""

    name: str
    provider: str
    status: str
    summary: str
    configuration: Mapping[str, str]
    resolved_configuration: Mapping[str, str]
    build_id: str | None
    look_at: datetime | None
    expires_at: datetime | None
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ConditionExecutionView:
    """A judgement of a condition. ``condition_type`` is CodePipeline's; ``decided_by`` and ``reason`` are of an override."""

    condition_type: str
    result: str
    status: str
    summary: str
    attempt: int
    is_current: bool
    decided_by: str | None
    reason: str | None
    started_at: datetime
    ended_at: datetime | None
    rules: tuple[RuleView, ...]


@dataclass(frozen=True, slots=True)
class RuleStateExecution:
    """How a rule stands. ``external_execution_id`` is the id of its build."""

    rule_execution_id: int
    status: str
    summary: str
    last_status_change: datetime
    external_execution_id: str | None
    external_execution_url: str | None


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule of the condition."""

    rule_name: str
    latest_execution: RuleStateExecution


@dataclass(frozen=True, slots=True)
class ConditionStateExecution:
    """How a condition stands. ``last_updated_by`` is who has overridden it."""

    status: str
    summary: str
    last_status_change: datetime
    last_updated_by: str | None


@dataclass(frozen=True, slots=True)
class ConditionState:
    """The one condition of a slot; ``result`` is what it leads to."""

    latest_execution: ConditionStateExecution
    result: str
    rule_states: tuple[RuleState, ...]


@dataclass(frozen=True, slots=True)
class StageConditionState:
    """The conditions of a slot (CodePipeline's StageConditionState): there is one."""

    latest_execution: ConditionStateExecution
    condition_states: tuple[ConditionState, ...]


def conditions_of(session: Session, executions: Sequence[int]) -> Mapping[int, tuple[ConditionExecutionView, ...]]:
    """Stage execution → all judgements of its conditions, in the order in which they were asked, of several executions."""
    rows = session.scalars(
        select(ConditionExecution)
        .where(ConditionExecution.execution_id.in_(executions))
        .order_by(ConditionExecution.id)
    ).all()
    rules = _rules(session, [row.id for row in rows])
    found: dict[int, tuple[ConditionExecutionView, ...]] = {}
    for row in rows:
        view = _view(row, rules.get(row.id, ()))
        found[row.stage_execution_id] = (*found.get(row.stage_execution_id, ()), view)
    return found


def states_of(session: Session, stage_executions: Sequence[int]) -> Mapping[int, Mapping[Slot, StageConditionState]]:
    """Stage execution → slot → the judgement that counts."""
    rows = session.scalars(
        select(ConditionExecution).where(
            ConditionExecution.stage_execution_id.in_(stage_executions), ConditionExecution.is_current
        )
    ).all()
    rules = _rules(session, [row.id for row in rows])
    found: dict[int, dict[Slot, StageConditionState]] = {}
    for row in rows:
        latest = ConditionStateExecution(row.status, row.summary, row.ended_at or row.started_at, row.decided_by)
        told = tuple(RuleState(rule.name, _rule_state(rule)) for rule in rules.get(row.id, ()))
        state = StageConditionState(latest, (ConditionState(latest, row.result, told),))
        found.setdefault(row.stage_execution_id, {})[Slot(row.slot)] = state
    return found


def _rules(session: Session, condition_ids: Sequence[int]) -> Mapping[int, Sequence[RuleExecution]]:
    found: dict[int, list[RuleExecution]] = {}
    if condition_ids:
        wanted = RuleExecution.condition_execution_id.in_(condition_ids)
        for row in session.scalars(select(RuleExecution).where(wanted).order_by(RuleExecution.id)):
            found.setdefault(row.condition_execution_id, []).append(row)
    return found


def _rule_state(row: RuleExecution) -> RuleStateExecution:
    url = None if row.build_id is None else f"/builds/{row.build_id}"
    return RuleStateExecution(row.id, row.status, row.summary, row.ended_at or row.started_at, row.build_id, url)


def _view(row: ConditionExecution, rules: Sequence[RuleExecution]) -> ConditionExecutionView:
    return ConditionExecutionView(
        row.slot,
        row.result,
        row.status,
        row.summary,
        row.attempt,
        row.is_current,
        row.decided_by,
        row.reason,
        row.started_at,
        row.ended_at,
        tuple(
            RuleView(
                rule.name,
                rule.provider,
                rule.status,
                rule.summary,
                rule.configuration,
                rule.resolved_configuration,
                rule.build_id,
                rule.look_at,
                rule.expires_at,
                rule.started_at,
                rule.ended_at,
            )
            for rule in rules
        ),
    )
