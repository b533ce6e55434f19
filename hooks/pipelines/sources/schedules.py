"""Schedules of pipelines: cron as it is usual, EventBridge's ``cron(…)`` and ``rate(…)``, in a time zone. Pure."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from registry.errors import Invalid

MAX_YEARS = 8
"""How far ahead is looked: the 29th of February is at most so far away."""
_RATE = re.compile(r"rate\(([0-9]{1,5}) (minute|hour|day)s?\)\Z")
_CRON = re.compile(r"cron\(([^()]+)\)\Z")
_ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}\Z")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_STEP = re.compile(r"([^/]+)(?:/([0-9]{1,2}))?\Z")


@dataclass(frozen=True)
class Schedule:
    """When a pipeline starts by itself. ``days_of_week`` counts from Sunday, 0; None for days: it does not matter.

    With ``every_seconds`` nothing else counts. Where both days are said, one of the two has to hold, as in cron.
    """

    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: tuple[int, ...] | None = None
    months: tuple[int, ...] = ()
    days_of_week: tuple[int, ...] | None = None
    every_seconds: int = 0
    time_zone: str = "UTC"

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def after(self, moment: datetime) -> datetime | None:
        """The first moment (UTC) after ``moment``; None when there is none in years.

        A time that the clock skips is not made up for; one that it shows twice counts once, the first time.
        """
        if self.every_seconds:
            return moment + timedelta(seconds=self.every_seconds)
        local = moment.astimezone(self._zone)
        day = local.date()
        for _ in range(MAX_YEARS * 366):
            if self._is_on(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        found = self._at(day, hour, minute)
                        if found is not None and found > moment:
                            return found
            day += timedelta(days=1)
        return None

    def _at(self, day: date, hour: int, minute: int) -> datetime | None:
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self._zone)
        found = local.astimezone(UTC)
        back = found.astimezone(self._zone)
        return found if (back.hour, back.minute) == (hour, minute) else None

    def _is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month = self.days is None or day.day in self.days
        of_week = self.days_of_week is None or (day.weekday() + 1) % 7 in self.days_of_week
        return of_month or of_week if self.days is not None and self.days_of_week is not None else of_month and of_week


def parse_schedule(expression: str, time_zone: str = "UTC") -> Schedule:
    """Read a schedule. Raises Invalid."""
    if not _ZONE.match(time_zone) or ".." in time_zone:
        raise Invalid(f"time zone {time_zone[:64]!r} is not one like Europe/Berlin")
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"time zone {time_zone!r} is not known here") from error
    rate = _RATE.match(expression)
    if rate is not None:
        if int(rate[1]) < 1:
            raise Invalid(f"{expression!r}: a rate is at least 1")
        return Schedule(every_seconds=int(rate[1]) * _UNITS[rate[2]], time_zone=time_zone)
    wrapped = _CRON.match(expression)
    fields = (wrapped[1] if wrapped else expression).split()
    if len(fields) != (6 if wrapped else 5):
        kinds = "'minute hour day month weekday', 'cron(minute hour day month weekday year)' or 'rate(5 minutes)'"
        raise Invalid(f"schedule {expression[:100]!r} is none of {kinds}")
    if wrapped and fields[5] != "*":
        raise Invalid(f"schedule {expression[:100]!r}: the year is *")
    # EventBridge counts weekdays from 1 on Sunday, cron from 0, with 7 for Sunday as well.
    week = (1, 7) if wrapped else (0, 7)
    found = Schedule(
        _values(fields[0], (0, 59)) or tuple(range(60)),
        _values(fields[1], (0, 23)) or tuple(range(24)),
        _values(fields[2], (1, 31)),
        _values(fields[3], (1, 12), _MONTHS, 1) or tuple(range(1, 13)),
        _weekdays(_values(fields[4], week, _DAYS, week[0]), week[0]),
        time_zone=time_zone,
    )
    if not any(_could_be(found, month) for month in found.months):
        raise Invalid(f"schedule {expression[:100]!r}: there is no such day")
    return found


def _could_be(schedule: Schedule, month: int) -> bool:
    # 2024 has a 29th of February.
    return (
        schedule.days is None or schedule.days_of_week is not None or min(schedule.days) <= monthrange(2024, month)[1]
    )


def _weekdays(found: tuple[int, ...] | None, first: int) -> tuple[int, ...] | None:
    return None if found is None else tuple(sorted({(day - first) % 7 for day in found}))


def _values(
    field: str, bounds: tuple[int, int], names: tuple[str, ...] = (), first_name: int = 0
) -> tuple[int, ...] | None:
    """The numbers that a field allows; None for all of them. Raises Invalid."""
    if field in {"*", "?"}:
        return None
    found: set[int] = set()
    for part in field.split(","):
        step = _STEP.match(part)
        if step is None or step[2] == "0":
            raise Invalid(f"schedule: {part[:40]!r} is no value, range or step")
        low, high = bounds
        if step[1] != "*":
            begin, dash, end = step[1].partition("-")
            low = _number(begin, names, first_name)
            high = _number(end, names, first_name) if dash else high if step[2] else low
        if not bounds[0] <= low <= high <= bounds[1]:
            raise Invalid(f"schedule: {part[:40]!r} is not within {bounds[0]} to {bounds[1]}")
        found.update(range(low, high + 1, int(step[2] or 1)))
    return tuple(sorted(found))


def _number(text: str, names: tuple[str, ...], first: int) -> int:
    if text.upper() in names:
        return names.index(text.upper()) + first
    if text.isascii() and text.isdigit() and len(text) <= 2:
        return int(text)
    raise Invalid(f"schedule: {text[:20]!r} is no number")
