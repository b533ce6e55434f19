"""The setting ``Packages`` of a promotion: which versions it names. Pure."""

from __future__ import annotations

import re

from registry.errors import Invalid

SETTING = "Packages"
SOURCE = "source"
_PUBLISHED = re.compile(r"published-by:([A-Za-z0-9.@_-]{1,100})/([A-Za-z0-9.@_-]{1,100})\Z")


def parse_packages(value: str) -> tuple[tuple[str, str] | None, ...]:
    """What ``Packages`` names: None for the pinned version, (stage, action) for what that build published.

    Raises Invalid.
    """
    found: list[tuple[str, str] | None] = []
    for word in (each.strip() for each in value.split(",")):
        match = _PUBLISHED.match(word)
        if match is None and word != SOURCE:
            raise Invalid(f"{word[:80]!a} is neither {SOURCE!r} nor published-by:STAGE/ACTION")
        found.append((match[1], match[2]) if match is not None else None)
    return tuple(dict.fromkeys(found))


def check_packages(value: str) -> str | None:
    """What is wrong with a value of ``Packages``, or None."""
    try:
        parse_packages(value)
    except Invalid as error:
        return error.rule
    return None
