"""From an answer's head to a file's bytes, streamed in constant memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from registry.errors import NotFound, UpstreamUnavailable
from registry.upstream.answers import FileHead, FilePart, Limits
from registry.upstream.bodies import is_html_type
from registry.upstream.failure import broken, unusable
from registry.upstream.guard import WebUrl
from registry.upstream.line import Ask
from registry.upstream.promised import checksums
from registry.upstream.wire import TRANSPORT_ERRORS, Exchange


class Told(Protocol):
    """Hears how a file ended."""

    def whole(self) -> None:
        """All of its bytes came."""

    def broken(self, reason: str) -> None:
        """It ended early, went on too long or came too slowly."""


class FileStream:
    """A file, or a part of it, being downloaded; used by one thread at a time. Close it (or use ``with``) when done.

    ``size_bytes`` is how many bytes ``chunks`` will give, None if the upstream did not say: then a cut file looks
    whole, and only a digest can tell. They begin at ``offset_bytes`` of a file of ``total_bytes`` (None as above).
    ``etag`` is the file's, as it was sent, and ``checksums`` what the head promises of the whole file.
    """

    def __init__(
        self, exchange: Exchange, url: WebUrl, told: Told, limits: Limits, place: _Place | None = None
    ) -> None:
        self.size_bytes = exchange.length_bytes if place is None else place.length_bytes
        self.offset_bytes = 0 if place is None else place.first
        self.total_bytes = exchange.length_bytes if place is None else place.total_bytes
        self.etag = exchange.header("ETag")
        self.checksums = checksums(exchange.header)
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


def begin_file(_ask: Ask, exchange: Exchange, url: WebUrl, told: Told, limits: Limits) -> FileStream:
    """A stream over what ``url`` (after redirects) answered; the status has been checked, and is not an absence.

    Raises Failure for what cannot be the file's bytes as they are.
    """
    if exchange.status != 200:
        raise unusable(url.origin, f"HTTP {exchange.status} was not asked for")
    _check_plain(exchange, url)
    return FileStream(exchange, url, told, limits)


def begin_part(ask: Ask, exchange: Exchange, url: WebUrl, told: Told, limits: Limits) -> FileStream | None:
    """A stream over the part that was asked for, else as ``begin_file``; None where the upstream knows no ranges."""
    place = _place(ask, exchange, url)
    if place is None:
        return None
    if exchange.length_bytes not in {None, place.length_bytes}:
        raise unusable(url.origin, "the part is not as long as it says")
    return FileStream(exchange, url, told, limits, place)


def read_head(exchange: Exchange, url: WebUrl) -> FileHead | None:
    """What an answer to HEAD says; None where it does not say how long the file is. Raises Failure."""
    if exchange.status != 200:
        raise unusable(url.origin, f"HTTP {exchange.status} was not asked for")
    _check_plain(exchange, url)
    if exchange.length_bytes is None:
        return None
    return FileHead(exchange.length_bytes, checksums(exchange.header))


def check_present(ask: Ask, exchange: Exchange, deadline: float) -> None:
    """Raises NotFound when the upstream is sure that there is no such file."""
    if exchange.status in {404, 410}:
        exchange.drain(deadline)
        raise NotFound("file", ask.url.filename)


def read_part(ask: Ask, exchange: Exchange, url: WebUrl, deadline: float, limits: Limits, most: int) -> FilePart | None:
    """The part of a file that was asked for, whole, at most ``most`` bytes; None where the upstream knows no ranges.

    Raises Failure for an answer that is no such part.
    """
    place = _place(ask, exchange, url)
    if place is None:
        return None
    if place.length_bytes > most:
        raise unusable(url.origin, "it is another part of the file than was asked for")
    data = b""
    try:
        while len(data) <= place.length_bytes and (piece := exchange.read(deadline, limits.idle_seconds)):
            data += piece
    except TRANSPORT_ERRORS as error:
        raise broken(url.origin, error) from error
    if len(data) != place.length_bytes:
        raise unusable(url.origin, "the part is not as long as it says")
    return FilePart(data, place.first, place.total_bytes, exchange.header("Last-Modified"))


class _Place(NamedTuple):
    """Where in its file a part lies; ``last`` is included."""

    first: int
    last: int
    total_bytes: int

    @property
    def length_bytes(self) -> int:
        return self.last - self.first + 1


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def _place(ask: Ask, exchange: Exchange, url: WebUrl) -> _Place | None:
    """Where the part lies that was sent, which is the one that was asked for; None if it is the whole. Raises Failure."""
    if exchange.status == 200:
        return None
    found = _CONTENT_RANGE.fullmatch((exchange.header("Content-Range") or "").lower())
    if exchange.status != 206 or found is None:
        raise unusable(url.origin, f"HTTP {exchange.status} is no part of the file")
    place = _Place(*map(int, found.groups()))
    if not place.first <= place.last < place.total_bytes or not _is_asked(ask.part or "", place):
        raise unusable(url.origin, "it is another part of the file than was asked for")
    _check_plain(exchange, url)
    return place


def _is_asked(part: str, place: _Place) -> bool:
    begin, _, end = part.partition("-")
    highest = place.total_bytes - 1
    if not begin:
        return place[:2] == (max(0, place.total_bytes - int(end)), highest)
    return place[:2] == (int(begin), min(int(end), highest) if end else highest)


def _check_plain(exchange: Exchange, url: WebUrl) -> None:
    if (exchange.header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise unusable(url.origin, "it is in an encoding that was not asked for")
    if is_html_type(exchange.header("Content-Type") or ""):
        raise unusable(url.origin, "it is an HTML page instead of the file")
