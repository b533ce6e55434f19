"""Answers with bodies: conditional requests, ranges, compression, and streams that end whole or visibly broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from urllib.parse import quote

from flask import Response, request
from werkzeug.http import http_date, parse_date, quote_etag, unquote_etag

from registry.repos.documents import Document
from storage.blobs import ByteRange

# Which set of files and metadata a version is, with the file that was just published.
REVISION_HEADER = "X-Entrepot-Version-Revision"

# Artifacts come from others: they must never run in the origin that holds sessions.
INERT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class BrokenStream(Exception):
    """A body ended before its announced length; raised so that the connection closes and the client sees it."""


def send_document(document: Document, *, private: bool) -> Response:
    """A rendered document with its ETag, compressed if the client takes that, 304 if the client has it."""
    visibility = "private" if private else "public"
    # By its quality: "gzip;q=0" names the coding in order to refuse it (RFC 9110 §12.5.3).
    gzipped = document.gzipped is not None and request.accept_encodings["gzip"] > 0
    # The ETag names the representation, also its coding (RFC 9110 §8.8.3.3).
    etag = f"{document.etag}-gzip" if gzipped else document.etag
    if _client_has(etag):
        response = Response(status=304)
    elif gzipped:
        response = Response(document.gzipped, content_type=document.content_type)
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(document.body, content_type=document.content_type)
    response.headers["ETag"] = quote_etag(etag)
    response.headers["Cache-Control"] = f"{visibility}, max-age=0, must-revalidate"
    response.headers["Vary"] = "Accept, Accept-Encoding, Authorization"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if document.stale:
        response.headers["Warning"] = '110 - "Response is Stale"'
    return response


def _client_has(etag: str) -> bool:
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    return header.strip() == "*" or any(unquote_etag(tag.strip())[0] == etag for tag in header.split(","))


def send_file(
    open_body: Callable[[ByteRange | None], Iterator[bytes]],
    *,
    size_bytes: int,
    sha256: str | None,
    filename: str,
    modified: datetime | None,
    private: bool,
    content_type: str = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
    parts_are_verified: bool = True,
) -> Response:
    """A file that never changes: ETag from its digest, one range (RFC 9110 §14), HEAD without opening it.

    Where neither the digest nor a date is known there is no validator, so that no If-Range holds and no cache puts parts
    together. Parts that are not verified are for this client alone, and no cache keeps them.
    """
    etag = quote_etag(f"sha256-{sha256}") if sha256 is not None else None
    visibility = "private" if private else "public"
    headers = {
        **(headers or {}),
        **({"ETag": etag, "Cache-Control": f"{visibility}, max-age=31536000, immutable"} if etag is not None else {}),
        **({"Last-Modified": http_date(modified)} if modified is not None else {}),
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(filename),
        **INERT_HEADERS,
    }
    if sha256 is not None and _client_has(f"sha256-{sha256}"):
        return Response(status=304, headers=headers)
    try:
        part = wanted_range(size_bytes, etag, modified)
    except ValueError:
        headers["Content-Range"] = f"bytes */{size_bytes}"
        return Response(status=416, headers=headers)
    length = part.length if part is not None else size_bytes
    headers["Content-Length"] = str(length)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size_bytes}"
        if not parts_are_verified:
            headers["Cache-Control"] = "no-store"
    body = None if request.method == "HEAD" else whole(open_body(part), length)
    return Response(
        body,
        status=206 if part is not None else 200,
        headers=headers,
        content_type=content_type,
        direct_passthrough=True,
    )


def disposition(filename: str) -> str:
    """``Content-Disposition`` for saving under the last part of ``filename`` (RFC 6266 §5): any characters, no injection."""
    last = filename.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._+!~@ ()-]", "_", last)
    return f'attachment; filename="{plain}"' + ("" if plain == last else f"; filename*=UTF-8''{quote(last, safe='')}")


def wanted_range(size_bytes: int, etag: str | None, modified: datetime | None) -> ByteRange | None:
    """The one range the request asks for, or None for the whole file. Raises ValueError when it cannot be satisfied.

    Several ranges, other units and a failed If-Range are answered whole (RFC 9110 §14.2 allows it, and a list of
    thousands of ranges is an attack).
    """
    # A range is defined for GET only (RFC 9110 §14.2): HEAD tells of the whole file.
    header = request.headers.get("Range") if request.method == "GET" else None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag and not _is_date_of(condition, modified):
        return None
    match = _RANGE.match(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        length = min(int(last), size_bytes)
        if length == 0:
            raise ValueError("empty suffix range")
        return ByteRange(size_bytes - length, size_bytes)
    start = int(first)
    if last and int(last) < start:
        return None  # not a range at all (RFC 9110 §14.1.1)
    if start >= size_bytes:
        raise ValueError("range starts behind the end")
    return ByteRange(start, min(int(last) + 1, size_bytes) if last else size_bytes)


def _is_date_of(condition: str, modified: datetime | None) -> bool:
    return modified is not None and parse_date(condition) == modified.replace(microsecond=0)


def whole(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Pass ``pieces`` on and make sure that exactly ``length`` bytes go out.

    Ending early without raising would keep the connection open with bytes owed, and a later answer on it could be
    taken for them (measured under gthread); raising closes it.
    """
    sent = 0
    for piece in pieces:
        sent += len(piece)
        if sent > length:
            raise BrokenStream(f"body is longer than the announced {length} bytes")
        yield piece
    if sent != length:
        raise BrokenStream(f"body ended after {sent} of {length} bytes")
