"""Credentials of well-known shapes that nobody declared as secrets, made unreadable in a stream. Pure.

Access keys of AWS, tokens of GitHub and npm, and private keys in PEM. Only what is distinctive by itself: what could as
well be a digest or a name is left alone. What is held back is bounded, whatever comes.
"""

from __future__ import annotations

import re

MASK = b"***"
_TOKEN = re.compile(
    rb"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"
    rb"|gh[pousr]_[A-Za-z0-9]{36,251}"
    rb"|github_pat_[A-Za-z0-9_]{22,244}"
    rb"|npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"
)
_PREFIXES = (b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"npm_")
_LONGEST = 256
_RUN = re.compile(rb"[A-Za-z0-9_]{1,256}\Z")
_BEGIN = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY-----")
_END = re.compile(rb"-----END (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY-----")
_MARKER_BYTES = 96
"""No line of either kind is longer."""
_OPEN_MARKER = re.compile(rb"(?:-----(?:BEGIN|END)[A-Z0-9 ]{0,85}-{0,4}|-----(?:B|BE|BEG|BEGI|E|EN)?|-{1,4})\Z")
_OTHER = re.compile(rb"[^A-Za-z0-9+/=:,\\\s-]")
_KEY_BYTES = 32 * 1024
"""A private key is shorter; what goes on for longer behind such a line is something else, and is shown again."""


class ShapeMask:
    """Takes a stream in pieces; the result does not depend on where they were cut. Not thread-safe."""

    def __init__(self) -> None:
        self._held = b""
        # How many bytes of a private key were left out so far; None outside of one.
        self._in_key: int | None = None

    def feed(self, data: bytes) -> bytes:
        """What may be shown so far."""
        return self._take(self._held + data, is_last=False)

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        return self._take(self._held, is_last=True)

    def _take(self, text: bytes, *, is_last: bool) -> bytes:
        shown = bytearray()
        position = 0
        while True:
            if self._in_key is None:
                begin = _BEGIN.search(text, position)
                if begin is None:
                    break
                shown += _TOKEN.sub(MASK, text[position : begin.start()]) + begin[0] + MASK
                position, self._in_key = begin.end(), 0
            end = self._end_of_key(text, position)
            if end is None:
                break
            position = end
        if self._in_key is not None:
            # All of it is left out but an ending that might become the closing line.
            kept = b"" if is_last else _open_marker(text[position:])
            self._in_key += len(text) - position - len(kept)
            self._held = kept
            return bytes(shown)
        start = len(text) if is_last else _open_at(text, position)
        self._held = text[start:]
        return bytes(shown + _TOKEN.sub(MASK, text[position:start]))

    def _end_of_key(self, text: bytes, position: int) -> int | None:
        """Where the key that began before ``position`` ends; None when it goes on behind ``text``."""
        limit = position + _KEY_BYTES - (self._in_key or 0)
        end, other = _END.search(text, position), _OTHER.search(text, position)
        if end is not None and (other is None or end.start() < other.start()) and end.start() <= limit:
            self._in_key = None
            return end.start()
        if other is not None and other.start() <= limit:
            self._in_key = None
            return other.start()
        if len(text) > limit:
            self._in_key = None
            return limit
        return None


def mask(text: str) -> str:
    """A whole text."""
    whole = ShapeMask()
    data = text.encode(errors="surrogatepass")
    return (whole.feed(data) + whole.flush()).decode(errors="replace")


def _open_marker(text: bytes) -> bytes:
    found = _OPEN_MARKER.search(text, max(0, len(text) - _MARKER_BYTES))
    return found[0] if found else b""


def _open_at(text: bytes, position: int) -> int:
    """Where the ending begins that might go on as a token or as a key's first line."""
    start = max(position, len(text) - len(_open_marker(text[position:])))
    run = _RUN.search(text, max(position, len(text) - _LONGEST))
    if run is None:
        return start
    word, first = run[0], len(text)
    for prefix in _PREFIXES:
        at = word.find(prefix)
        if at >= 0:
            first = min(first, run.start() + at)
        for length in range(min(len(prefix) - 1, len(word)), 0, -1):
            if word.endswith(prefix[:length]):
                first = min(first, len(text) - length)
                break
    return min(start, first)
