"""How a secret is likely to be printed by accident: as it is, and in the codings that tools put texts into. Pure."""

from __future__ import annotations

import base64
import html
import json
import shlex
import urllib.parse
from collections.abc import Iterable, Iterator

MIN_SECRET_LENGTH = 4
"""Shorter texts are masked in no form: masking ``1`` would eat the whole log."""
MIN_LINE_LENGTH = 8
"""Lines of a secret of several lines that are shorter than this are masked only together with the others."""
_WRAPS = (64, 76)  # columns at which the usual tools break base64 (RFC 7468 §2, RFC 2045 §6.8)
_SHELL_SPECIAL = frozenset(" \t!\"#$&'()*;<=>?[\\]^`{|}~")
_ANSI_C = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\x1b": "\\E", "\\": "\\\\", "'": "\\'"}


def forms(secret: str) -> set[bytes]:
    """All forms of a secret and of its longer lines; none for one that is too short.

    Plain, base64 (at any place of what is encoded; padded or not; both alphabets; wrapped), hexadecimal, percent-encoded,
    escaped for JSON, XML, Python and shells.
    """
    found: set[bytes] = set()
    for text in _texts(secret):
        raw = text.encode(errors="surrogatepass")
        found.add(raw)
        found |= {raw.hex().encode(), raw.hex().upper().encode()}
        found |= set(_base64_forms(raw))
        found |= {form.encode(errors="surrogatepass") for form in (*_escaped(text), *_quoted(text))}
    return {form for form in found if len(form) >= MIN_SECRET_LENGTH}


def _texts(secret: str) -> set[str]:
    """The secret without the line end that a file leaves behind it, and its lines."""
    texts = {secret, secret.strip("\r\n"), secret.strip()}
    lines = {line.strip() for line in secret.splitlines()}
    found = {text for text in texts if len(text) >= MIN_SECRET_LENGTH}
    return found | {line for line in lines if len(line) >= MIN_LINE_LENGTH}


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    for form in _standard_base64(raw):
        yield form
        yield form.translate(_TO_URL_SAFE)


_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _standard_base64(raw: bytes) -> Iterator[bytes]:
    # The characters that ``raw`` alone decides, wherever it stands in what is encoded.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        first = -(-8 * offset // 6)
        yield encoded[first : 8 * (offset + len(raw)) // 6]
    # Encoded alone, or with the line end that `echo` adds: to the last character, which the others leave out.
    for alone in (raw, raw + b"\n"):
        encoded = base64.b64encode(alone)
        yield encoded
        yield encoded.rstrip(b"=")
        for columns in _WRAPS:
            if len(encoded) > columns:
                pieces = (encoded[at : at + columns] for at in range(0, len(encoded), columns))
                yield from (piece for piece in pieces if len(piece) >= MIN_LINE_LENGTH)


def _escaped(text: str) -> Iterator[str]:
    yield from _percent(text)
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield once.replace("/", "\\/")
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]  # JSON within JSON
    yield repr(text)[1:-1]
    yield html.escape(text, quote=False)
    for quote in ("&#x27;", "&#39;", "&apos;"):
        yield html.escape(text).replace("&#x27;", quote)


def _percent(text: str) -> Iterator[str]:
    raw = text.encode(errors="surrogatepass")
    for encoded in (
        urllib.parse.quote_from_bytes(raw, safe=""),
        urllib.parse.quote_from_bytes(raw, safe="/"),
        urllib.parse.quote_plus(raw, safe=""),
        urllib.parse.quote_from_bytes(raw, safe="!'()*"),  # JavaScript's encodeURIComponent
    ):
        yield encoded
        yield _lower_percent(encoded)


def _lower_percent(encoded: str) -> str:
    first, *rest = encoded.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _quoted(text: str) -> Iterator[str]:
    r"""What shells write and read: ``'…'`` in three spellings, ``"…"``, ``\``-escaped, and ``$'…'``."""
    yield shlex.quote(text)
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield "".join(f"\\{each}" if each in '"$`\\' else each for each in text)
    yield "".join(f"\\{each}" if each in _SHELL_SPECIAL else each for each in text)
    yield "".join(_ANSI_C.get(each, each) for each in text)


def leaves(value: object) -> Iterator[str]:
    """The texts in a JSON value that are long enough to be secrets of their own."""
    if isinstance(value, str):
        if len(value) >= MIN_LINE_LENGTH:
            yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from leaves(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from leaves(entry)


def all_forms(secrets: Iterable[str]) -> set[bytes]:
    """The forms of all of them."""
    return {form for secret in secrets for form in forms(secret)}
