"""The body of a publish: one JSON document with the tarball in it as base64, read as a stream. Pure.

The document is walked token by token. The text of ``_attachments.<name>.data`` is decoded as it arrives and goes to a
sink; everything else, which must stay small, is kept and read by the one strict JSON reader afterwards. The walk decides
nothing but where that text is: a body that fools it is refused by the reader, or has no attachment in it.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from registry.errors import Invalid, TooLarge
from registry.json_text import parse

PIECE_BYTES = 256 * 1024
ATTACHMENTS = "_attachments"
PROVENANCE_SUFFIX = ".sigstore"

# One JSON token with the blanks before it; a string, number or word that the buffer may have cut does not match.
_TOKEN = re.compile(
    rb'[ \t\r\n]*(?:([{}\[\]:,])|"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([-+.0-9A-Za-z]++)(?=[^-+.0-9A-Za-z]))', re.DOTALL
)
_STRING_OPENS = re.compile(rb'[ \t\r\n]*"')
_ESCAPES = re.compile(rb"\\(?:/|[rn])")


class Source(Protocol):
    """Where the body comes from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""


class Sink(Protocol):
    """Where the tarball goes."""

    def write(self, data: bytes, /) -> int:
        """Take in the next bytes."""


@dataclass(frozen=True, slots=True)
class PublishBody:
    """A body that was read: the document (with empty text for the tarball) and the tarball's attachment, if it has one."""

    document: dict[str, Any]
    attachment: str | None


def read_body(source: Source, make_sink: Callable[[], Sink], *, limit_bytes: int) -> PublishBody:
    """Read the document; ``limit_bytes`` bounds all of it but the tarball, which goes to ``make_sink()``.

    Raises Invalid for what is no such document, or has two tarballs in it, and TooLarge.
    """
    walk = _Walk(source, make_sink, limit_bytes)
    walk.run()
    document = parse(bytes(walk.rest))
    if not isinstance(document, dict):
        raise Invalid("the body is not a JSON object")
    return PublishBody(document, walk.attachment)


class _Walk:
    """Follows the nesting: ``path`` has an object's present key, and None for an array, of each level."""

    def __init__(self, source: Source, make_sink: Callable[[], Sink], limit_bytes: int) -> None:
        self.rest = bytearray()
        self.attachment: str | None = None
        self._source = source
        self._make_sink = make_sink
        self._limit_bytes = limit_bytes
        self._buffer = b""
        self._path: list[str | None] = []
        self._awaits_key = False

    def run(self) -> None:
        """Read to the end."""
        while self._more():
            position = self._tokens()
            self._keep(self._buffer[:position])
            self._buffer = self._buffer[position:]
            if len(self._buffer) > self._limit_bytes:
                raise TooLarge("the publish document without its tarball", self._limit_bytes)
        self._keep(self._buffer)

    def _more(self) -> bool:
        """Read on. The longer a token already is, the more at once: what is looked at again stays in proportion."""
        pieces, wanted_bytes = [self._buffer], max(PIECE_BYTES, len(self._buffer))
        while wanted_bytes > 0 and (piece := self._source.read(min(wanted_bytes, PIECE_BYTES))):
            pieces.append(piece)
            wanted_bytes -= len(piece)
        self._buffer = b"".join(pieces)
        return len(pieces) > 1

    def _keep(self, text: bytes) -> None:
        if len(self.rest) + len(text) > self._limit_bytes:
            raise TooLarge("the publish document without its tarball", self._limit_bytes)
        self.rest += text

    def _tokens(self) -> int:
        """Walk over the buffer's whole tokens; gives where the first one that is not whole begins."""
        position = 0
        while True:
            if self._is_at_data() and (opened := _STRING_OPENS.match(self._buffer, position)):
                self._keep(self._buffer[: opened.end()])
                self._buffer = self._buffer[opened.end() :]
                self._stream()
                position = 0
                continue
            found = _TOKEN.match(self._buffer, position)
            if found is None:
                return position
            self._step(found[1], found[2])
            position = found.end()

    def _step(self, mark: bytes | None, string: bytes | None) -> None:
        if mark in (b"{", b"["):
            self._path.append("" if mark == b"{" else None)
            self._awaits_key = mark == b"{"
        elif mark in (b"}", b"]"):
            if self._path:
                self._path.pop()
            self._awaits_key = False
        elif mark == b",":
            self._awaits_key = bool(self._path) and self._path[-1] is not None
        elif string is not None and self._awaits_key:
            self._path[-1] = _unescaped(string)
            self._awaits_key = False
        if len(self._path) > 1000:
            raise Invalid("the JSON body is nested too deeply")

    def _is_at_data(self) -> bool:
        """Whether the next string is an attachment's data."""
        path = self._path
        return (
            len(path) == 3
            and not self._awaits_key
            and path[0] == ATTACHMENTS
            and path[2] == "data"
            and path[1] is not None
            and not path[1].endswith(PROVENANCE_SUFFIX)
        )

    def _stream(self) -> None:
        """Decode the text that the buffer stands in; leaves the buffer at its closing quotation mark."""
        if self.attachment is not None:
            raise Invalid("the body has two tarballs in it; publish one version at a time")
        self.attachment = self._path[1]
        decoder = _Base64(self._make_sink())
        while (end := self._buffer.find(b'"')) < 0:
            decoder.feed(self._buffer)
            self._buffer = b""
            if not self._more():
                raise Invalid("the body ends within the tarball")
        decoder.feed(self._buffer[:end])
        decoder.finish()
        # The key is spent: a second string in its place cannot be valid JSON, and must not be taken for data.
        self._path[2] = ""
        self._keep(b'"')
        self._buffer = self._buffer[end + 1 :]


class _Base64:
    """RFC 4648 section 4 in pieces, with the escapes that JSON writers put in."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._left = b""
        self._has_ended = False

    def feed(self, text: bytes) -> None:
        """Decode what is whole of the text so far. Raises Invalid, and what the sink raises."""
        text = self._left + text
        if b"\\" in text:
            # An escape may be cut: its backslash waits for the next piece.
            keep = text[-1:] if text.endswith(b"\\") else b""
            text = _ESCAPES.sub(lambda found: b"/" if found[0] == b"\\/" else b"", text[: len(text) - len(keep)])
        else:
            keep = b""
        whole = len(text) - len(text) % 4
        self._decode(text[:whole])
        self._left = text[whole:] + keep

    def finish(self) -> None:
        """Raise Invalid when the text ended within a group."""
        if self._left:
            raise Invalid("the tarball's text is not base64: it ends within a group")

    def _decode(self, groups: bytes) -> None:
        if not groups:
            return
        if self._has_ended:
            raise Invalid("the tarball's text is not base64: it goes on after its end")
        try:
            self._sink.write(binascii.a2b_base64(groups, strict_mode=True))
        except binascii.Error as error:
            raise Invalid("the tarball's text is not base64") from error
        self._has_ended = groups.endswith(b"=")


def _unescaped(string: bytes) -> str:
    try:
        value = json.loads(b'"' + string + b'"')
    except ValueError:
        return ""  # no JSON; the reader will say so
    return value if isinstance(value, str) else ""
