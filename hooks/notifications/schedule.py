"""When a delivery that failed is tried again. Pure: the caller hands in the random number and the moment."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60.0, 3600.0
DELAYS_SECONDS = (
    0.0,
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""The wait before each attempt, counted from the one before it (Standard Webhooks, "Retry schedule")."""
LONGEST_WAIT_SECONDS = 24 * _HOUR
_JITTER = 0.2


def wait_seconds(attempts_made: int, jitter: float) -> float | None:
    """How long after the ``attempts_made``-th attempt the next one is made; None when it was the last.

    ``jitter`` (0 to 1) adds up to a fifth, so that what failed together does not come back together.
    """
    if attempts_made >= len(DELAYS_SECONDS):
        return None
    return DELAYS_SECONDS[attempts_made] * (1.0 + _JITTER * jitter)


def retry_after_seconds(value: str | None, now: datetime) -> float:
    """What a Retry-After field asks for (RFC 9110 section 10.2.3), at most a day; 0 for none and for nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT_SECONDS)
