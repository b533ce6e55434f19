"""One POST to an endpoint: to a vetted address, without following anything, and with an end to all patience."""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException

from registry.upstream.answers import Limits
from registry.upstream.dial import Dialer, Resolver, system_resolver
from registry.upstream.guard import AddressPolicy, BlockedAddress, WebUrl, check_url
from registry.upstream.wire import TRANSPORT_ERRORS, BrokenAnswer, Exchange, Wire, tls_context

log = logging.getLogger("entrepot.webhooks")

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 15.0
MOST_ANSWER_BYTES = 16 * 1024
SHOWN_ANSWER_BYTES = 1024
_LONGEST_URL = 2000


@dataclass(frozen=True, slots=True)
class Rules:
    """Where webhooks may go: ``policy`` beyond global addresses, and whether without TLS."""

    policy: AddressPolicy = field(default_factory=AddressPolicy)
    allow_http: bool = False

    def check(self, url: str) -> WebUrl:
        """Parse and vet a URL, before anything is resolved. Raises BlockedAddress (which is Invalid)."""
        if len(url) > _LONGEST_URL:
            raise BlockedAddress(f"the URL is longer than {_LONGEST_URL} characters")
        parsed = check_url(url, self.policy)
        if parsed.origin.scheme != "https" and not self.allow_http:
            raise BlockedAddress("the URL must start with https://")
        return parsed


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt brought: ``status`` None without an answer, ``error`` says why or is empty.

    ``body`` is the answer's first KiB as text. ``retry_after`` is the field of that name.
    """

    status: int | None
    error: str
    body: str
    retry_after: str | None
    took_ms: int


class Sender:
    """Opens ``Post``s. Used by many threads."""

    def __init__(self, rules: Rules, *, ca_bundle: str | None = None, resolver: Resolver = system_resolver) -> None:
        self.rules = rules
        self._resolver = resolver
        self._context = functools.cache(lambda: tls_context(ca_bundle))

    def open(self) -> Post:
        """Connections to be used for some deliveries to one endpoint, and then closed."""
        # Without adoption: a private address is permitted by the settings or not at all.
        dialer = Dialer("", self.rules.policy, resolver=self._resolver, connect_seconds=CONNECT_SECONDS, adopts=False)
        limits = Limits(head_seconds=WHOLE_SECONDS, idle_connections=8, idle_connection_seconds=5.0)
        return Post(self.rules, Wire(dialer, self._tls, limits))

    def _tls(self) -> ssl.SSLContext:
        return self._context()


class Post:
    """Sends to one endpoint over kept connections. Used by the threads of one job."""

    def __init__(self, rules: Rules, wire: Wire) -> None:
        self._rules = rules
        self._wire = wire

    def close(self) -> None:
        """Close what is idle."""
        self._wire.close()

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST ``body``. Never raises for what the network or the receiver does."""
        began = time.monotonic()
        deadline = began + WHOLE_SECONDS
        status, error, text, retry_after = None, "", "", None
        try:
            target = self._rules.check(url)
            fixed = {**headers, "Content-Length": str(len(body)), "User-Agent": "Entrepot-Webhooks"}
            with self._wire.request(target, fixed, deadline, body, method="POST") as answer:
                status, retry_after = answer.status, answer.header("Retry-After")
                text = _shown(_read(answer, deadline))
        except BlockedAddress as blocked:
            # Whose address it is, and in which network, is not for whoever typed the name.
            log.warning("a webhook is not sent: %s", blocked)
            error = "the URL leads to an address that webhooks may not go to"
        except TRANSPORT_ERRORS as failure:
            error = _reason(failure)
        return Answer(status, error, text, retry_after, round((time.monotonic() - began) * 1000))


def _read(answer: Exchange, deadline: float) -> bytes:
    """The body's beginning, never more than ``MOST_ANSWER_BYTES``; what cannot be read does not change the answer."""
    found = b""
    try:
        while len(found) < MOST_ANSWER_BYTES:
            piece = answer.read(deadline, WHOLE_SECONDS, MOST_ANSWER_BYTES - len(found))
            if not piece:
                break
            found += piece
    except TRANSPORT_ERRORS as failure:
        log.info("the answer of a webhook was cut off: %s", failure)
    return found


def _shown(body: bytes) -> str:
    text = body[:SHOWN_ANSWER_BYTES].decode("utf-8", "replace")
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def _reason(failure: Exception) -> str:
    if isinstance(failure, TimeoutError):
        return "no answer in time"
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {failure.verify_message}"[:300]
    if isinstance(failure, ssl.SSLError):
        return "TLS failed"
    if isinstance(failure, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(failure, ConnectionError):
        return "the connection was broken off"
    if isinstance(failure, HTTPException | BrokenAnswer):
        return "the answer is not HTTP"
    return "the host cannot be reached"
