"""The wildcards of ``permissions``: ``*`` for any run of characters, nothing else. Pure."""

from __future__ import annotations


def is_like(name: str, pattern: str) -> bool:
    """Whether ``pattern`` matches all of ``name``; the time is at most the product of their lengths."""
    at = in_pattern = 0
    star, resume = -1, 0
    while at < len(name):
        if in_pattern < len(pattern) and pattern[in_pattern] == "*":
            star, resume = in_pattern, at
            in_pattern += 1
        elif in_pattern < len(pattern) and pattern[in_pattern] == name[at]:
            at += 1
            in_pattern += 1
        elif star >= 0:
            resume += 1
            at, in_pattern = resume, star + 1
        else:
            return False
    return not pattern[in_pattern:].strip("*")
