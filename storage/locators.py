"""Locators: the random names of bodies, which also say when they were made.

A locator has the shape of a ULID in lower case: ten characters of base 32 (Crockford's alphabet) for the milliseconds
since 1970, then sixteen for 80 random bits. The age of a body is read from its name because a modification time is
lost or renewed by every copy, restore and ``touch``, and a sweep that trusts it deletes what is new.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from storage.blobs import Locator
from storage.errors import Permanent

Clock = Callable[[], datetime]
"""Returns the present moment, timezone-aware, UTC."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26
_TIME_LENGTH = 10
_RANDOM_BITS = 80
_SHAPE = re.compile(r"[a-z0-9]{26}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def system_clock() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def new_locator(now: datetime) -> Locator:
    """A fresh locator that carries ``now`` (timezone-aware), cut to the millisecond."""
    milliseconds = (now - _EPOCH) // _MILLISECOND
    number = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return Locator("".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)))


def created_at(locator: Locator) -> datetime:
    """The moment a locator was made (UTC). Raises ValueError for a name that ``new_locator`` cannot have made."""
    if not _SHAPE.fullmatch(locator) or any(character not in _VALUES for character in locator):
        raise ValueError("not a locator")
    milliseconds = 0
    for character in locator[:_TIME_LENGTH]:
        milliseconds = milliseconds * 32 + _VALUES[character]
    try:
        return _EPOCH + milliseconds * _MILLISECOND
    except OverflowError as error:
        raise ValueError("not a locator: its time lies beyond the calendar") from error


def check_locator(locator: str) -> Locator:
    """``locator`` if it has the shape of one; raises Permanent otherwise.

    Every path and object key is made from what passes here, so that no text from outside can name a file.
    """
    if not _SHAPE.fullmatch(locator):
        raise Permanent(f"not a locator: {locator[:40]!r}")
    return Locator(locator)
