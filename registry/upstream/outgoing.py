"""Sending to registries elsewhere: the same vetted addresses, origins and bounds as for what is fetched.

What it never does: follow a redirect (it would take a body, or a credential, to where nobody has sent it), ask a proxy
or a ``.netrc``, keep a connection for the next upload, or tell a credential in a message.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from registry.clock import Clock, system_clock
from registry.errors import UpstreamUnavailable
from registry.outward import Body, Reply, SendRefused
from registry.upstream.answers import Limits, Upstream
from registry.upstream.dial import Resolver, system_resolver
from registry.upstream.failure import Failure, broken, retry_after_seconds, unreachable
from registry.upstream.guard import BlockedAddress, WebUrl
from registry.upstream.line import Ask, Line
from registry.upstream.wire import TRANSPORT_ERRORS, Exchange

log = logging.getLogger(__name__)

# A body that was kept half-sent on a kept connection could not be sent again: none is kept.
PATIENCE = Limits(head_seconds=300.0, idle_seconds=60.0, idle_connections=0)
_FLOOR_BYTES_PER_SECOND = 16 * 1024
_GRACE_SECONDS = 120.0
_REPLY_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 200
_PASSING = frozenset({408, 425, 429})
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    url: WebUrl
    accept: str = "*/*"
    body: Body | None = field(default=None, repr=False)


class Site:
    """One destination, for one publication (``registry.outward.Remote``). Close it."""

    def __init__(
        self,
        upstream: Upstream,
        index_url: str = "",
        *,
        limits: Limits = PATIENCE,
        resolver: Resolver = system_resolver,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``index_url`` is where it is looked up what is there. Raises BlockedAddress for a URL that is not gone to."""
        self.url = upstream.base_url.rstrip("/")
        self.index_url = index_url.rstrip("/")
        self._line = Line(upstream, limits, resolver, monotonic)
        self._limits = limits
        self._clock = clock
        self._secrets = [text for text in (*(upstream.credential or ()), upstream.token) if text and len(text) > 3]

    def close(self) -> None:
        """Close what is open."""
        self._line.wire.close()

    def get(self, url: str, *, accept: str, limit_bytes: int) -> Reply:
        """Read a document; status 200 or 404."""
        deadline = time.monotonic() + _GRACE_SECONDS
        asked = _Asked("GET", self._resolve(url), accept)
        with self._ask(asked, deadline) as exchange:
            if exchange.status == 404:
                return Reply(404, b"", "")
            body = self._read(asked.url, exchange, deadline, limit_bytes)
            if len(body) > limit_bytes:
                raise SendRefused(f"{asked.url.origin.host} answered more than {limit_bytes} bytes", exchange.status)
            return Reply(exchange.status, body, exchange.header("Content-Type") or "")

    def sha256_of(self, url: str) -> str | None:
        """The digest of a file that is there; None for 404."""
        deadline = time.monotonic() + _GRACE_SECONDS
        asked = _Asked("GET", self._resolve(url))
        with self._ask(asked, deadline) as exchange:
            if exchange.status == 404:
                return None
            counted = hashlib.sha256()
            deadline += (exchange.length_bytes or 0) / _FLOOR_BYTES_PER_SECOND
            try:
                while piece := exchange.read(deadline, self._limits.idle_seconds):
                    counted.update(piece)
            except TRANSPORT_ERRORS as error:
                raise self._passing(broken(asked.url.origin, error)) from error
            return counted.hexdigest()

    def send(self, method: str, url: str, body: Body) -> Reply:
        """Send a body; a status of success."""
        deadline = time.monotonic() + _GRACE_SECONDS + body.size_bytes / _FLOOR_BYTES_PER_SECOND
        asked = _Asked(method, self._resolve(url), body=body)
        with self._ask(asked, deadline) as exchange:
            if exchange.status == 404:
                raise SendRefused(f"{asked.url.origin.host} answered HTTP 404: there is nothing to send to", 404)
            return Reply(exchange.status, self._read(asked.url, exchange, deadline, _REPLY_BYTES), "")

    def _resolve(self, url: str) -> WebUrl:
        try:
            found = self._line.resolve(url)
            self._line.vet(found)
        except Failure as failure:
            raise SendRefused(str(failure), 0) from failure
        except BlockedAddress as blocked:
            log.warning("nothing is sent to %s: %s", self._line.base.origin.host, blocked)
            raise SendRefused(str(unreachable(self._line.base.origin)), 0) from None
        return found

    def _ask(self, asked: _Asked, deadline: float) -> Exchange:
        """One request; the status of its answer is success or 404."""
        origin = asked.url.origin
        ask = Ask(url=asked.url, accept=asked.accept, encoding="identity", validators={})
        headers = self._line.headers(ask, asked.url)
        body = asked.body
        if body is not None:
            headers |= {"Content-Type": body.content_type, "Content-Length": str(body.size_bytes)}
        chunks = None if body is None else body.chunks()
        try:
            exchange = self._line.wire.request(asked.url, headers, deadline, chunks, method=asked.method)
        except BlockedAddress as blocked:
            # Whose address it is, and in which network, is not for whoever typed the name.
            log.warning("nothing is sent to %s: %s", origin.host, blocked)
            raise SendRefused(str(unreachable(origin)), 0) from None
        except Failure as failure:
            raise SendRefused(str(failure), 0) from failure
        except TRANSPORT_ERRORS as error:
            raise self._passing(broken(origin, error)) from error
        if exchange.status in {200, 201, 202, 204, 404}:
            return exchange
        with exchange:
            raise self._refusal(asked, exchange, deadline)

    def _refusal(self, asked: _Asked, exchange: Exchange, deadline: float) -> Exception:
        host, status = asked.url.origin.host, exchange.status
        if status in _PASSING or status >= 500:
            longest_seconds = self._limits.longest_hold_seconds
            wait = retry_after_seconds(exchange.header("Retry-After"), self._clock(), longest_seconds)
            return self._passing(Failure(f"{host} answered HTTP {status}", wait_seconds=wait))
        if status in _REDIRECTS:
            told = "it redirects, and nothing is sent on; give the URL itself"
            if asked.method == "GET":
                told = "it redirects who asks what is there already, and nobody is followed"
            return SendRefused(f"{host} answered HTTP {status}: {told}", status)
        if status in {401, 403} and asked.method == "GET":
            return SendRefused(
                f"{host} answered HTTP {status}: the destination's credential may not read there", status
            )
        said = self._shown(self._read(asked.url, exchange, deadline, _REPLY_BYTES))
        return SendRefused(f"{host} answered HTTP {status}" + (f": {said}" if said else ""), status)

    def _read(self, url: WebUrl, exchange: Exchange, deadline: float, limit_bytes: int) -> bytes:
        found = bytearray()
        try:
            while len(found) <= limit_bytes and (piece := exchange.read(deadline, self._limits.idle_seconds)):
                found += piece
        except TRANSPORT_ERRORS as error:
            raise self._passing(broken(url.origin, error)) from error
        return bytes(found)

    def _shown(self, body: bytes) -> str:
        """The beginning of a refusal as one line of text, unless it repeats what it was sent."""
        text = " ".join(
            "".join(char if char.isprintable() else " " for char in body.decode("utf-8", "replace")).split()
        )
        # Cut only after the look: half a secret is one, too.
        if any(secret in text for secret in (*self._secrets, *self._authorizations())):
            return "(what it says repeats the credential, and is not shown)"
        return text[:_SHOWN_CHARACTERS]

    def _authorizations(self) -> list[str]:
        ask = Ask(url=self._line.base, accept="*/*", encoding="identity", validators={})
        sent = self._line.headers(ask, self._line.base).get("Authorization", "")
        return [sent.partition(" ")[2]] if sent else []

    def _passing(self, failure: Failure) -> UpstreamUnavailable:
        return UpstreamUnavailable(str(failure), retry_after_seconds=max(1, math.ceil(failure.wait_seconds or 5)))
