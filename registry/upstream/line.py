"""What the process keeps about one upstream, and the rules for a URL that need no resolution."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

from registry.upstream.answers import Limits, Upstream
from registry.upstream.breaker import Breaker
from registry.upstream.dial import Dialer, Resolver
from registry.upstream.failure import Failure
from registry.upstream.guard import DEFAULT_PORTS, BlockedAddress, Origin, WebUrl, parse_url
from registry.upstream.wire import Wire, tls_context

_USER_AGENT = "entrepot (package registry)"
_MOST_ORIGINS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one request wants. ``validators`` are If-None-Match and If-Modified-Since fields.

    ``part`` is a range in bytes as RFC 9110 section 14.1.2 writes it: ``0-99``, ``100-`` or, for the end, ``-100``.
    With a ``body`` (of ``content_type``) it is a POST, with ``wants_head_only`` a HEAD, else a GET.
    """

    url: WebUrl
    accept: str
    encoding: str
    validators: dict[str, str]
    part: str | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    wants_head_only: bool = False

    @property
    def method(self) -> str:
        """How it is asked."""
        return "POST" if self.body is not None else "HEAD" if self.wants_head_only else "GET"


class Line:
    """One upstream's connections, and its origins' luck. Used by many threads.

    Raises BlockedAddress when the base URL is not one that may be asked.
    """

    def __init__(self, upstream: Upstream, limits: Limits, resolver: Resolver, monotonic: Callable[[], float]) -> None:
        self.upstream = upstream
        self.base = parse_url(upstream.base_url)
        self._limits = limits
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._breakers: dict[Origin, Breaker] = {}
        self._context: ssl.SSLContext | None = None
        dialer = Dialer(
            self.base.origin.host,
            upstream.policy,
            resolver=resolver,
            resolve_seconds=limits.resolve_seconds,
            connect_seconds=limits.connect_seconds,
        )
        self.wire = Wire(dialer, self._tls_context, limits)

    def breaker(self, origin: Origin) -> Breaker:
        """One per origin: a dead file host must not close the index beside it, nor the living index hide its death."""
        with self._lock:
            # A hostile index could name a new host in every link.
            if len(self._breakers) >= _MOST_ORIGINS and origin not in self._breakers:
                self._breakers.clear()
            return self._breakers.setdefault(
                origin,
                Breaker(
                    self._monotonic,
                    threshold=self._limits.breaker_failures,
                    probe_seconds=self._limits.breaker_probe_seconds,
                ),
            )

    def resolve(self, url_or_path: str) -> WebUrl:
        """An absolute URL as it is, a path beneath the base URL. Raises Failure."""
        try:
            if "://" in url_or_path.partition("?")[0]:
                return parse_url(url_or_path)
            base = self.base.without_query.removesuffix("/")
            return parse_url(f"{base}/{url_or_path.removeprefix('/')}")
        except BlockedAddress as refused:
            raise Failure(f"a URL from {self.base.origin.host} is refused: {refused}") from None

    def vet(self, url: WebUrl) -> None:
        """The rules for scheme, port and name. Raises BlockedAddress."""
        if url.origin.scheme == "http" and self.base.origin.scheme == "https":
            raise BlockedAddress(f"{url.origin.host} is asked without TLS, the connection is configured with it")
        # Below 1024 live the services that a request line can hurt (mail, for one).
        if url.origin.port < 1024 and url.origin.port not in {*DEFAULT_PORTS.values(), self.base.origin.port}:
            raise BlockedAddress(f"port {url.origin.port} is not for the web")
        self.upstream.policy.check_host(url.origin.host)

    def headers(self, ask: Ask, url: WebUrl) -> dict[str, str]:
        """Everything sent besides Host. An origin that a redirect led to gets only the harmless fields."""
        headers = {"User-Agent": _USER_AGENT, "Accept": ask.accept, "Accept-Encoding": ask.encoding}
        if ask.body is not None:
            headers |= {"Content-Type": ask.content_type, "Content-Length": str(len(ask.body))}
        if ask.part is not None:
            headers["Range"] = f"bytes={ask.part}"
        if url.origin == ask.url.origin:
            headers |= ask.validators
        if url.origin == self.base.origin:
            headers |= self._authorization()
        return headers

    def _authorization(self) -> dict[str, str]:
        if self.upstream.token is not None:
            return {"Authorization": f"Bearer {self.upstream.token}"}
        if self.upstream.credential is None:
            return {}
        pair = ":".join(self.upstream.credential).encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}

    def _tls_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                try:
                    self._context = tls_context(self.upstream.ca_bundle, self.upstream.ca_pem)
                except OSError:
                    raise Failure("the certificate bundle of the external connection cannot be read") from None
            return self._context
