"""Secrets made unreadable in a stream: protection against accidents, not against a build that wants to tell. Pure.

Who controls the commands can always print a secret in some form nobody thought of (reversed, compressed, a character
a line); the real protection is that a build gets no secret that its project may not read, and that its own token is
short-lived, narrow, and never in a variable.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from hooks.builds.secret_forms import MIN_SECRET_LENGTH, all_forms, forms

__all__ = ["MASK", "MIN_SECRET_LENGTH", "Detector", "Masker", "forms"]

MASK = b"***"
_BLOCK = 4
# However a form of this length lies, one of the blocks of four that the text is cut into is wholly within it.
_LONG = 2 * _BLOCK - 1
_LOOK = 64


class _Forms:
    """The forms of all secrets, to be found in a text at the cost of looking at each fourth byte of it.

    By the number that a block of four bytes is: whether it is byte 0, 1, 2 or 3 on of some form. Wherever a form lies,
    the first of the text's blocks that is wholly within it is one of these. What begins there is looked up among the
    forms in order, however many begin alike. The few shorter ones are a pattern.
    """

    def __init__(self, patterns: Collection[bytes]) -> None:
        self._sorted = sorted(each for each in patterns if len(each) >= _LONG)
        by_block: dict[int, set[int]] = defaultdict(set)
        for pattern in self._sorted:
            for at in range(_BLOCK):
                by_block[int.from_bytes(pattern[at : at + _BLOCK], sys.byteorder)].add(at)
        self._by_block = {number: tuple(found) for number, found in by_block.items()}
        self._parents = _parents(self._sorted)
        self._longest = max(map(len, self._sorted), default=0)
        short = sorted((each for each in patterns if len(each) < _LONG), key=lambda each: (-len(each), each))
        self._short = re.compile(b"|".join(map(re.escape, short))) if short else None
        self._starts = frozenset(
            pattern[:length] for pattern in patterns for length in range(1, min(_LONG, len(pattern)))
        )

    def look(self, text: bytes) -> tuple[list[tuple[int, int]], int]:
        """Where forms are in ``text``, by place, and where its ending begins that might go on as one."""
        found: list[tuple[int, int]] = []
        opens_at = self._short_ending(text)
        by_block = self._by_block
        blocks = memoryview(text)[: len(text) // _BLOCK * _BLOCK].cast("I")
        for index in [index for index, block in enumerate(blocks) if block in by_block]:
            for at in by_block[blocks[index]]:
                start = index * _BLOCK - at
                if start < 0:
                    continue
                length, is_open = self._beginning(text, start)
                if length:
                    found.append((start, start + length))
                if is_open:
                    opens_at = min(opens_at, start)
        found += self._short_ones(text)
        found.sort()
        return found, opens_at

    def _beginning(self, text: bytes, start: int) -> tuple[int, bool]:
        """The length of the longest form at a place (0: none), and whether the text ends within a longer one."""
        ahead = text[start : start + _LOOK]
        at = bisect_left(self._sorted, ahead)
        if at < len(self._sorted) and self._sorted[at].startswith(ahead):
            # Of this beginning there is a form; only now is it worth to look at all of it.
            ahead = text[start : start + self._longest]
            at = bisect_left(self._sorted, ahead)
        after = bisect_right(self._sorted, ahead, lo=at)
        is_open = (
            start + len(ahead) == len(text) and after < len(self._sorted) and self._sorted[after].startswith(ahead)
        )
        # All forms that ``ahead`` begins with are beginnings of the one before it in order, or that one itself.
        nearest = after - 1
        while nearest >= 0 and not ahead.startswith(self._sorted[nearest]):
            nearest = self._parents[nearest]
        return (len(self._sorted[nearest]) if nearest >= 0 else 0), is_open

    def _short_ending(self, text: bytes) -> int:
        for length in range(min(_LONG - 1, len(text)), 0, -1):
            if text[-length:] in self._starts:
                return len(text) - length
        return len(text)

    def _short_ones(self, text: bytes) -> Iterator[tuple[int, int]]:
        match = self._short.search(text) if self._short else None
        while match is not None:
            yield match.span()
            match = self._short.search(text, match.start() + 1) if self._short else None


def _parents(ordered: Sequence[bytes]) -> list[int]:
    """For each the place of the longest other one that it begins with; -1 for none."""
    parents: list[int] = []
    open_ones: list[int] = []
    for place, pattern in enumerate(ordered):
        while open_ones and not pattern.startswith(ordered[open_ones[-1]]):
            open_ones.pop()
        parents.append(open_ones[-1] if open_ones else -1)
        open_ones.append(place)
    return parents


class Detector:
    """Says whether a stream holds any form of the secrets, also across the borders of what it is fed. Not thread-safe."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = _Forms(all_forms(secrets))
        self._open = b""

    def feed(self, data: bytes) -> bool:
        """Whether some form ends in ``data``."""
        text = self._open + data
        found, opens_at = self._forms.look(text)
        self._open = text[opens_at:]
        return bool(found)

    def restart(self) -> None:
        """What comes next is another stream."""
        self._open = b""


