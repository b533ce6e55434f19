"""Why a decision came out as it did: every rule that stands over the place, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.policy.conditions import Facts
from registry.policy.evaluate import Decision, Question, Rule, concerns, holds, speaks_of


@dataclass(frozen=True, slots=True)
class Looked:
    """A rule that was looked at: where it stands, its Sid (empty for roles), Allow or Deny, and what became of it."""

    source: str
    sid: str
    effect: str
    verdict: str


def looked_at(rules: Sequence[Rule], question: Question, facts: Facts, decision: Decision) -> tuple[Looked, ...]:
    """All rules over the place, each with its verdict."""
    return tuple(
        Looked(
            rule.source,
            rule.statement.sid,
            "Allow" if rule.statement.allows else "Deny",
            _verdict(rule, question, facts, decision),
        )
        for rule in rules
    )


def _verdict(rule: Rule, question: Question, facts: Facts, decision: Decision) -> str:
    statement = rule.statement
    if not concerns(rule, question):
        is_meant = speaks_of(statement, question.principals, question.action)
        return "speaks of another place" if is_meant else "speaks of somebody else or of another action"
    if not holds(rule, facts):
        return "its conditions do not hold"
    return "decided" if rule is decision.by else "applies"
