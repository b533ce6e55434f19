"""From an answer's head to a file's bytes, streamed in constant memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from registry.errors import NotFound, UpstreamUnavailable
from registry.upstream.answers import FilePart, Limits
from registry.upstream.bodies import is_html_type
from registry.upstream.failure import broken, unusable
from registry.upstream.guard import WebUrl
from registry.upstream.line import Ask
from registry.upstream.wire import TRANSPORT_ERRORS, Exchange


class Told(Protocol):
    """Hears how a file ended."""

    def whole(self) -> None:
        """All of its bytes came."""

    def broken(self, reason: str) -> None:
        """It ended early, went on too long or came too slowly."""


class FileStream:
    """A file being downloaded; used by one thread at a time. Close it (or use ``with``) when done or given up.

    ``size_bytes`` is how many bytes ``chunks`` will give, None if the upstream did not say: then a cut file looks
    whole, and only a digest can tell. ``offset_bytes`` is where they begin: 0, also if ``start`` was asked for and the
    upstream ignores ranges.
    """

    def __init__(self, exchange: Exchange, url: WebUrl, offset_bytes: int, told: Told, limits: Limits) -> None:
        self.size_bytes = exchange.length_bytes
        self.offset_bytes = offset_bytes
        self._exchange = exchange
        self._url = url
        self._told = told
        self._limits = limits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chunks(self, size_bytes: int = 256 * 1024) -> Iterator[bytes]:
        """The bytes in order, in pieces of at most ``size_bytes``, as they arrive. May be iterated once.

        Raises UpstreamUnavailable when the body ends early, goes on too long or comes too slowly. Only the time spent
        waiting for the upstream counts: a slow reader of ours must not look like a slow upstream.
        """
        waited_seconds, received_bytes = 0.0, 0
        while True:
            granted = self._limits.file_grace_seconds + received_bytes / self._limits.file_floor_bytes_per_second
            began = time.monotonic()
            try:
                piece = self._exchange.read(began + granted - waited_seconds, self._limits.idle_seconds)
            except TRANSPORT_ERRORS as error:
                self.close()
                reason = str(broken(self._url.origin, error))
                self._told.broken(reason)
                raise UpstreamUnavailable(reason) from error
            if not piece:
                self._told.whole()
                return
            waited_seconds += time.monotonic() - began
            received_bytes += len(piece)
            for at in range(0, len(piece), size_bytes):
                yield piece[at : at + size_bytes]

    def close(self) -> None:
        """Idempotent. A connection whose file was read to the end is kept for the next one."""
        self._exchange.close()


def begin_file(ask: Ask, exchange: Exchange, url: WebUrl, told: Told, limits: Limits) -> FileStream:
    """A stream over what ``url`` (after redirects) answered; the status has been checked, and is not an absence.

    Raises Failure for what cannot be the file's bytes as they are.
    """
    offset_bytes = 0
    if exchange.status == 206 and ask.start is not None:
        offset_bytes = ask.start
        if not (exchange.header("Content-Range") or "").lower().startswith(f"bytes {offset_bytes}-"):
            raise unusable(url.origin, "it is another part of the file than was asked for")
    elif exchange.status != 200:
        raise unusable(url.origin, f"HTTP {exchange.status} was not asked for")
    if (exchange.header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise unusable(url.origin, "it is in an encoding that was not asked for")
    if is_html_type(exchange.header("Content-Type") or ""):
        raise unusable(url.origin, "it is an HTML page instead of the file")
    return FileStream(exchange, url, offset_bytes, told, limits)


def check_present(ask: Ask, exchange: Exchange, deadline: float) -> None:
    """Raises NotFound when the upstream is sure that there is no such file."""
    if exchange.status in {404, 410}:
        exchange.drain(deadline)
        raise NotFound("file", ask.url.filename)


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def read_part(ask: Ask, exchange: Exchange, url: WebUrl, deadline: float, limits: Limits, most: int) -> FilePart | None:
    """The part of a file that was asked for, whole, at most ``most`` bytes; None where the upstream knows no ranges.

    Raises Failure for an answer that is no such part.
    """
    if exchange.status == 200:
        return None
    found = _CONTENT_RANGE.fullmatch((exchange.header("Content-Range") or "").lower())
    if exchange.status != 206 or found is None:
        raise unusable(url.origin, f"HTTP {exchange.status} is no part of the file")
    first, last, size_bytes = (int(digits) for digits in found.groups())
    if not first <= last < size_bytes or last - first >= most or not _is_asked(ask.part or "", first, last, size_bytes):
        raise unusable(url.origin, "it is another part of the file than was asked for")
    if (exchange.header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise unusable(url.origin, "it is in an encoding that was not asked for")
    data = b""
    try:
        while len(data) <= last - first + 1 and (piece := exchange.read(deadline, limits.idle_seconds)):
            data += piece
    except TRANSPORT_ERRORS as error:
        raise broken(url.origin, error) from error
    if len(data) != last - first + 1:
        raise unusable(url.origin, "the part is not as long as it says")
    return FilePart(data, first, size_bytes, exchange.header("Last-Modified"))


def _is_asked(part: str, first: int, last: int, size_bytes: int) -> bool:
    begin, _, end = part.partition("-")
    if not begin:
        return (first, last) == (max(0, size_bytes - int(end)), size_bytes - 1)
    return (first, last) == (int(begin), min(int(end), size_bytes - 1) if end else size_bytes - 1)