class Masker:
    """Replaces every known form of the secrets by ``***``, also across the borders of what it is fed. Not thread-safe.

    What is masked is all that any form covers; where forms overlap or touch, one ``***`` stands for them together. So
    the result depends on the bytes alone, and not on how they came in pieces.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Secrets shorter than 4 characters are ignored (and lines of one that are shorter than 8)."""
        self._patterns: set[bytes] = set()
        self._forms = _Forms(())
        self._held = b""
        # How many bytes at the beginning of ``_held`` are masked already, and whether the mask reaches up to there.
        self._covered = 0
        self._follows_mask = False
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these as well, from here on; what was given out before stays as it was."""
        fresh = all_forms(secrets) - self._patterns
        if fresh:
            self._patterns |= fresh
            self._forms = _Forms(self._patterns)

    def feed(self, data: bytes) -> bytes:
        """What may be shown so far; only an ending that could be the start of a secret is held back."""
        if not self._patterns:
            return data
        text = self._held + data
        found, opens_at = self._forms.look(text)
        return self._shown(text, found, opens_at)

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        text = self._held
        return self._shown(text, self._forms.look(text)[0], len(text))

    @property
    def state(self) -> tuple[bytes, int, bool]:
        """What is held back, how much of its beginning is masked, and whether a mask reaches up to it: see ``resume``."""
        return self._held, self._covered, self._follows_mask

    def resume(self, state: tuple[bytes, int, bool]) -> None:
        """Go on where another one with the same secrets left off."""
        self._held, self._covered, self._follows_mask = state

    def mask(self, text: str) -> str:
        """A whole text, independent of the stream: messages, names, values of variables."""
        return self.mask_bytes(text.encode(errors="surrogatepass")).decode(errors="replace")

    def mask_bytes(self, data: bytes) -> bytes:
        """A whole piece of bytes, independent of the stream."""
        if not self._patterns:
            return data
        return _cover(data, self._forms.look(data)[0], 0, -1, len(data))[0]

    def _shown(self, text: bytes, found: Sequence[tuple[int, int]], end: int) -> bytes:
        """Give out ``text`` up to ``end``, and keep the rest."""
        start = self._covered
        shown, masked_to = _cover(text, found, start, start if self._follows_mask else -1, end)
        self._held = text[end:]
        self._covered = max(0, max(start, masked_to) - end)
        self._follows_mask = masked_to >= end
        return shown


def _cover(text: bytes, found: Sequence[tuple[int, int]], position: int, masked_to: int, end: int) -> tuple[bytes, int]:
    """``text[position:end]`` with the found places masked that begin before ``end``, and where the last mask ends.

    A mask that ends at ``masked_to`` was shown before (-1: none).
    """
    shown: list[bytes] = []
    for start, stop in found:
        if start >= end:
            break
        if start > masked_to:
            shown += [text[position:start], MASK]
        position = masked_to = max(masked_to, stop)
    shown.append(text[position:end])
    return b"".join(shown), masked_to
