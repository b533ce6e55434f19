from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from registry.upstream.freshness import (
    STALE_LIMIT,
    Freshness,
    decide,
    fresh_until,
    max_age_seconds,
    missing_until,
)

NOW = datetime(2026, 3, 29, 1, 59, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("fetched", "until", "is_missing", "expected"),
    [
        (NOW, NOW + SECOND, False, Freshness.FRESH),
        (NOW - SECOND, NOW + SECOND, True, Freshness.FRESH),
        (NOW - SECOND, NOW, False, Freshness.REVALIDATE),
        (NOW - SECOND, NOW, True, Freshness.EXPIRED),
        (NOW - STALE_LIMIT, NOW - STALE_LIMIT, False, Freshness.REVALIDATE),
        (NOW - STALE_LIMIT, NOW - STALE_LIMIT - SECOND, False, Freshness.EXPIRED),
        # the clock was set back by an hour: neither fresh for ever, nor thrown away
        (NOW + timedelta(hours=1), NOW + timedelta(hours=2), False, Freshness.REVALIDATE),
        (NOW + timedelta(hours=1), NOW + timedelta(hours=2), True, Freshness.EXPIRED),
    ],
)
def test_decide(fetched: datetime, until: datetime, is_missing: bool, expected: Freshness) -> None:
    assert decide(NOW, fetched, until, is_missing=is_missing) is expected


def test_the_stale_limit_is_a_choice() -> None:
    assert decide(NOW, NOW - SECOND * 9, NOW - SECOND * 5, is_missing=False, stale_limit=SECOND) is Freshness.EXPIRED


@pytest.mark.parametrize(("max_age", "seconds"), [(None, 600), (0, 60), (59, 60), (61, 61), (600, 600), (10**9, 3600)])
def test_freshness_is_kept_within_bounds(max_age: int | None, seconds: int) -> None:
    assert fresh_until(NOW, max_age) == NOW + timedelta(seconds=seconds)


def test_the_bounds_are_a_choice() -> None:
    kept = fresh_until(NOW, 0, default_seconds=7, floor_seconds=0, ceiling_seconds=9)
    assert kept == NOW
    assert fresh_until(NOW, None, default_seconds=7, floor_seconds=0, ceiling_seconds=9) == NOW + SECOND * 7


def test_absences_expire_within_a_minute_and_not_all_at_once() -> None:
    assert missing_until(NOW, fraction=lambda: 1.0) == NOW + SECOND * 48
    assert missing_until(NOW, fraction=lambda: 0.5) == NOW + SECOND * 54
    assert NOW + SECOND * 48 <= missing_until(NOW) <= NOW + SECOND * 60


@pytest.mark.parametrize(
    ("cache_control", "age", "expected"),
    [
        (None, None, None),
        ("", None, None),
        ("public", None, None),
        ("max-age=600, public", None, 600),
        ("public,MAX-AGE=600", "100", 500),
        ("max-age=600", "700", 0),
        ("max-age=600, s-maxage=30", None, 30),
        ('max-age="600"', None, 600),
        ("no-cache", None, 0),
        ("max-age=600, no-store", None, 0),
        ('private="x, y", max-age=5', None, 5),
        ("max-age=soon", None, 0),
        ("max-age=-1", None, 0),
        ("max-age=99999999999999999999", None, 2**31),
        ("max-age=600", "junk", 600),
        ("x-max-age=5", None, None),
        ("stale-while-revalidate=86400", None, None),
    ],
)
def test_what_a_response_claims(cache_control: str | None, age: str | None, expected: int | None) -> None:
    assert max_age_seconds(cache_control, age) == expected


def test_for_a_while_an_answer_is_used_and_refreshed() -> None:
    lag = SECOND * 300
    until = NOW + SECOND * 600

    def at(seconds: int, *, is_missing: bool = False) -> Freshness:
        return decide(NOW + SECOND * seconds, NOW, until, is_missing=is_missing, lag_limit=lag)

    assert [at(599), at(600), at(899), at(900)] == [
        Freshness.FRESH,
        Freshness.REFRESH,
        Freshness.REFRESH,
        Freshness.REVALIDATE,
    ]
    assert at(600, is_missing=True) is Freshness.EXPIRED
    assert at(-1) is Freshness.REVALIDATE
