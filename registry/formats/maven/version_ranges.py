"""Ranges of versions: ``[1.0,2.0)``, ``(,1.0],[1.2,)`` and ``[1.5]``, as Maven's ``VersionRange``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.formats.maven.version_order import compare

MOST_CHARACTERS = 2_000
_INTERVAL = re.compile(r"\s*([\[(])([^\[\](),]*)(?:(,)([^\[\](),]*))?([\])])\s*(,|\Z)")


@dataclass(frozen=True, slots=True)
class _Interval:
    """From ``low`` to ``high``; "" for no bound."""

    low: str
    high: str
    has_low: bool
    has_high: bool

    def __contains__(self, version: str) -> bool:
        below = compare(version, self.low) if self.low else 1
        above = compare(self.high, version) if self.high else 1
        return (below > 0 or (below == 0 and self.has_low)) and (above > 0 or (above == 0 and self.has_high))


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Some intervals. ``version in range`` says whether one of them holds it."""

    intervals: tuple[_Interval, ...]

    def __contains__(self, version: str) -> bool:
        return any(version in each for each in self.intervals)


def is_range(text: str) -> bool:
    """Whether a version as it is written is a range; everything else is a wish that the nearest one wins."""
    return text.lstrip()[:1] in {"[", "("}


def parse_range(text: str) -> VersionRange:
    """What ``text`` says. Raises ValueError for what is no range."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a range of versions has {len(text)} characters, at most {MOST_CHARACTERS} are read")
    found, at = [], 0
    while at < len(text):
        interval = _INTERVAL.match(text, at)
        if interval is None:
            raise ValueError(f"{text[:100]!a} is no range of versions")
        opening, low, comma, high, closing, _ = interval.groups()
        low, high = low.strip(), low.strip() if comma is None else high.strip()
        if comma is None and (opening, closing, bool(low)) != ("[", "]", True):
            raise ValueError(f"{text[:100]!a} is no range of versions")
        found.append(_Interval(low, high, opening == "[", closing == "]"))
        at = interval.end()
    if not found:
        raise ValueError("a range of versions is empty")
    return VersionRange(tuple(found))
