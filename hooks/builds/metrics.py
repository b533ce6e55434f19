"""How long builds wait and take, and how many succeed, from their rows: the same whichever process answers.

A build's queue time is from its submission to the start of its first attempt, its duration from there to its end. Those
that never began have neither.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Float, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from hooks.builds.phases import BuildStatus
from hooks.models.build import Build, BuildTally

WINDOW = timedelta(days=30)
MOST_BUILDS = 200
"""What pages look at of a project: its newest ended builds of the window, at most so many."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The ended builds of a project. Seconds; None where there is nothing to tell of. ``rate`` is 0 to 1.

    ``durations`` are (build number, seconds, status) of the newest ones, the oldest first. A stopped build is neither
    a success nor a failure.
    """

    count: int
    succeeded: int
    rate: float | None
    queue_median: float | None
    queue_p95: float | None
    duration_median: float | None
    duration_p95: float | None
    durations: tuple[tuple[int, float, str], ...]


def figures(session: Session, project_id: int, now: datetime) -> Figures:
    """The figures of one project over the window."""
    rows = session.execute(
        select(Build.number, Build.status, Build.submitted_at, Build.started_at, Build.ended_at)
        .where(Build.project_id == project_id, Build.ended_at.is_not(None), Build.submitted_at > now - WINDOW)
        .order_by(Build.number.desc())
        .limit(MOST_BUILDS)
    ).all()
    waits = sorted((row.started_at - row.submitted_at).total_seconds() for row in rows if row.started_at)
    took = [(row.number, (row.ended_at - row.started_at).total_seconds(), row.status) for row in rows if row.started_at]
    lengths = sorted(seconds for _, seconds, _ in took)
    judged = [row for row in rows if row.status != BuildStatus.STOPPED]
    succeeded = sum(row.status == BuildStatus.SUCCEEDED for row in judged)
    return Figures(
        count=len(rows),
        succeeded=succeeded,
        rate=succeeded / len(judged) if judged else None,
        queue_median=quantile(waits, 0.5),
        queue_p95=quantile(waits, 0.95),
        duration_median=quantile(lengths, 0.5),
        duration_p95=quantile(lengths, 0.95),
        durations=tuple(reversed(took)),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank); None for none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


@dataclass(frozen=True, slots=True)
class Totals:
    """All builds of a project: ended ones by status, those that run and wait, and the sums of seconds."""

    ended: Mapping[str, int]
    running: int
    waiting: int
    begun: int
    queue_seconds: float
    finished: int
    duration_seconds: float

    @property
    def rate(self) -> float | None:
        """How many succeeded of those that were not stopped, 0 to 1; None for none."""
        judged = sum(count for status, count in self.ended.items() if status != BuildStatus.STOPPED)
        return self.ended.get(BuildStatus.SUCCEEDED, 0) / judged if judged else None

    @property
    def mean_queue_seconds(self) -> float | None:
        """How long a build waits, on average; None where none began."""
        return self.queue_seconds / self.begun if self.begun else None

    @property
    def mean_duration_seconds(self) -> float | None:
        """How long a build takes, on average; None where none that began has ended."""
        return self.duration_seconds / self.finished if self.finished else None


def totals(session: Session, project_ids: Collection[int]) -> dict[int, Totals]:
    """The totals of projects by id; of projects without builds there are none.

    Two statements, of which the one reads the counts of what has ended and the other the builds that have not: neither
    takes longer for the builds there ever were.
    """
    counted = session.scalars(select(BuildTally).where(BuildTally.project_id.in_(project_ids))).all()
    queue = _seconds(session, Build.submitted_at, Build.started_at)
    going_on = session.execute(
        select(
            Build.project_id,
            func.count().label("builds"),
            func.count(Build.started_at).label("begun"),
            func.coalesce(func.sum(queue), 0.0).label("queue_seconds"),
        )
        .where(Build.project_id.in_(project_ids), Build.ended_at.is_(None))
        .group_by(Build.project_id)
    )
    open_rows = {row.project_id: row for row in going_on}
    ended: dict[int, list[BuildTally]] = {project_id: [] for project_id in open_rows}
    for tally in counted:
        ended.setdefault(tally.project_id, []).append(tally)
    return {project_id: _total(tallies, open_rows.get(project_id)) for project_id, tallies in ended.items()}


def _total(ended: Sequence[BuildTally], going_on: Any) -> Totals:
    running, waiting, queue_seconds = 0, 0, 0.0
    if going_on is not None:
        running, queue_seconds = going_on.begun, max(0.0, float(going_on.queue_seconds))
        waiting = going_on.builds - running
    finished = sum(tally.begun for tally in ended)
    return Totals(
        ended={tally.status: tally.builds for tally in ended},
        running=running,
        waiting=waiting,
        begun=finished + running,
        queue_seconds=queue_seconds + sum(tally.queue_seconds for tally in ended),
        finished=finished,
        duration_seconds=sum(tally.duration_seconds for tally in ended),
    )


Moment = InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]


def _seconds(session: Session, start: Moment, end: Moment) -> ColumnElement[float]:
    """Seconds between two columns, null where one is."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.extract("epoch", end - start), Float)
    return cast((func.julianday(end) - func.julianday(start)) * 86400.0, Float)
