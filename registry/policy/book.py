"""All rules that hold at one moment, as a request asks them: compiled once per change, remembered per question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registry.policy.actions import POLICY_ACTIONS
from registry.policy.conditions import Facts
from registry.policy.evaluate import Decision, Outcome, Question, Rule, decide, select, speaks_of
from registry.policy.places import Place

MOST_REMEMBERED = 20_000

_Key = tuple[int | None, str, Place]


@dataclass(frozen=True)
class Book:
    """The rules by where they stand: ``("", "")`` the server, ``(domain, "")`` a domain, else a repository.

    ``groups`` are the groups of each account that is in one, as principals. Principals carry row numbers
    (``user#7``), so that an account made anew under an old name is somebody else.
    """

    revision: int
    rules: Mapping[tuple[str, str], Sequence[Rule]] = field(default_factory=dict)
    groups: Mapping[int, frozenset[str]] = field(default_factory=dict)
    services: frozenset[int] = frozenset()
    _remembered: dict[_Key, tuple[Rule, ...]] = field(default_factory=dict, compare=False, repr=False)

    def principals(self, account_id: int | None) -> frozenset[str]:
        """An account and its groups, as rules name them; empty for an anonymous caller."""
        if account_id is None:
            return frozenset()
        return self.groups.get(account_id, frozenset()) | {f"user#{account_id}"}

    def standing_at(self, place: Place) -> list[Rule]:
        """The rules that stand over a place, whomever they concern."""
        layers = {("", ""), (place.domain, ""), (place.domain, place.repository)}
        return [rule for at in sorted(layers) for rule in self.rules.get(at, ())]

    def selected(self, account_id: int | None, action: str, place: Place) -> tuple[Rule, ...]:
        """The rules that concern this question."""
        key = (account_id, action, place)
        found = self._remembered.get(key)
        if found is None:
            question = Question(self.principals(account_id), action.lower(), place)
            found = select(self.standing_at(place), question)
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()  # names are strangers' to choose
            self._remembered[key] = found
        return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How one request stands before the book: whose it is, and what is known of it."""

    book: Book
    account_id: int | None
    facts: Facts

    def somewhere(self, action: str) -> bool:
        """Whether some rule allows the caller ``action``, wherever that is."""
        principals = self.book.principals(self.account_id)
        return any(
            rule.statement.allows and speaks_of(rule.statement, principals, action.lower())
            for rules in self.book.rules.values()
            for rule in rules
        )

    def decide(self, action: str, place: Place, *, own: bool, is_root: bool = False) -> Decision:
        """Decide. ``own``: the account's own words allow it; ``is_root``: it may do everything on the server.

        An explicit deny holds for everybody, but that no statement keeps a server's administrator from policies
        themselves: a mistake in one must not lock the server's owner out.
        """
        decision = decide(self.book.selected(self.account_id, action, place), self.facts)
        if decision.outcome is Outcome.EXPLICIT_DENY:
            if is_root and action in POLICY_ACTIONS:
                return Decision(Outcome.ALLOW, note="a server's administrator is never locked out of policies")
            return decision
        return Decision(Outcome.ALLOW, note="the account's own rights") if own else decision
