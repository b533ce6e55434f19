"""A line over time as the figures of an SVG picture that needs neither script nor style attributes. Pure.

The picture is a stretched square of 100 by 100; words stand outside of it, in HTML, so that they are not stretched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_EDGE = 4.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A value in the picture; ``text`` says it in words."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """``line`` is the attribute ``points`` of a polyline; ``top`` and ``bottom`` are the values at the edges."""

    dots: tuple[Dot, ...]
    line: str
    top: float
    bottom: float


def draw(values: Sequence[tuple[float, str]], *, top: float | None = None) -> Chart:
    """The chart of (value, what it says) in order of time, from 0 up to ``top`` or the greatest value."""
    highest = max((value for value, _ in values), default=0.0) if top is None else top
    scale = (100 - 2 * _EDGE) / (highest or 1)
    step = (100 - 2 * _EDGE) / max(1, len(values) - 1)
    start = _EDGE if len(values) > 1 else 50.0
    dots = tuple(
        Dot(round(start + number * step, 2), round(100 - _EDGE - value * scale, 2), text)
        for number, (value, text) in enumerate(values)
    )
    return Chart(dots, " ".join(f"{dot.x},{dot.y}" for dot in dots), highest, 0.0)
