"""The queue's front: put a job in, move it, stop it, look at it. Everything happens in the caller's transaction.

So the insert of a job beside the domain's rows is the outbox: both are there or neither.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, case, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hooks.jobs.database_clock import database_now
from hooks.models.job import Job, JobQueue, JobState

# No worker leases for so long: a lease that ends later was written under a clock that has been set back since.
LONGEST_LEASE_SECONDS = 86_400.0


# For jobs that are one short transaction and whose end others wait for: workers killed under them (200 kill -9 in a row
# cost 5 of 790 such jobs their 5 attempts) must not make them give up; repeating is harmless and backs off by itself.
PATIENT_ATTEMPTS = 1000


def enqueue(
    session: Session,
    kind: str,
    payload: dict[str, Any],
    *,
    queue: str = "default",
    priority: int = 0,
    dedupe: str | None = None,
    run_after_seconds: float = 0,
    timeout_seconds: float | None = None,
    max_attempts: int = 5,
    subject: str | None = None,
    serial_key: str | None = None,
) -> int | None:
    """Add a job to the caller's transaction; return its id, or None when ``dedupe`` is queued or running already.

    ``payload`` must be JSON. ``priority``: higher first, then older first. ``timeout_seconds`` holds per attempt.
    Of the jobs with one ``serial_key``, whatever their queue, at most one runs at a time; one that waits for its next
    attempt lets others pass. ``subject`` is what pages search by (``build:12``).

    None leaves the transaction usable. The job that was found may be running and past the point where it reads
    what this caller wrote: put the thing itself (an event's id) in ``dedupe`` where that matters.
    """
    insert = sqlite.insert if _is_sqlite(session) else postgresql.insert
    statement = (
        insert(Job)
        .values(
            kind=kind,
            payload=payload,
            queue=queue,
            priority=priority,
            dedupe=dedupe,
            run_after=database_now() + run_after_seconds,
            timeout_seconds=timeout_seconds,
            max_attempts=max_attempts,
            subject=subject,
            serial_key=serial_key,
            enqueued_at=database_now(),
        )
        # Without a target: naming the partial index needs its condition as literal text on PostgreSQL.
        .on_conflict_do_nothing()
        .returning(Job.id)
    )
    return session.scalar(statement)


def postpone(session: Session, queue: str, dedupe: str, run_after_seconds: float) -> bool:
    """Move the start of a still queued job to at least ``run_after_seconds`` from now; never to an earlier moment.

    False: no job of that ``dedupe`` is queued (it runs, or has ended).
    """
    moment = database_now() + run_after_seconds
    moved = session.scalars(
        update(Job)
        .where(Job.queue == queue, Job.dedupe == dedupe, Job.state == JobState.QUEUED)
        .values(run_after=case((Job.run_after < moment, moment), else_=Job.run_after))
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    return bool(moved)


def request_stop(session: Session, job_id: int) -> bool:
    """Stop a job: a queued one is ``stopped`` at once, a running one is told; False when it has ended (or never was).

    A running job is ``stopped`` only when its handler has returned or its lease has run out. When a queued job is
    stopped here, the caller writes what that means for the domain, in the same transaction.
    """
    # One statement: between two, a failing attempt could move the job from running to queued and escape both.
    was_queued = Job.state == JobState.QUEUED
    touched = session.scalars(
        update(Job)
        .where(Job.id == job_id, Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
        .values(
            stop_requested=True,
            state=case((was_queued, literal(JobState.STOPPED, Job.state.type)), else_=Job.state),
            ended_at=case((was_queued, database_now()), else_=None),
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    return bool(touched)


def give_up(session: Session, job_id: int) -> None:
    """Stop a job that nobody waits for any more, unless somebody has it in hand at this moment: never waits for a lock.

    For who holds rows that the job's end would ask for. Every end of a job takes the job's row first and those of the domain
    behind it; going the other way would be a deadlock. A job that is passed over has to find out for itself that it is in
    vain, as one that ends at this moment has to anyway.
    """
    is_open = Job.state.in_([JobState.QUEUED, JobState.RUNNING])
    free = select(Job.id).where(Job.id == job_id, is_open).with_for_update(skip_locked=True)
    if session.scalar(free) is not None:
        request_stop(session, job_id)


def call_off(session: Session, job_id: int) -> bool:
    """Stop a job that is queued for a later moment; False, and nothing has happened, for any other one.

    Like ``give_up`` it never waits for a lock: who has the job in hand at this moment runs it.
    """
    is_put_off = and_(Job.state == JobState.QUEUED, Job.run_after > database_now())
    free = select(Job.id).where(Job.id == job_id, is_put_off).with_for_update(skip_locked=True)
    return session.scalar(free) is not None and request_stop(session, job_id)


def forget(session: Session, kind: str, subject: str) -> None:
    """Stop the queued jobs of a kind about a subject: nobody waits for them any more."""
    session.execute(
        update(Job)
        .where(Job.kind == kind, Job.subject == subject, Job.state == JobState.QUEUED)
        .values(stop_requested=True, state=JobState.STOPPED, ended_at=database_now())
        .execution_options(synchronize_session=False)
    )


def limit_queue(session: Session, name: str, max_running: int | None) -> None:
    """Let at most ``max_running`` jobs of a queue run at a time over all workers; 0 pauses it, None lifts the limit.

    What runs already goes on.
    """
    insert = sqlite.insert if _is_sqlite(session) else postgresql.insert
    statement = insert(JobQueue).values(name=name, max_running=max_running)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"max_running": max_running}))


def job_state(session: Session, job_id: int) -> JobState | None:
    """The state of a job; None when there is no such job (any more)."""
    return session.scalar(select(Job.state).where(Job.id == job_id))


def faults(session: Session) -> list[str]:
    """What cannot be in a sound queue, one line each, for ``fsck``. An empty list is good.

    Two final states of one job cannot be written: the state is one column, and only fenced updates of a running job
    write it. What remains to check: every running job can be reclaimed, and starts and fences only ever rose.
    """
    now = database_now()
    checks = [
        ("runs without a lease or an owner: nobody would reclaim it", _runs_unheld()),
        (
            "has a lease that ends in a far future: nobody would reclaim it",
            and_(Job.state == JobState.RUNNING, Job.lease_until > now + LONGEST_LEASE_SECONDS),
        ),
        ("is queued and held at the same time", _is_queued_and_held()),
        ("has ended and is held, or has ended without a time", _is_badly_ended()),
        ("has not ended and has an end time", and_(_is_open(), Job.ended_at.is_not(None))),
        (
            "has impossible counters (released <= attempts <= fence must hold)",
            or_(Job.released < 0, Job.released > Job.attempts, Job.attempts > Job.fence),
        ),
        ("runs and was never started", and_(Job.state == JobState.RUNNING, Job.attempts < 1)),
    ]
    found = [
        f"job {job_id} {text}"
        for text, condition in checks
        for job_id in session.scalars(select(Job.id).where(condition).order_by(Job.id))
    ]
    shared = session.execute(
        select(Job.serial_key, func.count())
        .where(Job.state == JobState.RUNNING, Job.serial_key.is_not(None))
        .group_by(Job.serial_key)
        .having(func.count() > 1)
    )
    return found + [f"serial key {key!r} is held by {count} running jobs" for key, count in shared]


def _is_open() -> Any:
    return Job.state.in_([JobState.QUEUED, JobState.RUNNING])


def _runs_unheld() -> Any:
    return and_(Job.state == JobState.RUNNING, or_(Job.lease_until.is_(None), Job.owner.is_(None)))


def _is_queued_and_held() -> Any:
    return and_(Job.state == JobState.QUEUED, or_(Job.lease_until.is_not(None), Job.owner.is_not(None)))


def _is_badly_ended() -> Any:
    return and_(~_is_open(), or_(Job.ended_at.is_(None), Job.lease_until.is_not(None)))


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
