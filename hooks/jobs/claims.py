"""The statements by which workers take, keep, end and give back jobs. Each is short and runs in the given transaction.

Whoever holds a job is named by (job id, fence); every statement on a held job checks both, so that a holder that was
declared dead and lives on changes nothing. Nothing here keeps state in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from hooks.jobs.database_clock import database_now
from hooks.models.job import Job, JobQueue, JobState

_NO_SYNC = {"synchronize_session": False}
Hold = tuple[int, int]
"""(job id, fence): one holder of a job."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job just taken. ``leased_at`` is the local monotonic time from which its lease counts (never too late).

    ``tries_used`` are the attempts that count against ``tries_allowed``, this one included.
    """

    job_id: int
    kind: str
    payload: dict[str, Any]
    subject: str | None
    attempt: int
    fence: int
    tries_used: int
    tries_allowed: int
    timeout_seconds: float | None
    leased_at: float


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brings back for one held job. ``deadline_in_seconds`` is negative once it has passed."""

    stop_requested: bool
    deadline_in_seconds: float | None


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job whose end was written by the queue and not by its handler, for whoever keeps the domain's rows."""

    job_id: int
    kind: str
    payload: dict[str, Any]
    subject: str | None
    attempt: int
    state: JobState
    error: str | None


Only = Callable[[type[Job]], ColumnElement[bool]] | None
"""Which jobs a holder may take, as a condition on the jobs (or an alias of them) that it is given; None: any.

Equal ones make equal conditions: statements are kept by them.
"""


@lru_cache(maxsize=64)  # a poll runs these for ever, and building them costs more than running them
def _due(only: Only) -> Select[int, int, str | None]:
    """What may start now in ``:queues`` of ``:kinds``, and whoever may have ``only`` those may have.

    Of the jobs with one serial key only the first in its queue, or they would fill a batch and leave no room. One that is
    for others holds up nobody: it may wait for long, and is told apart by the key when it runs.
    """
    now = database_now()
    kinds: BindParameter[list[str]] = bindparam("kinds", expanding=True)
    other = aliased(Job)
    earlier = or_(other.priority > Job.priority, and_(other.priority == Job.priority, other.id < Job.id))
    waits_before = and_(
        other.state == JobState.QUEUED,
        other.queue == Job.queue,
        other.kind.in_(kinds),
        other.run_after <= now,
        earlier,
        true() if only is None else only(other),
    )
    blocker = (
        select(other.id)
        .where(other.serial_key == Job.serial_key, or_(other.state == JobState.RUNNING, waits_before))
        .correlate(Job)
    )
    return (
        select(Job.id, Job.priority, Job.serial_key)
        .where(
            Job.state == JobState.QUEUED,
            Job.queue.in_(bindparam("queues", expanding=True)),
            Job.kind.in_(kinds),
            Job.run_after <= now,
            or_(Job.serial_key.is_(None), ~blocker.exists()),
            true() if only is None else only(Job),
        )
        .order_by(Job.priority.desc(), Job.id)
    )


def _full() -> Select[str]:
    """Which of ``:queues`` are at their limit."""
    running = select(func.count()).where(Job.queue == JobQueue.name, Job.state == JobState.RUNNING).scalar_subquery()
    named = JobQueue.name.in_(bindparam("queues", expanding=True))
    return select(JobQueue.name).where(named, JobQueue.max_running <= running)


_FULL = _full()


@lru_cache(maxsize=64)
def _any_due(only: Only) -> Select[int, int, str | None]:
    return _due(only).order_by(None).limit(1)


def anything_due(session: Session, queues: Sequence[str], kinds: Collection[str], *, only: Only = None) -> bool:
    """Whether a claim would find something. Only reads, so that idle workers never take SQLite's write lock."""
    full = set(session.scalars(_FULL, {"queues": queues}))
    open_queues = [queue for queue in queues if queue not in full]
    due = session.execute(_any_due(only), {"queues": open_queues, "kinds": list(kinds)})
    return due.first() is not None


