"""The patterns of triggers (CodePipeline "Add trigger with code push or pull request event types"). Pure.

``*`` and ``?`` stay within a part of a path, ``**`` goes across, and ``**/`` may stand for nothing. They cover the whole
value. No regular expression is made of them: a text is walked once, with all places where the pattern may be by then.
"""

from __future__ import annotations

_ONE, _PART, _ALL, _FOLDERS = "?", "*", "**", "**/"


def glob_fault(pattern: str) -> str:
    """What is wrong with a pattern; empty if nothing is."""
    if not 1 <= len(pattern) <= 255 or not pattern.isprintable():
        return "a pattern has 1 to 255 printable characters"
    if any(char in pattern for char in "[]{}\\"):
        return f"{pattern!r}: a pattern knows '*', '**' and '?'"
    return ""


def is_covered(pattern: str, text: str) -> bool:
    """Whether ``pattern`` covers the whole of ``text``. Time: at most the product of their lengths."""
    parts = _parts(pattern)
    places = _onward(parts, {0})
    for char in text:
        following = set()
        for place in places:
            part = parts[place] if place < len(parts) else ""
            if part in {_ALL, _FOLDERS}:
                following.add(place)
                if part == _FOLDERS and char == "/":
                    following.add(place + 1)
            elif part == _PART and char != "/":
                following.add(place)
            elif (part == _ONE and char != "/") or (len(part) == 2 and part[1] == char):
                following.add(place + 1)
        places = _onward(parts, following)
        if not places:
            return False
    return len(parts) in places


def _parts(pattern: str) -> list[str]:
    """The wildcards, and each other character behind an ``=``."""
    found, at = [], 0
    while at < len(pattern):
        word = next((each for each in (_FOLDERS, _ALL, _PART, _ONE) if pattern.startswith(each, at)), "")
        # ``a**/b`` means what it says: only at the beginning of a part do folders stand for nothing.
        if word == _FOLDERS and at > 0 and pattern[at - 1] != "/":
            word = _ALL
        found.append(word or f"={pattern[at]}")
        at += len(word) or 1
    return found


def _onward(parts: list[str], places: set[int]) -> set[int]:
    """The places, and those behind wildcards that stand for nothing."""
    found = set(places)
    for place in sorted(places):
        at = place
        while at < len(parts) and parts[at] in {_PART, _ALL, _FOLDERS}:
            at += 1
            found.add(at)
    return found
