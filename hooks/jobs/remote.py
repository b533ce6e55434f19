"""What holders on other machines need of the queue beside what workers do: they say what they hold, and may be told to go."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from hooks.jobs import claims, retry
from hooks.jobs.claims import Claimed, EndedJob, Hold
from hooks.jobs.context import OUTAGES, JobContext
from hooks.jobs.database_clock import database_now
from hooks.jobs.lease import Lease
from hooks.models.job import Job, JobState
from registry.db import Database

LOG = logging.getLogger(__name__)

_MOST_RELEASES = 20
_REQUEST_SECONDS = 10.0
"""How long a request keeps trying to write while the database is away, before the holder is told to come again."""


def forsake(session: Session, *, owner: str, held: Sequence[Hold]) -> int:
    """Let the leases of ``owner`` run out now, but for ``held``: it says that it does not work on them. How many they were.

    They count as attempts that went wrong, as those of a holder that fell silent.
    """
    statement = (
        update(Job)
        .where(Job.owner == owner, Job.state == JobState.RUNNING, tuple_(Job.id, Job.fence).not_in(held))
        .values(lease_until=database_now() - 1.0)
        .returning(Job.id)
    )
    return len(session.scalars(statement, execution_options={"synchronize_session": False}).all())


def reap(db: Database, kinds: Collection[str], settle: Callable[[Session, EndedJob], None]) -> None:
    """Take jobs of ``kinds`` over from holders that fell silent, as workers do: there may be none that does.

    One that cannot be settled is left for the next time. Raises what a database does that is away.
    """
    with db.read() as session:
        holds = claims.expired(session, kinds)
    for hold in holds:
        try:
            with db.write() as session:
                ended = claims.reclaim(session, hold)
                if ended is not None:
                    settle(session, ended)
        except OUTAGES:
            raise
        except Exception:
            # Settled together or not at all. Whoever asks for a job must not be refused for that of somebody else.
            LOG.exception("job %d of a silent holder could not be settled and is tried again", hold[0])


def holds_any(session: Session, owner: str) -> bool:
    """Whether ``owner`` holds a job, as far as the queue knows."""
    statement = select(Job.id).where(Job.owner == owner, Job.state == JobState.RUNNING).limit(1)
    return session.scalar(statement) is not None


def is_held(session: Session, hold: Hold) -> bool:
    """Whether ``hold`` still holds its job at this moment: for what only reads."""
    job_id, fence = hold
    statement = select(Job.id).where(Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING)
    return session.scalar(statement) is not None


def give_back(
    session: Session, hold: Hold, settle: Callable[[Session, EndedJob], None], *, error: str | None, counts: bool
) -> bool:
    """Queue a job again that could not be run, after a pause, or end it when no try is left; False if it is not held.

    Without ``counts`` it was a holder that leaves in order; one that leaves too often is not believed.
    """
    job = session.get(Job, hold[0])
    if job is None or not claims.is_held(session, hold):
        return False
    delay_seconds: float | None = 0.0
    counts = counts or job.released >= _MOST_RELEASES
    if counts:
        delay_seconds = retry.delay_seconds(
            RuntimeError(error),
            tries_used=job.attempts - job.released,
            tries_allowed=job.max_attempts,
            jitter=random.random(),  # noqa: S311  (spreads retries, hides nothing)
            first_seconds=retry.FIRST_DELAY_SECONDS,
        )
    if delay_seconds is None:
        claims.end(session, hold, JobState.FAILED, error)
        state: JobState | None = JobState.FAILED
    else:
        state = claims.give_back(session, hold, after_seconds=delay_seconds, error=error, counts=counts)
    if state is not None and state.is_final:
        settle(session, EndedJob(job.id, job.kind, job.payload, job.subject, job.attempts, state, error))
    return True


def context_of(db: Database, hold: Hold) -> JobContext:
    """The fenced ways to write for a job that somebody on another machine holds, for one request."""
    job_id, fence = hold
    held = Claimed(job_id, "", {}, None, 0, fence, 0, 0, None, time.monotonic())
    return JobContext(db, held, Lease(held, lease_seconds=_REQUEST_SECONDS))