def claim(
    session: Session,
    *,
    owner: str,
    queues: Sequence[str],
    kinds: Collection[str],
    free: int,
    lease_seconds: float,
    only: Only = None,
) -> list[Claimed]:
    """Take up to ``free`` due jobs of ``kinds``, most urgent first, within the limits of their queues.

    ``only`` are the jobs that this holder may have at all.
    """
    due: list[Any] = []
    for queue, room in _rooms(session, queues, free).items():
        if room > 0:
            locked = _due(only).limit(room).with_for_update(skip_locked=True, of=Job)
            due += session.execute(locked, {"queues": [queue], "kinds": list(kinds)}).all()
    due.sort(key=lambda row: (-row.priority, row.id))
    chosen = due[:free]
    claimed = _take(session, [row.id for row in chosen if row.serial_key is None], owner, lease_seconds)
    # In the order of the keys: two claims that take the same keys in different orders would deadlock.
    for row in sorted((row for row in chosen if row.serial_key is not None), key=lambda row: str(row.serial_key)):
        # The unique index is the arbiter: a claim that ran beside this one may have started a job of the same key.
        with suppress(IntegrityError), session.begin_nested():
            claimed += _take(session, [row.id], owner, lease_seconds)
    order = {row.id: place for place, row in enumerate(chosen)}
    return sorted(claimed, key=lambda job: order[job.job_id])


def renew(session: Session, *, owner: str, holds: Sequence[Hold], lease_seconds: float) -> dict[Hold, Beat]:
    """Prolong the leases of ``holds`` in one statement. What is missing in the answer is no longer held."""
    now = database_now()
    rows = session.execute(
        update(Job)
        .where(Job.owner == owner, Job.state == JobState.RUNNING, tuple_(Job.id, Job.fence).in_(holds))
        .values(lease_until=now + lease_seconds, renewed_at=now)
        .returning(Job.id, Job.fence, Job.stop_requested, Job.deadline - now),
        execution_options=_NO_SYNC,
    ).all()
    return {(job_id, fence): Beat(stop, left) for job_id, fence, stop, left in rows}


def is_held(session: Session, hold: Hold) -> bool:
    """Whether ``hold`` still holds its job; locks the row, so that it stays so until the transaction ends."""
    job_id, fence = hold
    statement = select(Job.id).where(Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING)
    return session.scalar(statement.with_for_update()) is not None


def end(session: Session, hold: Hold, state: JobState, error: str | None) -> bool:
    """Write the final ``state``; False (and no effect) when ``hold`` no longer holds the job."""
    statement = (
        update(Job)
        .where(_held_by(hold))
        .values(state=state, ended_at=database_now(), lease_until=None, error=error)
        .returning(Job.id)
    )
    return session.scalar(statement, execution_options=_NO_SYNC) is not None


def was_ended(session: Session, hold: Hold, state: JobState) -> bool:
    """Whether ``hold`` itself wrote the final ``state``: everybody else who ends a running job raises its fence."""
    job_id, fence = hold
    statement = select(Job.id).where(Job.id == job_id, Job.fence == fence, Job.state == state)
    return session.scalar(statement) is not None


def give_back(
    session: Session, hold: Hold, *, after_seconds: float, error: str | None, counts: bool
) -> JobState | None:
    """Queue a held job again (``stopped`` if a stop was asked for meanwhile); None when it was not held any more.

    With ``counts`` the attempt counts against the job's maximum; without, it was a worker that left.
    """
    now = database_now()
    values: dict[str, Any] = {
        "state": case((Job.stop_requested, _state(JobState.STOPPED)), else_=_state(JobState.QUEUED)),
        "ended_at": case((Job.stop_requested, now), else_=null()),
        "fence": Job.fence + 1,
        "owner": None,
        "lease_until": None,
        "deadline": None,
        "run_after": now + after_seconds,
        "error": error if error is not None else Job.error,
        "released": Job.released + (0 if counts else 1),
    }
    statement = update(Job).where(_held_by(hold)).values(**values).returning(Job.state)
    return session.scalar(statement, execution_options=_NO_SYNC)


def release(session: Session, *, owner: str, holds: Sequence[Hold]) -> None:
    """Queue again what ``owner`` holds of ``holds``, without counting the attempts: nobody (here) works on them.

    The owner is checked because a hold whose claim was rolled back may since name another worker's claim. A job that
    is to be stopped is left to ``reclaim``, which settles it.
    """
    session.execute(
        update(Job)
        .where(
            Job.owner == owner,
            Job.state == JobState.RUNNING,
            ~Job.stop_requested,
            tuple_(Job.id, Job.fence).in_(holds),
        )
        .values(
            state=JobState.QUEUED,
            fence=Job.fence + 1,
            owner=None,
            lease_until=None,
            deadline=None,
            run_after=database_now(),
            released=Job.released + 1,
        ),
        execution_options=_NO_SYNC,
    )


def expired(session: Session, kinds: Collection[str], *, at_most: int = 100) -> list[Hold]:
    """Holds whose lease has run out, longest first. Only reads."""
    rows = session.execute(
        select(Job.id, Job.fence)
        .where(Job.state == JobState.RUNNING, Job.lease_until < database_now(), Job.kind.in_(kinds))
        .order_by(Job.lease_until)
        .limit(at_most)
    )
    return [(job_id, fence) for job_id, fence in rows]


