"""From an answer's head to a document: whole, decoded, within the limit and of the kind that was asked for."""

from __future__ import annotations

from registry.upstream.answers import DocumentAnswer, Found, MissingUpstream, NotModified
from registry.upstream.bodies import UnusableBody, check_document, check_ended, gunzip
from registry.upstream.failure import broken, unusable
from registry.upstream.freshness import max_age_seconds
from registry.upstream.guard import WebUrl
from registry.upstream.line import Ask
from registry.upstream.wire import TRANSPORT_ERRORS, Exchange

_LONGEST_VALIDATOR = 100
_LONGEST_CONTENT_TYPE = 200


def read_document(
    ask: Ask, exchange: Exchange, url: WebUrl, *, deadline: float, idle_seconds: float, limit_bytes: int
) -> DocumentAnswer:
    """Read what ``url`` (after redirects) answered; the status has been checked. Raises Failure."""
    if exchange.status in {404, 410}:
        exchange.drain(deadline)
        return MissingUpstream()
    max_age = max_age_seconds(exchange.header("Cache-Control"), exchange.header("Age"))
    # "Not modified" answers a question; from an origin that was not asked it (no validators sent) it is nonsense.
    if exchange.status == 304 and ask.validators and url.origin == ask.url.origin:
        exchange.drain(deadline)
        return NotModified(max_age)
    if exchange.status != 200:
        raise unusable(url.origin, f"HTTP {exchange.status} was not asked for")
    content_type = exchange.header("Content-Type") or ""
    try:
        body = _whole_body(exchange, deadline, idle_seconds, limit_bytes)
        check_document(body, content_type, ask.accept)
        if exchange.is_unframed and not exchange.header("Content-Encoding"):
            check_ended(body, content_type)
    except UnusableBody as refused:
        raise unusable(url.origin, str(refused)) from None
    except TRANSPORT_ERRORS as error:
        raise broken(url.origin, error) from error
    return Found(
        body=body,
        content_type=content_type[:_LONGEST_CONTENT_TYPE],
        final_url=url.without_query,
        etag=_validator(exchange.header("ETag")),
        last_modified=_validator(exchange.header("Last-Modified")),
        max_age_seconds=max_age,
    )


def _whole_body(exchange: Exchange, deadline: float, idle_seconds: float, limit_bytes: int) -> bytes:
    encoding = (exchange.header("Content-Encoding") or "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise UnusableBody("it is in an encoding that was not asked for")
    pieces: list[bytes] = []
    received_bytes = 0
    # A gzip body larger than the limit on what it unfolds to is not one that anybody means to send.
    while (exchange.length_bytes or 0) <= limit_bytes and received_bytes <= limit_bytes:
        piece = exchange.read(deadline, idle_seconds)
        if not piece:
            body = b"".join(pieces)
            return body if encoding == "identity" else gunzip(body, limit_bytes)
        pieces.append(piece)
        received_bytes += len(piece)
    raise UnusableBody(f"it is larger than {limit_bytes} bytes")


def _validator(value: str | None) -> str | None:
    """A validator worth keeping; one that is absurdly long is not."""
    return value if value and len(value) <= _LONGEST_VALIDATOR else None
