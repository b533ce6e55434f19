"""Cron expressions of Quartz: when a window is open (CodePipeline "DeploymentWindow"), in any time zone. Pure.

Six fields and an optional seventh: seconds, minutes, hours, day of month, month, day of week, year. Every second that
the expression names is inside. Of a day of month and a day of week at most one says something; the other is ``?`` or ``*``.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MAX_CHARACTERS = 200
# The 29th of February is on a Monday every 28 years, but not across 2100; beyond that an expression names no day.
_FARTHEST_DAYS = 366 * 41

_MONTHS = {
    "JAN": 1,
    "FEB": 2,
    "MAR": 3,
    "APR": 4,
    "MAY": 5,
    "JUN": 6,
    "JUL": 7,
    "AUG": 8,
    "SEP": 9,
    "OCT": 10,
    "NOV": 11,
    "DEC": 12,
}
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
_OFFSET = re.compile(r"UTC(?:([+-])(0\d|1[0-4]):([0-5]\d))?\Z")
_REGION = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}\Z")
_STEPPED = re.compile(r"(\*|\?|[A-Z0-9]+(?:-[A-Z0-9]+)?)(?:/(\d{1,4}))?\Z")
_LAST = re.compile(r"L(?:-(\d{1,2}))?(W)?\Z")
_NEAREST = re.compile(r"(\d{1,2})W\Z")
_WEEKDAY = re.compile(r"([A-Z]{3}|[1-7])(?:(L)|#([1-5]))\Z")
_NO_NAMES: Mapping[str, int] = {}


class CronError(ValueError):
    """What is wrong with an expression or a time zone."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression. The three sets are of numbers; ``on_day`` says whether a date is named."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    on_day: Callable[[date], bool]

    def holds(self, local: datetime) -> bool:
        """Whether the second of ``local`` is named."""
        return (
            local.second in self.seconds
            and local.minute in self.minutes
            and local.hour in self.hours
            and self.on_day(local.date())
        )

    def is_inside(self, now: datetime, zone: tzinfo) -> bool:
        """Whether the second of ``now`` is named, told in ``zone``."""
        return self.holds(now.astimezone(zone))

    def following(self, now: datetime, zone: tzinfo) -> datetime | None:
        """The first second after ``now`` that is named, in UTC; None: there is none in the next forty years.

        A local time that a zone skips is none; of one that it has twice both are.
        """
        begin = now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day = begin.astimezone(zone).date()
        for _ in range(_FARTHEST_DAYS):
            if self.on_day(day):
                found = min((each for each in self._moments(day, zone, begin) if each >= begin), default=None)
                if found is not None:
                    return found
            if day >= date(2199, 12, 31):
                return None
            day += timedelta(days=1)
        return None

    def _moments(self, day: date, zone: tzinfo, begin: datetime) -> Iterator[datetime]:
        """For each hour of a day, as each side of a change of the clocks counts it, the first named second from ``begin``."""
        for hour in sorted(self.hours):
            for fold in (0, 1):
                found = self._in_hour(datetime.combine(day, time(hour, fold=fold), zone), begin)
                if found is not None:
                    yield found

    def _in_hour(self, hour: datetime, begin: datetime) -> datetime | None:
        last_minute, last_second = max(self.minutes), max(self.seconds)
        if hour.replace(minute=last_minute, second=last_second).astimezone(UTC) < begin:
            return None
        for minute in sorted(self.minutes):
            if hour.replace(minute=minute, second=last_second).astimezone(UTC) < begin:
                continue
            for second in sorted(self.seconds):
                moment = hour.replace(minute=minute, second=second)
                told = moment.astimezone(UTC)
                is_there = told.astimezone(hour.tzinfo).replace(tzinfo=None, fold=0) == moment.replace(
                    tzinfo=None, fold=0
                )
                if told >= begin and is_there:
                    return told
        return None


def parse_cron(text: str) -> Cron:
    """Read an expression. Raises CronError."""
    if len(text) > MAX_CHARACTERS:
        raise CronError(f"longer than {MAX_CHARACTERS} characters")
    fields = text.upper().split()
    if not 6 <= len(fields) <= 7:
        raise CronError(
            f"{len(fields)} fields; it takes 6 or 7: seconds, minutes, hours, day of month, month, day of week, year"
        )
    seconds = _numbers(fields[0], "seconds", (0, 59))
    minutes = _numbers(fields[1], "minutes", (0, 59))
    hours = _numbers(fields[2], "hours", (0, 23))
    months = _numbers(fields[4], "month", (1, 12), _MONTHS)
    years = _numbers(fields[6], "year", (1970, 2199)) if len(fields) == 7 else None
    anything = {"*", "?"}
    if fields[3] not in anything and fields[5] not in anything:
        raise CronError("a day of month and a day of week exclude each other: write ? for one of them")
    of_month, of_week = _days_of_month(fields[3]), _days_of_week(fields[5])

    def on_day(day: date) -> bool:
        return day.month in months and (years is None or day.year in years) and of_month(day) and of_week(day)

    return Cron(seconds, minutes, hours, on_day)


