"""How long an upstream's answer counts, and what may be done with it afterwards. Pure; times are UTC, clocks handed in.

The life of a kept answer: *fresh* until ``fresh_until``; for a little while after that it is answered at once and asked
for again behind the answer; then it is asked for again first, and stands in, as stale, for an upstream that is
unavailable, until ``STALE_LIMIT`` has passed; then only a new answer will do. A kept "missing" never stands in: when the
upstream has not been asked, nobody knows whether it is still missing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum

DEFAULT_SECONDS = 600
FLOOR_SECONDS = 60
CEILING_SECONDS = 3600
MISSING_SECONDS = 60
STALE_LIMIT = timedelta(hours=24)


class Freshness(Enum):
    """What to do with a kept answer."""

    FRESH = "fresh"  # use it, ask nobody
    REFRESH = "refresh"  # use it, and ask behind the answer (RFC 5861 section 3)
    REVALIDATE = "revalidate"  # ask; if the upstream is unavailable, use it and say that it is stale
    EXPIRED = "expired"  # ask; if the upstream is unavailable, so are we


def decide(
    now: datetime,
    fetched_at: datetime,
    fresh_until: datetime,
    *,
    is_missing: bool,
    stale_limit: timedelta = STALE_LIMIT,
    lag_limit: timedelta = timedelta(),
) -> Freshness:
    """What to do with an answer got at ``fetched_at`` and held to be good until ``fresh_until``.

    For ``lag_limit`` after that it may be used while it is refreshed. An answer from the future (the clock was set back)
    is asked for again: its age cannot be known.
    """
    if fetched_at <= now < fresh_until:
        return Freshness.FRESH
    if is_missing or now - fresh_until > stale_limit:
        return Freshness.EXPIRED
    if fetched_at <= now < fresh_until + lag_limit:
        return Freshness.REFRESH
    return Freshness.REVALIDATE


def fresh_until(
    now: datetime,
    max_age_seconds: int | None,
    *,
    default_seconds: int = DEFAULT_SECONDS,
    floor_seconds: int = FLOOR_SECONDS,
    ceiling_seconds: int = CEILING_SECONDS,
) -> datetime:
    """The end of freshness of an answer that said ``max_age_seconds`` (None: it said nothing), kept within bounds.

    The floor guards the upstream against one question per request, the ceiling our users against a year-long page.
    """
    wished = default_seconds if max_age_seconds is None else max_age_seconds
    return now + timedelta(seconds=max(floor_seconds, min(wished, ceiling_seconds)))


def missing_until(
    now: datetime, *, seconds: int = MISSING_SECONDS, fraction: Callable[[], float] = random.random
) -> datetime:
    """The end of freshness of a "missing": ``seconds`` at most, less up to a fifth, lest absences are re-asked in step."""
    return now + timedelta(seconds=seconds * (1.0 - 0.2 * fraction()))


_DIRECTIVE = re.compile(r"\s*([A-Za-z-]+)\s*(?:=\s*\"?([^\",]*)\"?)?\s*(?:,|\Z)")


def max_age_seconds(cache_control: str | None, age: str | None) -> int | None:
    """Remaining freshness that a response claims (RFC 9111 sections 4.2.1 and 5.2.2), None if it claims none.

    ``s-maxage`` is meant for shared caches such as this one and goes before ``max-age``; ``Age`` is what caches on the
    way have used up. A value that is no number counts as zero: unsure is stale (section 4.2.1).
    """
    if not cache_control:
        return None
    directives = {name.lower(): value for name, value in _DIRECTIVE.findall(cache_control)}
    if "no-store" in directives or "no-cache" in directives:
        return 0
    claimed = directives.get("s-maxage", directives.get("max-age"))
    if claimed is None:
        return None
    return max(0, _delta_seconds(claimed) - _delta_seconds(age or ""))


def _delta_seconds(text: str) -> int:
    """RFC 9111 section 1.2.2: what is too large counts as 2^31."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return 2**31 if len(digits) > 10 else min(int(digits), 2**31)
