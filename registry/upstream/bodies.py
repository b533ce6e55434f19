"""Judging documents: decoded within a limit, whole, and not a page meant for a person. Pure."""

from __future__ import annotations

import json
import re
import zlib

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_HTML_STARTS = (b"<!doctype html", b"<html")
_PASSWORD_FIELD = re.compile(rb"<input\b[^>]{0,300}\btype\s*=\s*[\"']?password\b", re.IGNORECASE)
_FIRST_ELEMENT = re.compile(rb"<([A-Za-z][\w.:-]*)")
_VOID_END = re.compile(rb"(?:\s*<br\s*/?>)*\s*\Z", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"
_LOOK_BYTES = 64 * 1024


class UnusableBody(Exception):
    """The body cannot be taken for the document; ``str()`` says why and holds nothing of the body."""


def media_type(content_type: str) -> str:
    """The type without parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()


def is_html_type(content_type: str) -> bool:
    """Whether a browser would show it as a page."""
    return media_type(content_type) in _HTML_TYPES


def gunzip(data: bytes, limit_bytes: int) -> bytes:
    """Decode a gzip body (RFC 1952, one or more members), never holding more than the limit. Raises UnusableBody."""
    pieces: list[bytes] = []
    room_bytes = limit_bytes
    rest = data
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            # One byte more than fits: a bomb is known by it and never unfolds further.
            piece = member.decompress(rest, room_bytes + 1)
        except zlib.error:
            raise UnusableBody("its gzip encoding is broken") from None
        if len(piece) > room_bytes:
            raise UnusableBody(f"it is larger than {limit_bytes} bytes")
        if not member.eof:
            raise UnusableBody("its gzip encoding ends early")
        pieces.append(piece)
        room_bytes -= len(piece)
        rest = member.unused_data
    if not pieces:
        raise UnusableBody("its gzip encoding is empty")
    return b"".join(pieces)


def check_document(body: bytes, content_type: str, accept: str) -> None:
    """Refuse what a login page, an error page or a mislabelled encoding looks like. Raises UnusableBody.

    A site's gateway answers 200 with its sign-in form when it does not know us; taken for an index, that would be an
    index without files. HTML passes only where it was asked for, and never with a password field in it.
    """
    wants_html = any(name in accept.lower() for name in _HTML_TYPES)
    is_html = is_html_type(content_type) or _starts_as_html(body[:_LOOK_BYTES])
    if is_html and not wants_html:
        raise UnusableBody("it is an HTML page, which was not asked for")
    if is_html and _PASSWORD_FIELD.search(body[: 4 * _LOOK_BYTES]):
        raise UnusableBody("it is a sign-in page")
    if body.startswith(_GZIP_MAGIC) and "gzip" not in content_type.lower():
        raise UnusableBody("it is compressed and does not say so")


def check_ended(body: bytes, content_type: str) -> None:
    """Refuse a body that may have been cut, when only the end of the connection marked its end. Raises UnusableBody.

    Neither length nor chunks were sent (RFC 9112 section 6.3 point 8), so the document itself must show that it is
    whole: JSON parses, markup closes the element it opened.
    """
    kind = media_type(content_type)
    if kind.endswith(("json", "javascript")):
        try:
            json.loads(body)
        except ValueError:
            raise UnusableBody("it ends early") from None
        return
    opened = _FIRST_ELEMENT.search(body) if kind.endswith(("html", "xml")) else None
    if opened is None:
        raise UnusableBody("it has no length, so nobody can tell whether it is whole")
    closing = re.compile(rb"</" + re.escape(opened[1]) + rb"\s*>", re.IGNORECASE)
    ends = [match.end() for match in closing.finditer(body, max(0, len(body) - _LOOK_BYTES))]
    if not ends or not _VOID_END.match(body, ends[-1]):
        raise UnusableBody("it ends early")


def _starts_as_html(body: bytes) -> bool:
    # Not one regular expression: repeated comments would make it backtrack exponentially on a hostile body.
    rest = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    while rest.startswith(b"<!--"):
        rest = rest.partition(b"-->")[2].lstrip()
    return b" ".join(rest[:64].lower().split()).startswith(_HTML_STARTS)
