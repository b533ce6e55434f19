"""HTTP/1.1 over vetted sockets: one request, one answer, and the connection kept for the next one.

On ``http.client`` and nothing above it: no cookies, no .netrc, no proxy variables, no redirects, no decoding happen
here that we did not write, and the length of every body is ours to enforce.
"""

from __future__ import annotations

import http.client
import os
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.upstream.answers import Limits
from registry.upstream.dial import BoundedSocket, BoundedTlsSocket, Dialer
from registry.upstream.guard import Origin, WebUrl

_DRAIN_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT")


class BrokenAnswer(Exception):
    """The peer does not keep to HTTP/1.1: wrong length, broken chunks, an answer that cannot be framed."""


TRANSPORT_ERRORS = (OSError, http.client.HTTPException, BrokenAnswer)
"""What ``Wire.request`` and ``Exchange.read`` raise for a peer's fault; ``BlockedAddress`` comes besides."""


def tls_context(ca_bundle: str | None, ca_pem: str | None = None) -> ssl.SSLContext:
    """Certificates and names are checked. Raises OSError when the bundle cannot be read.

    Without a bundle of its own a connection uses what the ecosystem's clients use on this machine, else the system's.
    """
    if ca_pem is not None:
        own = ssl.create_default_context(cadata=ca_pem)
        own.sslsocket_class = BoundedTlsSocket
        return own
    bundle = ca_bundle or next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), None)
    if bundle is None:
        context = ssl.create_default_context()
    elif Path(bundle).is_dir():
        context = ssl.create_default_context(capath=bundle)
    else:
        context = ssl.create_default_context(cafile=bundle)
    context.sslsocket_class = BoundedTlsSocket
    return context


class _Connection(http.client.HTTPConnection):
    sock: BoundedSocket | BoundedTlsSocket | None

    def __init__(self, origin: Origin, dialer: Dialer, context: ssl.SSLContext | None, deadline: float) -> None:
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self.idle_since = 0.0
        self._dialer = dialer
        self._context = context
        self._deadline = deadline

    def connect(self) -> None:
        plain = self._dialer.dial(self.origin.host, self.origin.port, self._deadline)
        if self._context is None:
            self.sock = plain
            return
        try:
            plain.settimeout(max(0.01, min(self._dialer.connect_seconds, self._deadline - time.monotonic())))
            # The name goes into SNI and is what the certificate must be for; the address is already chosen.
            secured = self._context.wrap_socket(plain, server_hostname=self.origin.host)
        except BaseException:
            plain.close()
            raise
        assert isinstance(secured, BoundedTlsSocket)
        self.sock = secured

    def is_usable(self, idle_limit_seconds: float) -> bool:
        """Whether an idle connection may serve again: nothing may be waiting on it, neither an end nor stray bytes."""
        if self.sock is None or time.monotonic() - self.idle_since > idle_limit_seconds:
            return False
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return not poller.poll(0)


