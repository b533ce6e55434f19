"""Package groups' patterns in CodeArtifact's grammar, and the tree they make. Pure: texts in, texts out.

A package's path is ``/format/namespace/name``, the namespace empty where there is none (``/format//name``). A pattern is
the beginning of such a path and a suffix: ``$`` after a whole path, ``~`` after a word for all that begins with it, and
``*`` behind a slash (or behind another character that belongs to no word) for everything that follows.

Where several patterns match, the most specific one counts. It counts also for names that are only *like* it (another
case, other dashes, a digit that looks like a letter): a weak match, for which everything is blocked, so that a variation
of a guarded name does not fall through to a more general pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from registry.errors import Invalid
from registry.names import PackageKey

LONGEST_PATTERN = 520
ROOT = "/*"
_REMEMBERED = 20_000
_SEPARATORS = re.compile(r"[-._]+")
# What one types or reads for another: a small part of Unicode's list, as far as the formats' alphabets go.
_LOOKS = str.maketrans("1|0\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456\u0455\u0458", "lloaeopcxyisj")


class Restriction(StrEnum):
    """How versions come into a repository."""

    PUBLISH = "PUBLISH"
    INTERNAL_UPSTREAM = "INTERNAL_UPSTREAM"
    EXTERNAL_UPSTREAM = "EXTERNAL_UPSTREAM"


class Mode(StrEnum):
    """What a group says of one way in."""

    ALLOW = "ALLOW"
    ALLOW_SPECIFIC_REPOSITORIES = "ALLOW_SPECIFIC_REPOSITORIES"
    BLOCK = "BLOCK"
    INHERIT = "INHERIT"


class _Kind(IntEnum):
    """By how much a pattern says; a higher one is more specific."""

    EVERYTHING = 0
    FORMAT = 1
    NAMESPACE_PREFIX = 2
    NAMESPACE = 3
    NAME_PREFIX = 4
    NAME = 5


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, taken apart: ``literal`` is the last part (a prefix or a name), the parts before it are whole."""

    text: str
    kind: _Kind
    format: str = ""
    namespace: str = ""
    literal: str = ""
    ends_at_word: bool = False

    @property
    def specificity(self) -> tuple[int, int]:
        """Compares patterns that match the same package: the greater is the more specific."""
        return self.kind, len(self.literal)

    def match(self, key: PackageKey) -> bool | None:
        """True for a strong match, False for a weak one (a variation), None for none."""
        if self.kind is _Kind.EVERYTHING:
            return True
        if self.format != key.format:
            return None
        if self.kind is _Kind.FORMAT:
            return True
        if self.kind is _Kind.NAMESPACE_PREFIX:
            return self._begins(key.namespace)
        of_namespace = _same(self.namespace, key.namespace)
        if of_namespace is None or self.kind is _Kind.NAMESPACE:
            return of_namespace
        of_name = self._begins(key.name) if self.kind is _Kind.NAME_PREFIX else _same(self.literal, key.name)
        return None if of_name is None else of_namespace and of_name

    def covers(self, other: Pattern) -> bool:
        """Whether every package that ``other`` matches strongly is matched by this one as well, and ``other`` is another."""
        if self.text == other.text or self.kind > other.kind:
            return False
        if self.kind is _Kind.EVERYTHING:
            return True
        if self.format != other.format:
            return False
        if self.kind is _Kind.FORMAT:
            return True
        if self.kind is _Kind.NAMESPACE_PREFIX:
            deeper = other.literal if other.kind is _Kind.NAMESPACE_PREFIX else other.namespace
            return self._begins(deeper) is True
        if other.kind <= _Kind.NAMESPACE or self.namespace != other.namespace:
            return False
        return self.kind is _Kind.NAMESPACE or (self.kind is _Kind.NAME_PREFIX and self._begins(other.literal) is True)

    def _begins(self, text: str) -> bool | None:
        if self._is_prefix(self.literal, text):
            return True
        return False if self._is_prefix(normalised(self.literal), normalised(text)) else None

    def _is_prefix(self, prefix: str, text: str) -> bool:
        if not text.startswith(prefix):
            return False
        return not self.ends_at_word or len(text) == len(prefix) or not _is_word(text[len(prefix)])


