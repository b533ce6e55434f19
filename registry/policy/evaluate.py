"""May this be done? An explicit Deny wins, then any Allow, else no. The one place where policies are decided by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry.policy.actions import KINDS_OF_READING, READING
from registry.policy.conditions import Facts
from registry.policy.document import EVERYBODY, Statement, Terms
from registry.policy.places import Place
from registry.policy.wildcards import matches, reaches


class Outcome(StrEnum):
    """IAM's words for how a decision came about."""

    ALLOW = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement and where it stands (``policy of repository default/dev``, ``role publisher of group/ops``)."""

    statement: Statement
    source: str


@dataclass(frozen=True, slots=True)
class Question:
    """Who (the caller and their groups; empty for an anonymous caller) wants to do what (lower case) where."""

    principals: frozenset[str]
    action: str
    place: Place


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and the statement that decided, where one did. ``note`` names what decided where none did."""

    outcome: Outcome
    by: Rule | None = None
    note: str = ""

    @property
    def allowed(self) -> bool:
        """Whether it may be done."""
        return self.outcome is Outcome.ALLOW


_NOTHING = Decision(Outcome.IMPLICIT_DENY)


def concerns(rule: Rule, question: Question) -> bool:
    """Whether a statement speaks of who, what and where; its conditions are another matter."""
    statement = rule.statement
    return any(
        speaks_of(statement, question.principals, action) for action in _words(statement, question)
    ) and _names_place(statement, question.place)


def _words(statement: Statement, question: Question) -> tuple[str, ...]:
    """The actions by which a statement may speak of what is asked: of a kind of reading also by reading itself.

    Who may read a repository or package may list and describe it, and to whom reading is denied nothing of it is told.
    What a statement leaves out (``NotAction``) is what it names, and no more.
    """
    if not question.place.repository or statement.actions.is_negated or question.action not in KINDS_OF_READING:
        return (question.action,)
    return (question.action, READING)


def speaks_of(statement: Statement, principals: frozenset[str], action: str) -> bool:
    """Whether a statement speaks of who and what (lower case), wherever that is."""
    named = any(matches(pattern, action) for pattern in statement.actions.patterns)
    return named != statement.actions.is_negated and _names_caller(statement, principals)


def holds(rule: Rule, facts: Facts) -> bool:
    """Whether all conditions of a statement fit the request."""
    return all(condition.holds(facts) for condition in rule.statement.conditions)


def select(rules: Iterable[Rule], question: Question) -> tuple[Rule, ...]:
    """The rules that concern the question, those that deny first: what ``decide`` needs, and worth remembering."""
    return tuple(sorted((rule for rule in rules if concerns(rule, question)), key=lambda rule: rule.statement.allows))


def decide(selected: Sequence[Rule], facts: Facts) -> Decision:
    """Decide by the rules that ``select`` found."""
    for rule in selected:
        if holds(rule, facts):
            return Decision(Outcome.ALLOW if rule.statement.allows else Outcome.EXPLICIT_DENY, rule)
    return _NOTHING


def _names_caller(statement: Statement, principals: frozenset[str]) -> bool:
    names = statement.principals
    if names.is_negated:
        return not _among(names, principals)
    if EVERYBODY in names.patterns:
        # Everybody may be refused, strangers included; but what opens a repository to strangers is its own setting.
        return bool(principals) or not statement.allows
    return _among(names, principals)


def _among(names: Terms, principals: frozenset[str]) -> bool:
    return EVERYBODY in names.patterns or not principals.isdisjoint(names.patterns)


def _names_place(statement: Statement, place: Place) -> bool:
    terms = statement.resources
    found = any(matches(pattern, resource) for pattern in terms.patterns for resource in place.resources)
    if not found and place.is_open and statement.allows and not terms.is_negated:
        # The package is named later, and decided on then: until then what might be allowed goes on.
        found = any(reaches(pattern, place.open_prefix) for pattern in terms.patterns)
    return found != terms.is_negated
