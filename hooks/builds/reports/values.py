"""Texts of reports as numbers, forgivingly: a duration that cannot be read is 0, and no reason to refuse the file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hooks.builds.reports.model import SECOND_NS

_LONGEST_NS = 366 * 24 * 3600 * SECOND_NS
_CLOCK = re.compile(r"(?:(\d{1,5})\.)?(\d{1,5}):(\d{1,2}):(\d{1,2}(?:\.\d{1,9})?)\Z")


def seconds_to_ns(text: str) -> int:
    """``0.25``, ``1,234.5`` (thousands), ``0,25`` (a decimal comma), ``1e-05`` seconds → nanoseconds."""
    text = text.strip()[:40].replace("\u00a0", "").replace(" ", "")
    comma, point = text.rfind(","), text.rfind(".")
    if comma >= 0 and point >= 0:
        text = text.replace("," if comma < point else ".", "")
    elif text.count(",") > 1:
        text = text.replace(",", "")
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return 0
    return _bounded(value * SECOND_NS)


def milliseconds_to_ns(text: str) -> int:
    """Milliseconds → nanoseconds."""
    return min(_LONGEST_NS, seconds_to_ns(text) // 1000)


def clock_to_ns(text: str) -> int:
    """.NET's ``[days.]hours:minutes:seconds[.fraction]`` → nanoseconds."""
    match = _CLOCK.match(text.strip())
    if match is None:
        return 0
    days, hours, minutes = (int(part or 0) for part in match.group(1, 2, 3))
    return _bounded(((days * 24 + hours) * 60 + minutes) * 60 * SECOND_NS + float(match[4]) * SECOND_NS)


def nanoseconds(value: object) -> int:
    """A JSON number of nanoseconds; anything else is 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _bounded(value) if is_number else 0  # type: ignore[arg-type]


def count(text: str) -> int:
    """A whole number that is not negative; anything else is 0."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


def lines(parts: Iterable[str]) -> str:
    """The texts that are not empty, each once, on lines of their own."""
    return "\n".join(dict.fromkeys(part.strip("\r\n") for part in parts if part.strip()))


def split_method(full_name: str) -> tuple[str, str]:
    """``Space.Class.Method("a.b")`` → class and method; parameters may hold dots."""
    head, bracket, rest = full_name.partition("(")
    owner, _, method = head.rpartition(".")
    return owner, method + bracket + rest


def _bounded(value: float) -> int:
    # NaN fails both comparisons.
    return round(value) if 0 < value < _LONGEST_NS else (_LONGEST_NS if value >= _LONGEST_NS else 0)
