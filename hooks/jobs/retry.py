"""What becomes of an attempt that went wrong. Pure: the caller hands in the random number."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
ERROR_TEXT_LIMIT = 500


class Retry(Exception):
    """Raised by a handler: try again after ``after_seconds``. It counts as an attempt; ``reason`` becomes its error."""

    def __init__(self, after_seconds: float, reason: str = "the handler asked to be run again") -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


def delay_seconds(
    error: BaseException, *, tries_used: int, tries_allowed: int, jitter: float, first_seconds: float
) -> float | None:
    """How long to wait before the next attempt, or None when there is none left.

    ``tries_used`` includes the one that just failed with ``error``. The delay doubles from ``first_seconds`` up to
    ``LONGEST_DELAY_SECONDS``; ``jitter`` (0 to 1) takes up to half of it away, so that jobs which failed together
    (their upstream was down) do not come back together.
    """
    if tries_used >= tries_allowed:
        return None
    if isinstance(error, Retry):
        return max(0.0, error.after_seconds)
    # The exponent is bounded: 2.0 ** 2000 overflows.
    grown = min(first_seconds * 2.0 ** min(tries_used - 1, 32), LONGEST_DELAY_SECONDS)
    return grown * (1.0 - jitter / 2.0)


def one_line(error: BaseException) -> str:
    """``error`` as one printable line of at most ``ERROR_TEXT_LIMIT`` characters, for ``job.error``."""
    told = str(error) if isinstance(error, Retry) else f"{type(error).__name__}: {error}"
    printable = "".join(char if char.isprintable() else " " for char in told)
    line = " ".join(printable.split())
    return line if len(line) <= ERROR_TEXT_LIMIT else line[: ERROR_TEXT_LIMIT - 1] + "…"
