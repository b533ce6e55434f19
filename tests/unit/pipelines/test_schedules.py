"""When schedules are due: cron, EventBridge's forms, time zones and the nights on which clocks are changed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from hooks.pipelines.sources.schedules import parse_schedule
from registry.errors import Invalid


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "moment", "due"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01 00:00", "2026-01-01 00:15"),
        ("0 3 * * *", "Europe/Berlin", "2026-07-01 02:00", "2026-07-02 01:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-01-01 02:00", "2026-01-02 02:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 02:00", "2026-03-30 00:30"),  # 2:30 is skipped on the 29th
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 00:30"),  # and comes twice on the 25th
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-26 01:30"),
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 9 1 * MON", "UTC", "2026-01-02 00:00", "2026-01-05 09:00"),  # the first, or a Monday
        ("0 9 * * 7", "UTC", "2026-01-01 00:00", "2026-01-04 09:00"),
        ("cron(0 9 ? * 1 *)", "UTC", "2026-01-01 00:00", "2026-01-04 09:00"),
        ("cron(0 9 ? * MON-FRI *)", "UTC", "2026-01-02 10:00", "2026-01-05 09:00"),
        ("rate(5 minutes)", "UTC", "2026-01-01 00:00", "2026-01-01 00:05"),
        ("rate(1 day)", "UTC", "2026-01-01 00:00", "2026-01-02 00:00"),
    ],
)
def test_a_schedule_is_due(expression: str, zone: str, moment: str, due: str) -> None:
    assert parse_schedule(expression, zone).after(at(moment)) == at(due)


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("* * * *", "UTC"), ("61 * * * *", "UTC"), ("*/0 * * * *", "UTC"), ("5-1 * * * *", "UTC"), ("a * * * *", "UTC"),
        ("0 0 30 2 *", "UTC"), ("0 0 31 4,6 *", "UTC"), ("cron(0 9 ? * 0 *)", "UTC"), ("cron(0 9 ? * 1 2027)", "UTC"),
        ("rate(0 minutes)", "UTC"), ("rate(5 weeks)", "UTC"), ("@daily", "UTC"), ("0 3 * * *", "Europe/Nowhere"),
        ("0 3 * * *", "../../etc/passwd"), ("0 3 * * *", ""),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression: str, zone: str) -> None:
    with pytest.raises(Invalid):
        parse_schedule(expression, zone)


def test_each_minute_asked_one_by_one_gives_the_same() -> None:
    """An oracle that only knows what a single minute is."""
    rng = random.Random(7)
    for _ in range(40):
        minutes, hours = sorted(rng.sample(range(60), 2)), sorted(rng.sample(range(24), 2))
        week = sorted(rng.sample(range(7), rng.randint(1, 3)))
        expression = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * {','.join(map(str, week))}"
        moment = at("2026-01-01 00:00") + timedelta(minutes=rng.randrange(500_000))
        slow = moment.replace(second=0) + timedelta(minutes=1)
        while not (slow.minute in minutes and slow.hour in hours and (slow.weekday() + 1) % 7 in week):
            slow += timedelta(minutes=1)
        assert parse_schedule(expression).after(moment) == slow
