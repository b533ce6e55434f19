"""The client for everything outside: Found, NotModified and MissingUpstream are answers, all else is unavailable.

Rules it keeps, whatever a caller asks: only vetted addresses; redirects by hand and vetted anew; credentials for
exactly the configured origin; nothing from ``.netrc``, proxy variables or cookies; every wait bounded; a body is whole
or an error. Messages name a host and a reason, and say the same for a blocked address as for a closed port.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote, urljoin

from registry.clock import Clock, system_clock
from registry.errors import NotFound, UpstreamUnavailable
from registry.upstream.answers import (
    DocumentAnswer,
    FileHead,
    FilePart,
    Found,
    Limits,
    MissingUpstream,
    NotModified,
    NoWatcher,
    Upstream,
    Watcher,
)
from registry.upstream.breaker import Breaker
from registry.upstream.dial import Resolver, system_resolver
from registry.upstream.document import read_document
from registry.upstream.download import FileStream, Told, begin_file, begin_part, check_present, read_head, read_part
from registry.upstream.failure import Failure, broken, check_status, retry_after_seconds, unreachable, unusable
from registry.upstream.guard import BlockedAddress, WebUrl, parse_url
from registry.upstream.line import Ask, Line
from registry.upstream.wire import TRANSPORT_ERRORS, Exchange

__all__ = [
    "DocumentAnswer",
    "FileStream",
    "Found",
    "Limits",
    "MissingUpstream",
    "NotModified",
    "Upstream",
    "UpstreamClient",
]

log = logging.getLogger(__name__)
T = TypeVar("T")
S = TypeVar("S", FileStream, FileStream | None)
_Begin = Callable[[Ask, Exchange, WebUrl, Told, Limits], S]

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LOCATION_SAFE = "/%:@!$&'()*+,;=~[]?#\\"


class UpstreamClient:
    """Asks upstreams. One per process, made after a fork; all methods may be called from many threads.

    ``monotonic`` drives the breakers; time-outs on sockets are real time whatever it says. ``watcher`` is told how each
    question ended.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        resolver: Resolver = system_resolver,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock = system_clock,
        sleep: Callable[[float], None] = time.sleep,
        fraction: Callable[[], float] = random.random,
        watcher: Watcher | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._resolver = resolver
        self._monotonic = monotonic
        self._clock = clock
        self._sleep = sleep
        self._fraction = fraction
        self._watcher: Watcher = watcher or NoWatcher()
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}

    def get_document(
        self,
        upstream: Upstream,
        url_or_path: str,
        *,
        accept: str,
        etag: str | None = None,
        last_modified: str | None = None,
        limit_bytes: int,
    ) -> DocumentAnswer:
        """Fetch a document whole, at most ``limit_bytes`` decoded, retrying within ``Limits.document_seconds``.

        ``url_or_path`` is absolute, or a path beneath ``base_url``; ``etag`` and ``last_modified`` are those of the
        copy the caller holds. Raises UpstreamUnavailable.
        """
        wished = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        validators = {name: value for name, value in wished.items() if value}

        def once(line: Line, deadline: float) -> DocumentAnswer:
            ask = Ask(url=line.resolve(url_or_path), accept=accept, encoding="gzip", validators=validators)
            exchange, url = self._follow(line, ask, deadline)
            with exchange:
                answer = read_document(
                    ask,
                    exchange,
                    url,
                    deadline=deadline,
                    idle_seconds=self._limits.idle_seconds,
                    limit_bytes=limit_bytes,
                )
            line.breaker(url.origin).succeeded()
            return answer

        return self._persist(upstream, once)

    def post_document(
        self,
        upstream: Upstream,
        path: str,
        body: bytes,
        *,
        accept: str,
        seconds: float,
        limit_bytes: int,
        content_type: str = "application/json",
    ) -> DocumentAnswer:
        """Ask a question that needs a body: once, within ``seconds``, without following redirects.

        Only for what may arrive twice. Raises UpstreamUnavailable.
        """
        line = self._line(upstream)
        deadline = time.monotonic() + seconds
        try:
            url = line.resolve(path)
            ask = Ask(url=url, accept=accept, encoding="gzip", validators={}, body=body, content_type=content_type)
            exchange, url = self._follow(line, ask, deadline)
            with exchange:
                idle_seconds = self._limits.idle_seconds
                answer = read_document(
                    ask, exchange, url, deadline=deadline, idle_seconds=idle_seconds, limit_bytes=limit_bytes
                )
        except Failure as failure:
            if failure.is_outage or failure.was_not_asked:
                raise self._given_up(line, failure) from failure.__cause__
            # It is there, and has no answer to such a question: nothing that its health would suffer from.
            raise UpstreamUnavailable(str(failure)) from failure.__cause__
        line.breaker(url.origin).succeeded()
        return answer

    def open_file(self, upstream: Upstream, url: str) -> FileStream:
        """Begin to download a file; close the stream, or use it in ``with``.

        Raises NotFound (404, 410) and UpstreamUnavailable; ``FileStream.chunks`` raises the latter too. Retries end
        with the head: the caller may have passed on what came before.
        """
        return self._persist(upstream, lambda line, deadline: self._begin(line, _file(line, url), deadline, begin_file))

    def open_part(self, upstream: Upstream, url: str, part: str) -> FileStream | None:
        """Begin to download a part of a file, ``first-last`` (both included); else as ``open_file``.

        None where the upstream answers with the whole file instead, which is then not read. The bytes are as the
        upstream gave them: no digest covers a part.
        """

        def once(line: Line, deadline: float) -> FileStream | None:
            return self._begin(line, _file(line, url, part=part), deadline, begin_part)

        return self._persist(upstream, once)

    def read_part(self, upstream: Upstream, url: str, part: str, *, limit_bytes: int) -> FilePart | None:
        """Some bytes of a file: ``part`` is ``first-last`` (both included) or ``-count`` for its end.

        None, and no digest, as for ``open_part``. Raises NotFound and UpstreamUnavailable.
        """

        def once(line: Line, deadline: float) -> FilePart | None:
            ask = _file(line, url, part=part)
            exchange, final = self._follow(line, ask, deadline)
            with exchange:
                check_present(ask, exchange, deadline)
                found = read_part(ask, exchange, final, deadline, self._limits, limit_bytes)
                if found is not None:
                    exchange.drain(deadline)
            line.breaker(final.origin).succeeded()
            return found

        return self._persist(upstream, once)

    def head_file(self, upstream: Upstream, url: str) -> FileHead | None:
        """What the upstream says of a file without sending it; None where it does not answer that, or not the length.

        Raises NotFound (404, 410) and UpstreamUnavailable.
        """

        def once(line: Line, deadline: float) -> FileHead | None:
            ask = replace(_file(line, url), wants_head_only=True)
            try:
                exchange, final = self._follow(line, ask, deadline)
                with exchange:
                    check_present(ask, exchange, deadline)
                    found = read_head(exchange, final)
            except Failure as failure:
                if failure.retryable or failure.was_not_asked:
                    raise
                return None  # some servers and signed URLs know GET only; a GET will tell
            line.breaker(final.origin).succeeded()
            return found

        return self._persist(upstream, once)

    def close(self) -> None:
        """Close idle connections; the client may be used again."""
        with self._lock:
            lines, self._lines = self._lines, {}
        for line in lines.values():
            line.wire.close()

    def _begin(self, line: Line, ask: Ask, deadline: float, begin: _Begin[S]) -> S:
        exchange, final = self._follow(line, ask, deadline)
        breaker = line.breaker(final.origin)
        try:
            check_present(ask, exchange, deadline)
            stream = begin(ask, exchange, final, _Told(self._watcher, line.upstream.id, breaker), self._limits)
        except NotFound:
            breaker.succeeded()
            exchange.close()
            raise
        except BaseException:
            exchange.close()
            raise
        if stream is None:
            breaker.succeeded()
            exchange.close()
        return stream

    def _line(self, upstream: Upstream) -> Line:
        try:
            with self._lock:
                line = self._lines.get(upstream.id)
                if line is not None and line.upstream == upstream:
                    return line
                # An edited connection starts anew: its old sockets were vetted under another policy.
                fresh = self._lines[upstream.id] = Line(upstream, self._limits, self._resolver, self._monotonic)
        except BlockedAddress as refused:
            reason = f"the external connection's URL is refused: {refused}"
            self._watcher.failed(upstream.id, reason, 0.0)
            raise UpstreamUnavailable(reason) from None
        if line is not None:
            line.wire.close()
        return fresh

    def _persist(self, upstream: Upstream, once: Callable[[Line, float], T]) -> T:
        """Try, and try again what may pass (GET only, so repeating is safe), within the time for a document."""
        line = self._line(upstream)
        deadline = time.monotonic() + self._limits.document_seconds
        attempt = 0
        while True:
            try:
                answer = once(line, deadline)
            except NotFound:
                self._watcher.succeeded(upstream.id)
                raise
            except Failure as failure:
                pause_seconds = self._pause_seconds(failure, attempt)
                if pause_seconds is None or time.monotonic() + pause_seconds >= deadline:
                    raise self._given_up(line, failure) from failure.__cause__
            else:
                self._watcher.succeeded(upstream.id)
                return answer
            self._sleep(pause_seconds)
            attempt += 1

    def _pause_seconds(self, failure: Failure, attempt: int) -> float | None:
        """How long to wait before the next attempt; None when there is none."""
        if not failure.retryable or attempt >= self._limits.retries:
            return None
        if failure.wait_seconds is not None:
            return failure.wait_seconds if failure.wait_seconds <= self._limits.longest_wait_seconds else None
        return self._fraction() * self._limits.backoff_seconds * 2.0**attempt

    def _given_up(self, line: Line, failure: Failure) -> UpstreamUnavailable:
        wait_seconds = failure.wait_seconds
        left_alone_seconds = 0.0
        if failure.origin is not None:
            breaker = line.breaker(failure.origin)
            if failure.is_outage:
                breaker.failed()
            else:
                breaker.succeeded()
            if wait_seconds is not None:
                breaker.hold(wait_seconds)
            left_alone_seconds = breaker.wait_seconds()
        if not failure.was_not_asked:
            self._watcher.failed(line.upstream.id, str(failure), left_alone_seconds)
        log.warning("upstream %s: %s", line.base.origin.host, failure)
        return UpstreamUnavailable(str(failure), retry_after_seconds=max(1, math.ceil(wait_seconds or 5)))

    def _follow(self, line: Line, ask: Ask, deadline: float) -> tuple[Exchange, WebUrl]:
        """Ask, through at most five redirects, each of them vetted like the first URL. The status is checked."""
        url = ask.url
        for _ in range(MAX_REDIRECTS + 1):
            exchange = self._hop(line, ask, url, deadline)
            if exchange.status not in _REDIRECTS:
                try:
                    wait = exchange.header("Retry-After")
                    longest_seconds = self._limits.longest_hold_seconds
                    check_status(exchange.status, url.origin, retry_after_seconds(wait, self._clock(), longest_seconds))
                except Failure:
                    exchange.close()
                    raise
                return exchange, url
            location = exchange.header("Location")
            if ask.body is not None:
                exchange.close()
                raise unusable(url.origin, "it redirects what is posted")
            exchange.drain(deadline)
            exchange.close()
            line.breaker(url.origin).succeeded()
            url = _next_url(url, location)
        raise unusable(ask.url.origin, f"it redirects more than {MAX_REDIRECTS} times")

    def _hop(self, line: Line, ask: Ask, url: WebUrl, deadline: float) -> Exchange:
        host = url.origin.host
        try:
            line.vet(url)
            breaker = line.breaker(url.origin)
            if not breaker.admit():
                wait_seconds = breaker.wait_seconds()
                raise Failure(
                    f"{host} is left alone for a while after failing", wait_seconds=wait_seconds, was_not_asked=True
                )
            return line.wire.request(url, line.headers(ask, url), deadline, ask.body, method=ask.method)
        except BlockedAddress as blocked:
            log.warning("upstream %s: %s", line.base.origin.host, blocked)
            raise unreachable(url.origin) from None
        except TRANSPORT_ERRORS as error:
            raise broken(url.origin, error) from error


