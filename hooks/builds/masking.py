"""Secrets made unreadable in a stream: protection against accidents, not against a build that wants to tell. Pure.

Who controls the commands can always print a secret in some form nobody thought of; the real protection is that the
token is short-lived, narrow, and never in a variable.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable

MIN_SECRET_LENGTH = 8
MASK = b"***"


class Masker:
    """Replaces every known form of the secrets, also across the borders of chunks. Not thread-safe."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Secrets (and lines of one) shorter than 8 characters are ignored: masking ``1`` would eat the whole log."""
        patterns = sorted({form for secret in secrets for form in forms(secret)}, key=lambda form: (-len(form), form))
        self._expression = re.compile(b"|".join(map(re.escape, patterns))) if patterns else None
        self._prefixes = {form[:length] for form in patterns for length in range(1, len(form))}
        self._longest = max(map(len, patterns), default=1)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown so far; only an ending that could be the start of a secret is held back."""
        if self._expression is None:
            return data
        text = self._held + data
        hold = self._hold_from(text)
        shown: list[bytes] = []
        position = 0
        for match in self._expression.finditer(text):
            if match.start() >= hold:
                break  # it may yet become a longer one
            shown += [text[position : match.start()], MASK]
            position = match.end()
        hold = max(hold, position)
        self._held = text[hold:]
        return b"".join([*shown, text[position:hold]])

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        text, self._held = self._held, b""
        return self._expression.sub(MASK, text) if self._expression else text

    def mask(self, text: str) -> str:
        """A whole text, independent of the stream."""
        if self._expression is None:
            return text
        return self._expression.sub(MASK, text.encode(errors="replace")).decode(errors="replace")

    def _hold_from(self, text: bytes) -> int:
        for length in range(min(len(text), self._longest - 1), 0, -1):
            if text[-length:] in self._prefixes:
                return len(text) - length
        return len(text)


def forms(secret: str) -> set[bytes]:
    """The secret as it is likely to be printed: plain, by line, base64 at three offsets, hex, percent, JSON."""
    found: set[bytes] = set()
    for text in {secret, *secret.splitlines()}:
        if len(text) < MIN_SECRET_LENGTH:
            continue
        raw = text.encode(errors="surrogatepass")
        found |= {raw, raw.hex().encode(), raw.hex().upper().encode(), json.dumps(text)[1:-1].encode()}
        found |= {urllib.parse.quote(text, safe="").encode(), urllib.parse.quote_plus(text).encode()}
        found |= {form for form in _base64_forms(raw) if len(form) >= MIN_SECRET_LENGTH}
    return found


def _base64_forms(raw: bytes) -> set[bytes]:
    """The characters that ``raw`` alone decides, wherever it stands in what is encoded."""
    found: set[bytes] = set()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        first = -(-8 * offset // 6)
        last = 8 * (offset + len(raw)) // 6
        part = encoded[first:last]
        found |= {part, part.replace(b"+", b"-").replace(b"/", b"_")}
    return found