def _same(wanted: str, text: str) -> bool | None:
    if wanted == text:
        return True
    return False if normalised(wanted) == normalised(text) else None


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def normalised(text: str) -> str:
    """What is left when variations do not count: case, which separators and how many, and characters that look alike."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_LOOKS)
    return _SEPARATORS.sub(".", folded)


def parse(text: str) -> Pattern:
    """Read a pattern. Raises Invalid saying what is wrong."""
    if not 2 <= len(text) <= LONGEST_PATTERN or not text.startswith("/"):
        raise Invalid(f"a package group's pattern begins with '/' and has 2 to {LONGEST_PATTERN} characters")
    if any(unicodedata.category(character)[0] in "CZ" for character in text):
        raise Invalid("a package group's pattern holds no blanks and no control characters")
    if text == ROOT:
        return Pattern(text, _Kind.EVERYTHING)
    suffix, parts = text[-1], text[1:-1].split("/")
    if suffix not in "$~*" or len(parts) > 3 or any(set(part) & set("$~*") for part in parts):
        raise Invalid(
            f"{text!a}: a pattern is /*, /format/*, /format/namespace~, /format/namespace/*, /format/namespace/name~ or "
            "/format/namespace/name$; the namespace is empty where a format has none (/format//name$)"
        )
    if not parts[0] or len(parts) == 1:
        raise Invalid(f"{text!a}: a whole format is written /format/*")
    return _parsed(text, suffix, parts)


def _parsed(text: str, suffix: str, parts: list[str]) -> Pattern:
    format_name, last = parts[0], parts[-1]
    if suffix == "$":
        if len(parts) != 3 or not last:
            raise Invalid(f"{text!a}: '$' stands behind a whole name: /format/namespace/name$")
        return Pattern(text, _Kind.NAME, format_name, parts[1], last)
    if last:
        is_word = _is_word(last[-1])
        if is_word != (suffix == "~"):
            right = "~" if is_word else "*"
            raise Invalid(f"{text!a}: behind {last[-1]!r} a pattern ends in '{right}', for all that begins like this")
        kind = _Kind.NAMESPACE_PREFIX if len(parts) == 2 else _Kind.NAME_PREFIX
        return Pattern(text, kind, format_name, parts[1] if len(parts) == 3 else "", last, is_word)
    if suffix == "~":
        raise Invalid(f"{text!a}: '~' stands behind a word; for everything write '*'")
    if len(parts) == 2:
        return Pattern(text, _Kind.FORMAT, format_name)
    return Pattern(text, _Kind.NAMESPACE, format_name, parts[1])


@dataclass(frozen=True, slots=True)
class Group:
    """A package group: ``modes`` by restriction, and the ids of the repositories of each list."""

    pattern: Pattern
    modes: Mapping[Restriction, Mode]
    repositories: Mapping[Restriction, frozenset[int]] = field(default_factory=dict)
    description: str = ""
    contact_info: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """A restriction as it counts for a group: never INHERIT; ``pattern`` is the group whose word it is."""

    mode: Mode
    pattern: str
    repositories: frozenset[int] = frozenset()

    def allows(self, repository_id: int) -> bool:
        """Whether versions may come into that repository in this way."""
        if self.mode is Mode.ALLOW_SPECIFIC_REPOSITORIES:
            return repository_id in self.repositories
        return self.mode is Mode.ALLOW


@dataclass(frozen=True, slots=True)
class Ruling:
    """What package groups say of one package: which group it belongs to, how closely, and what counts there."""

    pattern: str
    is_strong: bool
    restrictions: Mapping[Restriction, Effective]


OPEN_ROOT = Group(Pattern(ROOT, _Kind.EVERYTHING), dict.fromkeys(Restriction, Mode.ALLOW))


class GroupTree:
    """The package groups of a domain at one moment; the root is always there. Safe for many threads."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        known = {group.pattern.text: group for group in groups}
        root = known.setdefault(ROOT, OPEN_ROOT)
        self._groups = known
        self._parents = {text: self._find_parent(group.pattern) for text, group in known.items()}
        self._rulings: dict[PackageKey, Ruling] = {}
        self._of_root = Ruling(ROOT, True, self._effective(root))

    def groups(self) -> list[Group]:
        """All groups, each behind its parents, siblings by pattern."""
        found: list[Group] = []

        def visit(text: str) -> None:
            found.append(self._groups[text])
            for child in self.children(text):
                visit(child.pattern.text)

        visit(ROOT)
        return found

    def group(self, pattern: str) -> Group | None:
        """The group of that pattern."""
        return self._groups.get(pattern)

    def parent(self, pattern: str) -> str | None:
        """The pattern of the direct parent; None for the root."""
        return self._parents[pattern]

    def children(self, pattern: str) -> list[Group]:
        """The direct children, by pattern."""
        return [self._groups[text] for text in sorted(self._groups) if self._parents[text] == pattern]

    def effective(self, pattern: str) -> Mapping[Restriction, Effective]:
        """What counts for a group, with what it inherits."""
        return self._effective(self._groups[pattern])

    def ruling(self, key: PackageKey) -> Ruling:
        """What counts for a package, whether it is anywhere or not."""
        if len(self._groups) == 1:
            return self._of_root
        known = self._rulings.get(key)
        if known is None:
            known = self._rule(key)
            if len(self._rulings) >= _REMEMBERED:
                self._rulings.clear()
            self._rulings[key] = known
        return known

    def with_group(self, group: Group) -> GroupTree:
        """The tree as it would be with one group more."""
        return GroupTree([*self._groups.values(), group])

    def _rule(self, key: PackageKey) -> Ruling:
        matches = [
            (group.pattern.specificity, is_strong, text)
            for text, group in self._groups.items()
            if (is_strong := group.pattern.match(key)) is not None
        ]
        # Of two that say equally much, the one that is meant exactly.
        _, is_strong, text = max(matches)
        return Ruling(text, is_strong, self._effective(self._groups[text]))

    def _find_parent(self, pattern: Pattern) -> str | None:
        above = [group.pattern for group in self._groups.values() if group.pattern.covers(pattern)]
        return max(above, key=lambda each: each.specificity).text if above else None

    def _effective(self, group: Group) -> dict[Restriction, Effective]:
        return {restriction: self._counting(group, restriction) for restriction in Restriction}

    def _counting(self, group: Group, restriction: Restriction) -> Effective:
        at: Group = group
        while at.modes.get(restriction, Mode.INHERIT) is Mode.INHERIT:
            parent = self._parents[at.pattern.text]
            if parent is None:
                return Effective(Mode.ALLOW, ROOT)
            at = self._groups[parent]
        named = at.repositories.get(restriction, frozenset())
        return Effective(at.modes[restriction], at.pattern.text, named)
