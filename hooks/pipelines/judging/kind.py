"""What a kind of rule is: its declaration, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.pipelines.definition import RuleDefinition, Slot
from hooks.pipelines.handover import Handed
from hooks.pipelines.parts import Parts, PinnedVersion
from hooks.pipelines.provider import RULE, CheckAll, Provider, Setting, no_faults
from hooks.pipelines.state import ConditionStatus


@dataclass(frozen=True, slots=True)
class Judging:
    """A rule that is looked at: everything it may look at. ``configuration`` is resolved, ``artifacts`` are its inputs.

    ``began_at`` is when its condition was first asked, ``looked_for`` the moment it had asked to be looked at again (None:
    this is the first look), ``settled_at`` when the stage before it succeeded (on success: when this one's actions had).
    """

    parts: Parts
    pipeline: str
    execution_id: int
    definition_id: int
    slot: Slot
    rule: RuleDefinition
    configuration: Mapping[str, str]
    source: PinnedVersion
    now: datetime
    began_at: datetime
    settled_at: datetime
    looked_for: datetime | None = None
    artifacts: Mapping[str, Handed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a rule stands. In progress it is looked at again at ``look_at``, or ends by ``build_id``."""

    status: ConditionStatus
    summary: str = ""
    look_at: datetime | None = None
    build_id: str | None = None


def met(summary: str) -> Verdict:
    """The rule is met."""
    return Verdict(ConditionStatus.SUCCEEDED, summary)


def not_met(summary: str) -> Verdict:
    """The rule is not met."""
    return Verdict(ConditionStatus.FAILED, summary)


def unjudged(summary: str) -> Verdict:
    """The rule could not be judged: no answer."""
    return Verdict(ConditionStatus.ERRORED, summary)


def wait_until(moment: datetime, summary: str) -> Verdict:
    """The rule is looked at again at ``moment``."""
    return Verdict(ConditionStatus.IN_PROGRESS, summary, moment)


@dataclass(frozen=True, slots=True)
class RuleKind:
    """A provider with what judges its rules, and the time they have if their definition says none.

    ``judge`` runs in the transaction that asks, and again at the moment it has asked for; twice is harmless. What it raises
    as NotFound, Conflict, Invalid or Denied leaves the rule unjudged (``Errored``). ``is_momentary``: what it has found
    holds for that moment, and is looked at once more when all other rules are met.
    """

    provider: Provider
    judge: Callable[[Session, Judging], Verdict]
    is_momentary: bool = False
    default_minutes: int = 7 * 24 * 60


def rule_provider(
    owner: str,
    name: str,
    settings: tuple[Setting, ...],
    inputs: tuple[int, int] = (0, 0),
    check_all: CheckAll = no_faults,
) -> Provider:
    """The declaration of a rule: it makes no artifacts and no variables."""
    return Provider(RULE, owner, name, settings, inputs=inputs, outputs=(0, 0), has_timeout=True, check_all=check_all)


def check_whole(low: int, high: int) -> Callable[[str], str | None]:
    """The check of a whole number within bounds, both included."""

    def check(value: str) -> str | None:
        is_whole = value.isascii() and value.isdecimal() and len(value) <= 9
        return None if is_whole and low <= int(value) <= high else f"{value!r} is no whole number from {low} to {high}"

    return check