class Wire:
    """The connections of one upstream. Used by many threads; made after a fork, never before."""

    def __init__(self, dialer: Dialer, context: Callable[[], ssl.SSLContext], limits: Limits) -> None:
        self._dialer = dialer
        self._context = context
        self._limits = limits
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[_Connection]] = {}

    def request(
        self,
        url: WebUrl,
        headers: Mapping[str, str],
        deadline: float,
        body: bytes | Iterator[bytes] | None = None,
        *,
        method: str = "GET",
    ) -> Exchange:
        """Ask for ``url``, and read the answer's head. Raises BlockedAddress or one of TRANSPORT_ERRORS.

        A kept connection that the peer closed just now is replaced by a fresh one, without counting as a failure: what
        is posted must bear to arrive twice. A body in pieces (``headers`` say its length) can be sent once only: it
        takes ``Limits`` that keep no connections.
        """
        kept = self._take(url.origin)
        if kept is not None:
            try:
                return self._exchange(kept, method, url, headers, deadline, body)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                kept.close()
        context = self._context() if url.origin.scheme == "https" else None
        fresh = _Connection(url.origin, self._dialer, context, deadline)
        fresh.connect()
        return self._exchange(fresh, method, url, headers, deadline, body)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        connection.idle_since = time.monotonic()
        with self._lock:
            kept = self._idle.setdefault(connection.origin, [])
            if len(kept) < self._limits.idle_connections:
                kept.append(connection)
                return
        connection.close()

    def _take(self, origin: Origin) -> _Connection | None:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection = kept.pop() if kept else None
            if connection is None or connection.is_usable(self._limits.idle_connection_seconds):
                return connection
            connection.close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        url: WebUrl,
        headers: Mapping[str, str],
        deadline: float,
        body: bytes | Iterator[bytes] | None,
    ) -> Exchange:
        sock = connection.sock
        assert sock is not None
        head_seconds = self._limits.head_seconds
        try:
            sock.bound(min(deadline, time.monotonic() + head_seconds), head_seconds)
            connection.putrequest(method, url.target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", url.origin.authority)
            for name, value in headers.items():
                connection.putheader(name, value)
            try:
                connection.endheaders(body)
            except (BrokenPipeError, ConnectionResetError):
                # A peer that refuses a long body answers before its end, and reads no further: what it said counts.
                if body is None:
                    raise
            # What was sent may have taken long; the patience for the answer begins now.
            sock.bound(min(deadline, time.monotonic() + head_seconds), head_seconds)
            return Exchange(self, connection, sock, connection.getresponse(), has_body=method != "HEAD")
        except BaseException:
            connection.close()
            raise


class Exchange:
    """One answer being read. Closing it gives the connection back if the body was read to its end, else drops it.

    ``length_bytes`` is the body's length as announced, None if it was not; ``is_unframed`` tells that nothing but the
    end of the connection marks the body's end, so that a cut body looks whole. Without a body (the answer to a HEAD)
    the length is that of what a GET would bring, and there is nothing to read.
    """

    def __init__(
        self,
        wire: Wire,
        connection: _Connection,
        sock: BoundedSocket | BoundedTlsSocket,
        response: http.client.HTTPResponse,
        *,
        has_body: bool = True,
    ) -> None:
        self._wire = wire
        self._connection = connection
        self._sock = sock
        self._response = response
        self._is_whole = not has_body
        self._received_bytes = 0
        self.status = response.status
        self.is_chunked = bool(response.chunked)
        self.length_bytes = self._announced_length()
        self.is_unframed = self.length_bytes is None and not self.is_chunked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def header(self, name: str) -> str | None:
        """A field's value (several are joined); None if absent, or if it holds control characters."""
        value = self._response.getheader(name)
        return value if value is not None and value.isprintable() else None

    def read(self, deadline: float, idle_seconds: float, at_most: int = _READ_BYTES) -> bytes:
        """The next piece as it arrives, empty at the verified end. Raises one of TRANSPORT_ERRORS."""
        if self._is_whole:
            return b""
        if self.length_bytes is not None and self._received_bytes >= self.length_bytes:
            self._end()
            return b""
        self._sock.bound(deadline, idle_seconds)
        piece = self._response.read1(at_most)
        self._received_bytes += len(piece)
        if not piece:
            if self.length_bytes is not None:
                raise BrokenAnswer(f"it ended after {self._received_bytes} of {self.length_bytes} bytes")
            self._end()
        return piece

    def drain(self, deadline: float) -> None:
        """Read away a small body that nobody wants (a redirect's, a 404's), so that the connection can be kept."""
        if self.is_unframed or (self.length_bytes or 0) > _DRAIN_BYTES:
            return
        try:
            while self._received_bytes <= _DRAIN_BYTES and self.read(deadline, idle_seconds=1.0):
                pass
        except TRANSPORT_ERRORS:
            # The answer's head is all that was wanted; ``close`` drops the connection.
            return

    def close(self) -> None:
        """Idempotent."""
        reusable = self._is_whole and not self._response.will_close
        self._response.close()
        if reusable and self._connection.sock is not None:
            self._wire.give_back(self._connection)
        else:
            self._connection.close()
        self._is_whole = False

    def _end(self) -> None:
        """Accept the body's end, unless the peer has sent more than it announced: then its length means nothing."""
        if self.length_bytes is not None and self._has_leftover():
            raise BrokenAnswer("it is longer than it said")
        self._is_whole = True

    def _has_leftover(self) -> bool:
        if isinstance(self._sock, BoundedTlsSocket) and self._sock.pending():
            return True
        # With a deadline in the past the buffered reader can show what it holds and cannot ask the socket for more.
        self._sock.bound(0.0, 1.0)
        try:
            return bool(self._response.fp.peek(1))
        except TimeoutError:
            return False

    def _announced_length(self) -> int | None:
        """RFC 9112 section 6.3: chunks go before a length; lengths that differ or are no number are an error."""
        coding = (self._response.getheader("Transfer-Encoding") or "").strip().lower()
        if coding not in {"", "chunked"}:
            raise BrokenAnswer("it is in a transfer coding that was not asked for")
        if self.status in {204, 304}:
            return 0
        if coding:
            return None
        lengths = list(dict.fromkeys(value.strip() for value in self._response.headers.get_all("Content-Length", [])))
        if not lengths:
            return None
        length = lengths[0]
        if len(lengths) > 1 or not (length.isascii() and length.isdigit() and len(length) < 19):
            raise BrokenAnswer("its length cannot be read")
        return int(length)
