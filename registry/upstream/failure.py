"""Why one attempt came to nothing: the reason in words for people, and what follows from it for the next attempt."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from registry.upstream.guard import Origin
from registry.upstream.wire import BrokenAnswer

_PASSING = frozenset({429, 500, 502, 503, 504})
_ANSWERS = frozenset({200, 206, 304, 404, 410})


class Failure(Exception):
    """One attempt failed; ``str()`` names a host and a reason, never a query, a header or a credential.

    ``origin`` is who answered or failed to, None if nobody was asked. ``is_outage`` speaks against that origin (its
    breaker counts it); otherwise it is alive and merely said something unusable. ``wait_seconds`` is how long the
    origin, or its breaker, wants to be left alone. ``was_not_asked`` says that the breaker kept us from asking at all.
    """

    def __init__(
        self,
        reason: str,
        *,
        origin: Origin | None = None,
        is_outage: bool = False,
        retryable: bool = False,
        wait_seconds: float | None = None,
        was_not_asked: bool = False,
    ) -> None:
        super().__init__(reason)
        self.origin = origin
        self.is_outage = is_outage
        self.retryable = retryable
        self.wait_seconds = wait_seconds
        self.was_not_asked = was_not_asked


def unreachable(origin: Origin) -> Failure:
    """One text for a closed port and for a blocked address, or we would be a port scanner of the inside."""
    return Failure(f"{origin.host} cannot be reached")


def unusable(origin: Origin, reason: str) -> Failure:
    """The origin is alive; asking again would give the same."""
    return Failure(f"the answer of {origin.host} is not usable: {reason}", origin=origin)


def broken(origin: Origin, error: Exception) -> Failure:
    """The transport's error in our words: exceptions' own texts may hold what the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate of {origin.host} is not accepted: {error.verify_message}"
        return Failure(reason, origin=origin, is_outage=True)
    if isinstance(error, BrokenAnswer):
        reason = f"the answer of {origin.host} is broken: {error}"
    elif isinstance(error, TimeoutError):
        reason = f"{origin.host} did not answer in time"
    elif isinstance(error, OSError):
        reason = str(unreachable(origin))
    else:
        reason = f"the answer of {origin.host} is broken"
    return Failure(reason, origin=origin, is_outage=True, retryable=True)


def check_status(status: int, origin: Origin, wait_seconds: float | None) -> None:
    """Raise for every status that is neither success, nor "not modified", nor a sure absence."""
    if status in _PASSING or status >= 500:
        raise Failure(
            f"{origin.host} answered HTTP {status}",
            origin=origin,
            is_outage=True,
            retryable=status in _PASSING,
            wait_seconds=wait_seconds,
        )
    if status not in _ANSWERS:
        raise Failure(f"{origin.host} answered HTTP {status}", origin=origin)


def retry_after_seconds(value: str | None, now: datetime, longest_seconds: float) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3), between 0 and ``longest_seconds``; nonsense counts as not said."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    return min(max(0.0, seconds), longest_seconds)