def parse_zone(text: str) -> tzinfo:
    """``Europe/Berlin``, ``UTC``, or ``UTC+02:00``. Raises CronError."""
    offset = _OFFSET.match(text)
    if offset:
        sign, hours, minutes = offset.groups()
        told = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return timezone(-told if sign == "-" else told)
    if not _REGION.match(text) or len(text) > 64:
        raise CronError(f"{text[:64]!r} is no time zone: write Region/City, UTC or UTC+HH:MM")
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronError(f"{text!r} is no time zone that this server knows") from error


def _numbers(field: str, what: str, bounds: tuple[int, int], names: Mapping[str, int] = _NO_NAMES) -> frozenset[int]:
    low, high = bounds
    found: set[int] = set()
    for part in field.split(","):
        match = _STEPPED.match(part)
        if match is None or (part.startswith("?") and what != "day of week"):
            raise CronError(f"{what}: {part[:40]!r} is neither a number, a range nor a step")
        span, step = match[1], int(match[2] or 1)
        if step < 1:
            raise CronError(f"{what}: a step is at least 1")
        if span in {"*", "?"}:
            first, last = low, high
        else:
            ends = [_number(each, what, bounds, names) for each in span.split("-")]
            # Quartz: ``5/15`` goes on from 5 to the end of the field.
            first, last = ends[0], ends[-1] if len(ends) == 2 or match[2] is None else high
        if first <= last:
            found.update(range(first, last + 1, step))
        else:  # FRI-MON goes round
            span_of = [*range(first, high + 1), *range(low, last + 1)]
            found.update(span_of[::step])
    return frozenset(found)


def _number(text: str, what: str, bounds: tuple[int, int], names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isascii() or not text.isdecimal() or not bounds[0] <= int(text) <= bounds[1]:
        raise CronError(f"{what}: {text[:40]!r} is not within {bounds[0]} to {bounds[1]}")
    return int(text)


def _days_of_month(field: str) -> Callable[[date], bool]:
    if field == "?":
        return lambda _: True
    last = _LAST.match(field)
    if last:
        back, to_weekday = int(last[1] or 0), last[2] is not None
        if back > 30:
            raise CronError(f"day of month: {field!r} is before the month")
        return lambda day: day.day == _nearest(day, _length(day) - back, to_weekday=to_weekday)
    nearest = _NEAREST.match(field)
    if nearest:
        wanted = _number(nearest[1], "day of month", (1, 31), _NO_NAMES)
        return lambda day: wanted <= _length(day) and day.day == _nearest(day, wanted, to_weekday=True)
    numbers = _numbers(field, "day of month", (1, 31))
    return lambda day: day.day in numbers


def _days_of_week(field: str) -> Callable[[date], bool]:
    if field in {"?", "*"}:
        return lambda _: True
    special = _WEEKDAY.match(field)
    if special:
        wanted = _number(special[1], "day of week", (1, 7), _DAYS)
        if special[2]:
            return lambda day: _weekday(day) == wanted and day.day > _length(day) - 7
        nth = int(special[3])
        return lambda day: _weekday(day) == wanted and (day.day - 1) // 7 == nth - 1
    if field == "L":
        return lambda day: _weekday(day) == 7
    numbers = _numbers(field, "day of week", (1, 7), _DAYS)
    return lambda day: _weekday(day) in numbers


def _weekday(day: date) -> int:
    """1 is Sunday, as Quartz counts."""
    return day.isoweekday() % 7 + 1


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest(day: date, wanted: int, *, to_weekday: bool) -> int:
    """The day of the month, moved to the nearest weekday within the month if it has to be one."""
    if not to_weekday or wanted < 1:
        return wanted
    at = day.replace(day=wanted)
    if at.isoweekday() == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if at.isoweekday() == 7:
        return wanted + 1 if wanted < _length(day) else wanted - 2
    return wanted
