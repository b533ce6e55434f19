"""The four figures of delivery, from what deployments were and how they ended. Pure; ``docs/visibility.md`` defines them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_RATIO_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of ``count`` values, in seconds: the median, and the value that nine of ten do not exceed; None without any."""

    count: int
    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """A deployment that has ended, as the figures see it.

    ``is_rollback``: it brought an earlier release back. ``has_failed``: it failed, or was undone. ``undone_at`` is when the one
    that undid it began. ``lead_seconds`` is how long what it brought had been on its way; None where that is not known, or
    the group had it before.
    """

    group_id: str
    ended_at: datetime
    has_succeeded: bool
    has_failed: bool
    is_rollback: bool
    undone_at: datetime | None = None
    lead_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of some changes. ``per_day`` is how many succeeded on each day, the oldest first."""

    deployments: int
    rollbacks: int
    failures: int
    deployments_per_day: float
    change_failure_rate: float | None
    lead_time_seconds: Quantiles
    time_to_restore_seconds: Quantiles
    unrestored: int
    per_day: tuple[int, ...]


def quantiles(values: Iterable[float]) -> Quantiles:
    """The median (the mean of the two in the middle) and the 90th percentile by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return Quantiles(0, None, None)
    rank = math.ceil(0.9 * len(ordered))
    return Quantiles(len(ordered), round(statistics.median(ordered), 3), round(ordered[rank - 1], 3))


def measure(changes: Sequence[Change], since: datetime, days: int) -> Measured:
    """The figures of changes that ended within ``days`` days from ``since`` on."""
    # Of what ended at one moment the rollback came last: it answers the other.
    ordered = sorted(changes, key=lambda each: (each.ended_at, each.is_rollback))
    forward = [each for each in ordered if not each.is_rollback]
    succeeded = [each for each in forward if each.has_succeeded]
    failed = [each for each in forward if each.has_failed]
    judged = [each for each in forward if each.has_succeeded or each.has_failed]
    restored, unrestored = _restored(ordered)
    per_day = [0] * days
    for each in succeeded:
        per_day[min(days - 1, max(0, (each.ended_at - since) // timedelta(days=1)))] += 1
    return Measured(
        len(succeeded),
        sum(each.is_rollback and each.has_succeeded for each in ordered),
        len(failed),
        round(len(succeeded) / days, _RATIO_DIGITS),
        round(len(failed) / len(judged), _RATIO_DIGITS) if judged else None,
        quantiles(each.lead_seconds for each in succeeded if each.lead_seconds is not None),
        quantiles(restored),
        unrestored,
        tuple(per_day),
    )


def _restored(ordered: Iterable[Change]) -> tuple[list[float], int]:
    """How long each group was without a good release, from the first failure to the next success; and how many still are."""
    broken: dict[str, datetime] = {}
    found = []
    for each in ordered:
        since = broken.get(each.group_id)
        if each.has_succeeded and not each.has_failed and since is not None:
            found.append(max(0.0, (each.ended_at - since).total_seconds()))
            del broken[each.group_id]
        elif each.has_failed and since is None:
            # One that had succeeded was good until somebody, or an alarm, undid it.
            broken[each.group_id] = each.undone_at if each.has_succeeded and each.undone_at else each.ended_at
    return found, len(broken)
