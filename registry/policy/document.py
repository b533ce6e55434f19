"""Policy documents: IAM's JSON, read strictly, all faults told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from registry.errors import Invalid
from registry.policy import actions, conditions, places
from registry.policy.conditions import Condition
from registry.policy.wildcards import matches

VERSIONS = ("2012-10-17", "2008-10-17")
MOST_STATEMENTS = 100
LONGEST_PATTERN = 512
_FIELDS = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
_SID = re.compile(r"[A-Za-z0-9 _-]{0,100}\Z")
_PRINCIPAL = re.compile(r"(?:arn:[a-z-]+:iam::\d*:)?((?:user|group)/[a-z0-9][a-z0-9._-]{0,62})\Z")
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What documents of one kind may name: principals (group 1 of a match is the name), and kinds of resources."""

    principal: re.Pattern[str]
    principals_in_words: str
    kinds: tuple[str, ...]


OF_PLACES = Dialect(_PRINCIPAL, "user/NAME, group/NAME", places.KINDS)
OF_SECRETS = Dialect(
    re.compile(r"(?:arn:[a-z-]+:codebuild:[a-z0-9-]*:\d*:)?(project/[A-Za-z0-9.@_-]{1,100})\Z"),
    "project/NAME",
    ("secret", "parameter"),
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Patterns, or with ``is_negated`` everything but them (``NotAction``, ``NotResource``, ``NotPrincipal``)."""

    patterns: tuple[str, ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``principals`` are ``user/NAME``, ``group/NAME`` and ``*``; actions are in lower case."""

    sid: str
    allows: bool
    principals: Terms
    actions: Terms
    resources: Terms
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A policy that was read. ``principals`` are all accounts and groups it names."""

    statements: tuple[Statement, ...]

    @property
    def principals(self) -> frozenset[str]:
        """All accounts and groups that are named (``user/NAME``, ``group/NAME``)."""
        return frozenset(name for each in self.statements for name in each.principals.patterns if name != EVERYBODY)


def parse(value: Any, dialect: Dialect = OF_PLACES) -> Document:
    """Read a document (a JSON value). Raises Invalid with every fault there is."""
    faults: list[str] = []
    if not isinstance(value, dict):
        raise Invalid("a policy is a JSON object with Version and Statement")
    faults += [f"unknown field {name[:60]!r}" for name in value if name not in {"Version", "Id", "Statement"}]
    if value.get("Version", VERSIONS[0]) not in VERSIONS:
        faults.append(f"Version must be {VERSIONS[0]}")
    given = value.get("Statement")
    listed = given if isinstance(given, list) else [given]
    if given is None or not listed:
        faults.append("Statement is missing")
        listed = []
    if len(listed) > MOST_STATEMENTS:
        raise Invalid(f"a policy has at most {MOST_STATEMENTS} statements")
    statements = [_Reader(number, entry, faults, dialect).read() for number, entry in enumerate(listed, 1)]
    named = [each.sid for each in statements if each is not None and each.sid]
    faults += [f"Sid {sid!r} is there twice" for sid in sorted({sid for sid in named if named.count(sid) > 1})]
    if faults:
        raise Invalid("; ".join(faults[:50]))
    return Document(tuple(each for each in statements if each is not None))


class _Reader:
    """Reads one statement and notes its faults."""

    def __init__(self, number: int, value: Any, faults: list[str], dialect: Dialect) -> None:
        self._dialect = dialect
        self._value = value
        self._faults = faults
        self._place = f"statement {number}"

    def _fault(self, text: str) -> None:
        self._faults.append(f"{self._place}: {text}")

    def read(self) -> Statement | None:
        """The statement, or None with its faults noted."""
        before = len(self._faults)
        if not isinstance(self._value, dict):
            self._fault("must be an object")
            return None
        sid = self._value.get("Sid", "")
        if not isinstance(sid, str) or not _SID.match(sid):
            self._fault("Sid is up to 100 letters, digits, blanks, '-' and '_'")
        elif sid:
            self._place = f"{self._place} ({sid})"
        for name in self._value:
            if name not in _FIELDS:
                self._fault(f"unknown field {name[:60]!r}")
        effect = self._value.get("Effect")
        if effect not in {"Allow", "Deny"}:
            self._fault("Effect must be Allow or Deny")
        principals = self._principals(is_allow=effect == "Allow")
        acts, resources = self._terms("Action", self._action), self._terms("Resource", self._resource)
        found = tuple(self._conditions())
        if len(self._faults) > before:
            return None
        return Statement(str(sid), effect == "Allow", principals, acts, resources, found)

    def _terms(self, name: str, check: Any) -> Terms:
        given = [word for word in (name, f"Not{name}") if word in self._value]
        if len(given) != 1:
            self._fault(f"needs either {name} or Not{name}")
            return Terms(())
        checked = tuple(check(entry) for entry in self._texts(given[0], self._value[given[0]]))
        return Terms(checked, given[0] != name)

    def _texts(self, name: str, value: Any) -> list[str]:
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(entry, str) and 0 < len(entry) <= LONGEST_PATTERN for entry in listed):
            self._fault(f"{name} must be a text or a list of texts, each of 1 to {LONGEST_PATTERN} characters")
            return []
        return listed

    def _action(self, text: str) -> str:
        pattern = text.lower()
        if not any(matches(pattern, name.lower()) for name in actions.CATALOGUE):
            self._fault(f"no action is called {text[:80]!r}")
        return pattern

    def _resource(self, text: str) -> str:
        pattern = places.short(text)
        kinds = self._dialect.kinds
        if pattern.startswith("secret:") and "secret" in kinds:
            pattern = pattern.replace(":", "/", 1)  # ARNs of secrets have a colon there
        kind = pattern.partition("/")[0]
        if not any(character in kind for character in "*?") and kind not in kinds:
            self._fault(f"{text[:80]!r} is no resource; they begin with {', '.join(kinds)} (or are '*')")
        return pattern

    def _principals(self, *, is_allow: bool) -> Terms:
        given = [name for name in ("Principal", "NotPrincipal") if name in self._value]
        if len(given) != 1:
            self._fault("needs either Principal or NotPrincipal")
            return Terms(())
        if given[0] == "NotPrincipal" and is_allow:
            self._fault("NotPrincipal with Allow would let in everybody else; name who may instead")
        value = self._value[given[0]]
        if isinstance(value, dict):
            if set(value) != {"AWS"}:
                self._fault(f"{given[0]} knows accounts and groups only (a text, a list, or the same under 'AWS')")
                return Terms(())
            value = value["AWS"]
        return Terms(tuple(map(self._principal, self._texts(given[0], value))), given[0] == "NotPrincipal")

    def _principal(self, text: str) -> str:
        if text == EVERYBODY:
            return text
        found = self._dialect.principal.match(text)
        if found is None:
            self._fault(f"{text[:100]!r} is no principal; write {self._dialect.principals_in_words} or '*'")
            return text
        return found[1]

    def _conditions(self) -> Iterator[Condition]:
        blocks = self._value.get("Condition", {})
        if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
            self._fault("Condition must be an object of operators, each an object of keys")
            return
        for operator, block in blocks.items():
            for key, value in block.items():
                try:
                    yield conditions.parse(operator, key, value if isinstance(value, list) else [value])
                except Invalid as error:
                    self._fault(f"Condition: {error}")
