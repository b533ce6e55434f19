"""How much of its variables a build exports: as much as a pipeline's action may put out (CodePipeline's quotas)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MOST_BYTES = 122_880
"""Of all names and values together, in UTF-8."""
MOST_VARIABLES = 1000
_MOST_NAME_CHARACTERS = 255
_MOST_CHARACTERS = 10_000


def bounded(values: Mapping[str, str], warn: Callable[[str], object]) -> dict[str, str]:
    """The first of ``values`` that there is room for, each cut to 10,000 characters; ``warn`` is told of what is left out."""
    kept: dict[str, str] = {}
    left_out: list[str] = []
    size = 0
    for name, value in values.items():
        cut = value[:_MOST_CHARACTERS]
        needed = len(name.encode(errors="replace")) + len(cut.encode(errors="replace"))
        fits = size + needed <= MOST_BYTES and len(kept) < MOST_VARIABLES and len(name) <= _MOST_NAME_CHARACTERS
        if fits:
            kept[name] = cut
            size += needed
        else:
            left_out.append(name)
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        warn(
            f"Warning: {left_out[0][:_MOST_NAME_CHARACTERS]}{more} not exported: a build exports at most {MOST_VARIABLES}"
            f" variables and {MOST_BYTES} bytes"
        )
    return kept
