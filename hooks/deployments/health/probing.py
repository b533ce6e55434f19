"""Asks targets and Prometheus: only at vetted addresses, once, without following anything, and with an end to all patience."""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from hooks.deployments.health.alarms import Measured, Poll, PollFailed, PrometheusAlarm
from hooks.deployments.health.checks import HttpCheck, TcpCheck
from registry import json_text
from registry.errors import Invalid
from registry.upstream.answers import Limits
from registry.upstream.dial import Dialer, Resolver, system_resolver
from registry.upstream.guard import AddressPolicy, BlockedAddress, WebUrl, parse_url
from registry.upstream.wire import TRANSPORT_ERRORS, BrokenAnswer, Exchange, Wire, tls_context

log = logging.getLogger("entrepot.deployments")

MOST_BODY_BYTES = 64 * 1024
"""So much of a checked page is read, and looked at for ``bodyContains``."""
MOST_ANSWER_BYTES = 1024 * 1024
MOST_SERIES = 10_000
_NOT_PROMETHEUS = "the answer is not Prometheus'"
_REFUSED = "its address is none that checks may go to (check_networks of the settings)"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one question ended: whether the target passed, and in words what it said."""

    passed: bool
    detail: str
    took_ms: int


class Prober:
    """Asks. ``policy`` is what checks and alarms may reach beyond global addresses. Used by many threads."""

    def __init__(
        self, policy: AddressPolicy, *, ca_bundle: str | None = None, resolver: Resolver = system_resolver
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._context = functools.cache(lambda: tls_context(ca_bundle))

    def check(self, check: HttpCheck | TcpCheck, host: str, port: int | None) -> Answer:
        """Ask one target. Never raises for what the network or the target does."""
        began = time.monotonic()
        deadline = began + check.pace.timeout_seconds
        try:
            if isinstance(check, TcpCheck):
                passed, detail = self._connects(check, host, port, deadline)
            else:
                passed, detail = self._answers(check, host, port, deadline)
        except BlockedAddress as blocked:
            passed, detail = False, _refused(blocked)
        except TRANSPORT_ERRORS as failure:
            passed, detail = False, _reason(failure)
        return Answer(passed, detail, round((time.monotonic() - began) * 1000))

    def poll(self, alarm: PrometheusAlarm) -> Poll:
        """Ask for an alarm's value now (Prometheus' ``/api/v1/query``). Never raises for what the world does."""
        deadline = time.monotonic() + alarm.timeout_seconds
        try:
            url = parse_url(f"{alarm.url.rstrip('/')}/api/v1/query?{urlencode({'query': alarm.query})}")
            with self._asked(url, "application/json", deadline) as answer:
                status, body = answer.status, _read(answer, deadline, MOST_ANSWER_BYTES)
        except BlockedAddress as blocked:
            return PollFailed(_refused(blocked))
        except TRANSPORT_ERRORS as failure:
            return PollFailed(_reason(failure))
        return read_poll(status, body)

    def _connects(self, check: TcpCheck, host: str, port: int | None, deadline: float) -> tuple[bool, str]:
        name, number = check.address_for(host, port)
        self._policy.check_host(name)
        self._dialer(deadline).dial(name, number, deadline).close()
        return True, "connected"

    def _answers(self, check: HttpCheck, host: str, port: int | None, deadline: float) -> tuple[bool, str]:
        with self._asked(check.url_for(host, port), "*/*", deadline) as answer:
            if not check.expects(answer.status):
                return False, f"HTTP {answer.status}"
            if not check.body_contains:
                return True, f"HTTP {answer.status}"
            body = _read(answer, deadline, MOST_BODY_BYTES)
        if check.body_contains.encode() in body:
            return True, f"HTTP {answer.status}"
        return False, f"HTTP {answer.status}, and the body does not contain {check.body_contains[:100]!r}"

    @contextmanager
    def _asked(self, url: WebUrl, accept: str, deadline: float) -> Iterator[Exchange]:
        """One GET on a connection of its own: a kept one would say nothing of whether a new one comes about."""
        self._policy.check_host(url.origin.host)
        left_seconds = max(0.01, deadline - time.monotonic())
        wire = Wire(self._dialer(deadline), self._tls, Limits(head_seconds=left_seconds))
        headers = {"User-Agent": "Entrepot-HealthCheck", "Accept": accept, "Accept-Encoding": "identity"}
        try:
            with wire.request(url, headers | {"Connection": "close"}, deadline) as answer:
                yield answer
        finally:
            wire.close()

    def _dialer(self, deadline: float) -> Dialer:
        # Without adoption: a private address is permitted by the settings or not at all.
        seconds = max(0.01, deadline - time.monotonic())
        return Dialer(
            "",
            self._policy,
            resolver=self._resolver,
            resolve_seconds=seconds,
            connect_seconds=seconds,
            adopts=False,
        )

    def _tls(self) -> ssl.SSLContext:
        return self._context()


def read_poll(status: int, body: bytes) -> Poll:
    """What Prometheus said to an instant query. A series that is not a number (NaN) has no data. Pure."""
    try:
        document = json_text.parse(body)
    except Invalid:
        return PollFailed(f"HTTP {status}: {_NOT_PROMETHEUS}")
    if not isinstance(document, dict) or document.get("status") != "success" or status != 200:
        error = document.get("error", "") if isinstance(document, dict) else ""
        return PollFailed(f"HTTP {status}: {_shown(error) or _NOT_PROMETHEUS}")
    try:
        return Measured(tuple(_values(document["data"])))
    except (KeyError, TypeError, ValueError, IndexError):
        return PollFailed("the answer is neither a vector nor a scalar; the query has to be one for a moment")


def _values(data: Mapping[str, Any]) -> Iterator[float]:
    if data["resultType"] == "scalar":
        samples = [data["result"]]
    elif data["resultType"] == "vector":
        samples = [series["value"] for series in data["result"]]
    else:
        raise ValueError(data["resultType"])
    if len(samples) > MOST_SERIES:
        raise ValueError(f"more than {MOST_SERIES} series")
    for _, text in samples:
        value = float(str(text)[:64])
        if value == value:  # noqa: PLR0124  (NaN is not equal to itself)
            yield value


def _read(answer: Exchange, deadline: float, limit_bytes: int) -> bytes:
    """The body, or its beginning. Raises one of TRANSPORT_ERRORS."""
    found = bytearray()
    while len(found) < limit_bytes:
        piece = answer.read(deadline, max(0.01, deadline - time.monotonic()), limit_bytes - len(found))
        if not piece:
            break
        found += piece
    return bytes(found)


def _shown(text: object) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text)[:300])


def _refused(blocked: BlockedAddress) -> str:
    # Whose address it is, and in which network, is not for whoever typed the name.
    log.warning("a check is not made: %s", blocked)
    return _REFUSED


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
