"""Patterns with ``*`` (any characters, also none, also ``/``) and ``?`` (one): IAM's, matched in bounded time."""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern. At most ``len(pattern) * len(text)`` steps, whatever is in them."""
    at = mark = 0
    star = -1
    for_text = 0
    while for_text < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, for_text
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[for_text]}:
            at += 1
            for_text += 1
        elif star >= 0:
            mark += 1
            at, for_text = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def reaches(pattern: str, prefix: str) -> bool:
    """Whether some text that begins with ``prefix`` and goes on fits the pattern."""
    at = {0}
    for character in prefix:
        at = _through_stars(pattern, at)
        at = {
            place if pattern[place] == "*" else place + 1
            for place in at
            if place < len(pattern) and pattern[place] in {"*", "?", character}
        }
        if not at:
            return False
    return any(place < len(pattern) for place in at)


def _through_stars(pattern: str, at: set[int]) -> set[int]:
    found = set(at)
    for start in at:
        place = start
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            found.add(place)
    return found