def _file(line: Line, url: str, *, part: str | None = None) -> Ask:
    return Ask(url=line.resolve(url), accept="*/*", encoding="identity", validators={}, part=part)


class _Told:
    """A file's end told to its origin's breaker and to the watcher."""

    def __init__(self, watcher: Watcher, upstream_id: int, breaker: Breaker) -> None:
        self._watcher = watcher
        self._upstream_id = upstream_id
        self._breaker = breaker

    def whole(self) -> None:
        self._breaker.succeeded()
        self._watcher.succeeded(self._upstream_id)

    def broken(self, reason: str) -> None:
        self._breaker.failed()
        self._watcher.failed(self._upstream_id, reason, self._breaker.wait_seconds())


def _next_url(url: WebUrl, location: str | None) -> WebUrl:
    if not location:
        raise unusable(url.origin, "it redirects to nowhere")
    try:
        # http.client gives header bytes as Latin-1; escaped here, they reach the next server as they came.
        following = parse_url(urljoin(str(url), quote(location.encode("latin-1"), safe=_LOCATION_SAFE)))
    except BlockedAddress as refused:
        raise unusable(url.origin, f"it redirects to a refused URL: {refused}") from None
    except ValueError:
        raise unusable(url.origin, "it redirects to something that is not a URL") from None
    if url.origin.scheme == "https" and following.origin.scheme == "http":
        raise unusable(url.origin, "it redirects from https to http")
    return following
