"""Cron expressions of Quartz: each kind of field, its errors, and the clock as a place has it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.pipelines.cron import CronError, parse_cron, parse_zone

BERLIN = parse_zone("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def following(expression, after=START, zone=UTC, count=1):
    cron, found = parse_cron(expression), []
    for _ in range(count):
        after = cron.following(after, zone)
        found.append(None if after is None else f"{after:%Y-%m-%d %H:%M:%S}")
        if after is None:
            break
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * ? * *", ["2026-01-01 00:00:01", "2026-01-01 00:00:02"]),
        ("0 0/20 * ? * *", ["2026-01-01 00:20:00", "2026-01-01 00:40:00"]),
        ("0 5/40 * * * ?", ["2026-01-01 00:05:00", "2026-01-01 00:45:00"]),
        ("0 0 9-10 ? * MON-FRI", ["2026-01-01 09:00:00", "2026-01-01 10:00:00", "2026-01-02 09:00:00"]),
        ("0 0 0 ? * 1", ["2026-01-04 00:00:00"]),  # 1 is Sunday
        ("0 0 0 ? * FRI-MON", [f"2026-01-0{day} 00:00:00" for day in (2, 3, 4, 5, 9)]),
        ("0 0 0 ? * 6L", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 0 ? * FRI#2", ["2026-01-09 00:00:00", "2026-02-13 00:00:00"]),
        ("0 0 0 ? * L", ["2026-01-03 00:00:00"]),
        ("0 0 0 L * ?", ["2026-01-31 00:00:00", "2026-02-28 00:00:00"]),
        ("0 0 0 L-3 * ?", ["2026-01-28 00:00:00", "2026-02-25 00:00:00"]),
        ("0 0 0 LW * ?", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 0 15W 3,8 ?", ["2026-03-16 00:00:00", "2026-08-14 00:00:00"]),
        ("0 0 0 1W 8,11 ?", ["2026-08-03 00:00:00", "2026-11-02 00:00:00"]),
        ("0 0 0 31W 1-3 ?", ["2026-01-30 00:00:00", "2026-03-31 00:00:00"]),
        ("0 0 0 29 FEB ?", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 0 0 1 JAN ? 2028/2", ["2028-01-01 00:00:00", "2030-01-01 00:00:00"]),
        ("0 0 0 1 1 ? 2020-2025", [None]),
        ("0 0 0 30 2 ?", [None]),
    ],
)
def test_what_an_expression_names(expression, expected):
    assert following(expression, count=len(expected)) == expected
    if len(expected) > 1:
        moment = datetime.fromisoformat(expected[0]).replace(tzinfo=UTC)
        assert parse_cron(expression).is_inside(moment, UTC)
        assert parse_cron(expression.lower()).is_inside(moment, UTC)


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *", "* * * * * * * *", "", "60 * * ? * *", "* * 24 ? * *", "* * * 32 * ?", "* * * ? 13 *", "* * * ? * 8",
        "* * * ? * 0", "* * * ? * FRY", "* * * 1 * MON", "? * * ? * *", "* * * ? * *-", "*/0 * * ? * *", "* * * ? * FRI#6",
        "* * * L-31 * ?", "* * * 32W * ?", "* * * ? * * 1969", "a b c d e f", "1,,2 * * ? * *", "-1 * * ? * *", "* " * 200,
        "* * * \u0661 * ?",
    ],
)  # fmt: skip
def test_what_is_no_expression(expression):
    with pytest.raises(CronError):
        parse_cron(expression)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "UTC+05:30", "UTC-11:00", "America/Argentina/Ushuaia"])
def test_time_zones(zone):
    parse_zone(zone)


@pytest.mark.parametrize(
    "zone",
    ["", "Berlin?", "UTC+1", "UTC+15:00", "+02:00", "../../etc/passwd", "/etc/localtime", "Europe/Nowhere", "a" * 99],
)
def test_what_is_no_time_zone(zone):
    with pytest.raises(CronError):
        parse_zone(zone)


def test_a_clock_that_skips_an_hour_and_one_that_repeats_it():
    """Berlin skips from 02:00 to 03:00 on the 29th of March, and has 02:00 to 03:00 twice on the 25th of October 2026."""
    assert following("0 30 2 ? * *", datetime(2026, 3, 28, 12, tzinfo=UTC), BERLIN) == ["2026-03-30 00:30:00"]
    october = datetime(2026, 10, 24, 12, tzinfo=UTC)
    twice = ["2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-26 01:30:00"]
    assert following("0 30 2 ? * *", october, BERLIN, 3) == twice
    assert parse_cron("* * 9-16 ? * *").is_inside(datetime(2026, 7, 1, 7, 0, tzinfo=UTC), BERLIN)
    assert not parse_cron("* * 9-16 ? * *").is_inside(datetime(2026, 1, 1, 7, 0, tzinfo=UTC), BERLIN)


@settings(max_examples=60, deadline=None)
@given(
    hours=st.sampled_from(["*", "1-4", "0/7", "23,2"]),
    minutes=st.sampled_from(["*", "30", "0/25", "59"]),
    days=st.sampled_from(["?", "MON-FRI", "SUN", "1#1"]),
    after=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
def test_the_next_moment_is_the_first_that_is_inside(hours, minutes, days, after):
    """Against the plain way: minute by minute, what is inside."""
    cron = parse_cron(f"0 {minutes} {hours} ? * {days}" if days != "?" else f"0 {minutes} {hours} * * ?")
    after = after.replace(second=30, microsecond=7, tzinfo=UTC)
    found = cron.following(after, BERLIN)
    moment = after.replace(second=0, microsecond=0)
    for _ in range(60 * 24 * 2):
        moment += timedelta(minutes=1)
        if cron.is_inside(moment, BERLIN):
            assert found == moment
            return
    assert found is not None
    assert found > moment
