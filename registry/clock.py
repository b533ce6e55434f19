"""The wall clock as a value that is handed around, so that tests can set it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment, timezone-aware, UTC."""


def system_clock() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)
