"""A plain text looked for in a log: which lines have it, in constant memory however long the log or a line is. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import Invalid

LONGEST_QUERY = 200
MOST_MATCHES = 500
AROUND_BYTES = 160
"""How much of a line is shown before and behind what was found in it."""
_PIECE_BYTES = 1024 * 1024

Read = Callable[[int, int], bytes]
"""At most so many bytes of the log from an offset on; none at its end."""


@dataclass(frozen=True, slots=True)
class LogMatch:
    """A line that has the text. ``offset`` is where the text is, ``line_offset`` where its line begins, in bytes.

    ``excerpt`` is the line, or the part of it around the text.
    """

    line: int
    line_offset: int
    offset: int
    excerpt: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look on: a byte, the number of the line it is in, and where that one begins."""

    offset: int = 0
    line: int = 1
    line_offset: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """Lines in order, and where to go on; None when the log has been looked through."""

    matches: tuple[LogMatch, ...]
    next: Place | None


def search(read: Read, query: str, *, ignores_case: bool, at: Place, limit: int) -> Found:
    """The lines that have ``query`` from ``at`` on, at most ``limit``. Case counts by ASCII letters only.

    Raises Invalid for a query that is empty, too long or of several lines.
    """
    needle = _compiled(query, ignores_case=ignores_case)
    looking = _Looking(needle, len(query.encode(errors="replace")) + AROUND_BYTES, at, limit)
    position = looking.begins_at
    while True:
        piece = read(position, _PIECE_BYTES)
        position += len(piece)
        ended_at = looking.feed(piece, is_last=not piece)
        if ended_at is not None or not piece:
            return Found(tuple(looking.matches), ended_at)


def _compiled(query: str, *, ignores_case: bool) -> re.Pattern[bytes]:
    if not query or len(query) > LONGEST_QUERY or "\n" in query:
        raise Invalid(f"look for 1 to {LONGEST_QUERY} characters within a line")
    return re.compile(re.escape(query.encode(errors="replace")), re.IGNORECASE if ignores_case else 0)


class _Looking:
    """Keeps the end of what it was fed, so that nothing is missed, and no excerpt cut, at the borders of pieces."""

    def __init__(self, needle: re.Pattern[bytes], keeps: int, at: Place, limit: int) -> None:
        self.matches: list[LogMatch] = []
        self._needle = needle
        self._keeps = keeps
        self._limit = limit
        self._text = b""
        # Of ``_text`` in the log; a little before the place, for an excerpt of its line.
        self._start = self.begins_at = max(0, at.line_offset, at.offset - AROUND_BYTES)
        self._done = at.offset  # what is before it was looked at
        self._counted = at.offset  # up to where lines were counted
        self._line = at.line
        self._line_offset = at.line_offset

    def feed(self, piece: bytes, *, is_last: bool) -> Place | None:
        """Look through another piece; the place to go on at when there are enough matches."""
        self._text += piece
        end = len(self._text) if is_last else max(0, len(self._text) - self._keeps)
        position = max(0, self._done - self._start)
        while (match := self._needle.search(self._text, position)) is not None and match.start() < end:
            self._count_to(match.start())
            line_end = self._text.find(b"\n", match.end())
            if not self.matches or self.matches[-1].line != self._line:
                if len(self.matches) >= self._limit:
                    return Place(self._start + match.start(), self._line, self._line_offset)
                self._note(match, line_end if line_end >= 0 else len(self._text))
            if line_end < 0:
                # The line goes on in the next piece; where this one was found is enough of it for this piece.
                position = end
                break
            position = line_end
        self._count_to(max(position, end))
        keep_from = max(0, min(max(position, end), len(self._text)) - AROUND_BYTES)
        self._done = self._start + max(position, end)
        self._text = self._text[keep_from:]
        self._start += keep_from
        return None

    def _note(self, match: re.Match[bytes], line_end: int) -> None:
        first = max(0, self._line_offset - self._start, match.start() - AROUND_BYTES)
        last = min(line_end, match.end() + AROUND_BYTES)
        excerpt = self._text[first:last].decode(errors="replace").rstrip("\r")
        self.matches.append(LogMatch(self._line, self._line_offset, self._start + match.start(), excerpt))

    def _count_to(self, position: int) -> None:
        since = max(0, self._counted - self._start)
        if position <= since:
            return
        lines = self._text.count(b"\n", since, position)
        if lines:
            self._line += lines
            self._line_offset = self._start + self._text.rfind(b"\n", since, position) + 1
        self._counted = self._start + position
