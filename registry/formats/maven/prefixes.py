"""``.meta/prefixes.txt``: which groups a repository may have, so that clients ask it for no other (Maven's resolver 2).

A client believes it strictly: an artifact that no line covers is never asked for. So the lines are those of everything
that can be had, or there is no document at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.format import BadIndex

HEADER = "## repository-prefixes/2.0"
DEPTH = 2
"""How many parts of a group a line has: enough to tell groups apart, few enough to stay true when projects are added."""

_MOST_LINES = 200_000


def own_prefixes(groups: Iterable[str]) -> set[str]:
    """The lines that cover ``groups``."""
    return {"/" + "/".join(group.split(".")[:DEPTH]) for group in groups}


def read_prefixes(body: bytes) -> frozenset[str] | None:
    """The lines of an upstream's document; None when it says that it has none. Raises BadIndex."""
    try:
        lines = body.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadIndex("it is not text") from error
    if not lines or lines[0].strip() != HEADER or len(lines) > _MOST_LINES:
        raise BadIndex(f"its first line is not {HEADER!r}, or it has more than {_MOST_LINES} lines")
    said = [line.strip() for line in lines[1:]]
    if any(line.startswith("@") and "unsupported" in line for line in said):
        return None
    return frozenset(_as_line(line) for line in said if line and not line.startswith(("#", "@")))


def render_prefixes(lines: Iterable[str]) -> bytes:
    """The document."""
    return "\n".join([HEADER, *sorted(set(lines)), ""]).encode()


def _as_line(line: str) -> str:
    return "/" + line.strip("/")