def reclaim(session: Session, hold: Hold) -> EndedJob | None:
    """Take a job from a holder whose lease has run out: queue it again, or end it. None unless it ended.

    It is ``stopped`` if that was asked for; ``timed_out`` if its worker still renewed it after its deadline (the
    handler did not return; had the worker died before, the attempt did not use up its time); ``lost`` if no attempt
    is left.
    """
    now = database_now()
    state = case(
        (Job.stop_requested, _state(JobState.STOPPED)),
        (and_(Job.deadline.is_not(None), Job.renewed_at > Job.deadline), _state(JobState.TIMED_OUT)),
        (Job.attempts - Job.released >= Job.max_attempts, _state(JobState.LOST)),
        else_=_state(JobState.QUEUED),
    )
    again = state == _state(JobState.QUEUED)
    row = session.execute(
        update(Job)
        .where(_held_by(hold), Job.lease_until < now)
        .values(
            state=state,
            fence=Job.fence + 1,
            owner=case((again, null()), else_=Job.owner),
            lease_until=None,
            deadline=None,
            ended_at=case((again, null()), else_=now),
            error="the worker that held the job went silent",
        )
        .returning(Job.id, Job.kind, Job.payload, Job.subject, Job.attempts, Job.state, Job.error),
        execution_options=_NO_SYNC,
    ).one_or_none()
    if row is None or not row.state.is_final:
        return None
    return EndedJob(row.id, row.kind, row.payload, row.subject, row.attempts, row.state, row.error)


def purge(session: Session, *, older_than_seconds: float, at_most: int) -> int:
    """Delete up to ``at_most`` jobs that ended longer ago; return how many."""
    old = select(Job.id).where(Job.ended_at < database_now() - older_than_seconds).order_by(Job.ended_at).limit(at_most)
    return len(session.scalars(delete(Job).where(Job.id.in_(old)).returning(Job.id), execution_options=_NO_SYNC).all())


def _held_by(hold: Hold) -> Any:
    job_id, fence = hold
    return and_(Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING)


def _state(state: JobState) -> Any:
    return literal(state, Job.state.type)


def _rooms(session: Session, queues: Sequence[str], free: int) -> dict[str, int]:
    """How many jobs each queue may start now. Limited queues stay locked, which makes their limits exact."""
    limits = session.execute(
        select(JobQueue.name, JobQueue.max_running)
        .where(JobQueue.name.in_(queues), JobQueue.max_running.is_not(None))
        .order_by(JobQueue.name)  # always in one order, or two claims would deadlock
        .with_for_update()
    ).all()
    rooms = dict.fromkeys(queues, free)
    if limits:
        # A statement of its own, after the lock: under READ COMMITTED it sees what the previous holder committed.
        counted = session.execute(
            select(Job.queue, func.count())
            .where(Job.queue.in_([name for name, _ in limits]), Job.state == JobState.RUNNING)
            .group_by(Job.queue)
        )
        running = {queue: int(count) for queue, count in counted}
        rooms |= {name: min(free, (limit or 0) - running.get(name, 0)) for name, limit in limits}
    return rooms


def _take(session: Session, job_ids: Sequence[int], owner: str, lease_seconds: float) -> list[Claimed]:
    if not job_ids:
        return []
    now = database_now()
    leased_at = time.monotonic()
    rows = session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING,
            fence=Job.fence + 1,
            attempts=Job.attempts + 1,
            owner=owner,
            started_at=now,
            renewed_at=now,
            lease_until=now + lease_seconds,
            deadline=now + Job.timeout_seconds,
        )
        .returning(
            Job.id,
            Job.kind,
            Job.payload,
            Job.subject,
            Job.attempts,
            Job.fence,
            (Job.attempts - Job.released).label("tries_used"),
            Job.max_attempts,
            Job.timeout_seconds,
        ),
        execution_options=_NO_SYNC,
    ).all()
    return [_claimed(row, leased_at) for row in rows]


def _claimed(row: Any, leased_at: float) -> Claimed:
    return Claimed(
        job_id=row.id,
        kind=row.kind,
        payload=row.payload,
        subject=row.subject,
        attempt=row.attempts,
        fence=row.fence,
        tries_used=row.tries_used,
        tries_allowed=row.max_attempts,
        timeout_seconds=row.timeout_seconds,
        leased_at=leased_at,
    )
