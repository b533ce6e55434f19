"""The job queue's tables: leased rows in the product's database.

All moments are seconds since 1970 by the *database's* clock: leases are compared across machines, and no two machines
agree on the time.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Double, Enum, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base


class JobState(StrEnum):
    """``queued`` and ``running``, then exactly one of the others, which are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state has ended and never changes again."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


def _values(states: type[JobState]) -> list[str]:
    return [state.value for state in states]


# SQLite gives automatic numbers to INTEGER keys only.
_JobId = BigInteger().with_variant(Integer, "sqlite")
_JobState = Enum(JobState, native_enum=False, length=16, values_callable=_values)
_OPEN = text("state IN ('queued', 'running')")
_QUEUED = text("state = 'queued'")
_RUNNING = text("state = 'running'")
_ENDED = text("ended_at IS NOT NULL")


class Job(Base):
    """A unit of work. ``id`` and ``fence`` together name one holder of it.

    ``fence`` rises with every change of hands, so that nothing a former holder writes is accepted. ``attempts`` counts
    the starts and never falls; ``released`` counts those a draining worker gave back unharmed, which do not count
    against ``max_attempts``. ``error`` is one line about the last attempt that went wrong. ``priority``: higher first.
    Rows that refer to a job do so without a foreign key or with ON DELETE SET NULL: ended jobs are deleted in time.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index("uq_job_dedupe", "queue", "dedupe", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        # The arbiter of serial keys: two claims that overlap cannot see each other's rows on PostgreSQL.
        Index("uq_job_serial_running", "serial_key", unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        Index("ix_job_serial_open", "serial_key", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_job_queued", "queue", "run_after", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index("ix_job_running", "queue", "lease_until", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        Index("ix_job_ended", "ended_at", sqlite_where=_ENDED, postgresql_where=_ENDED),
        # AUTOINCREMENT: without it SQLite gives the number of a deleted job to a new one.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_JobId, primary_key=True)
    queue: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    subject: Mapped[str | None] = mapped_column(String(255), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    state: Mapped[JobState] = mapped_column(_JobState, default=JobState.QUEUED)
    dedupe: Mapped[str | None] = mapped_column(String(255))
    serial_key: Mapped[str | None] = mapped_column(String(255))
    run_after: Mapped[float] = mapped_column(Double)
    attempts: Mapped[int] = mapped_column(default=0)
    released: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=5)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    owner: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[float | None] = mapped_column(Double)
    renewed_at: Mapped[float | None] = mapped_column(Double)
    stop_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    timeout_seconds: Mapped[float | None] = mapped_column(Double)
    deadline: Mapped[float | None] = mapped_column(Double)
    error: Mapped[str | None] = mapped_column(Text)
    enqueued_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)


class JobQueue(Base):
    """A queue with a limit: at most ``max_running`` of its jobs run at a time, over all workers (0 pauses it).

    A queue without a row, or with null, has no limit but the workers' slots.
    """

    __tablename__ = "job_queue"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    max_running: Mapped[int | None]


class WorkerProcess(Base):
    """A worker that lives or lived lately. ``id`` is new for every process and is ``job.owner`` of what it holds."""

    __tablename__ = "worker_process"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    slots: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(JSON)
    started_at: Mapped[float] = mapped_column(Double)
    seen_at: Mapped[float] = mapped_column(Double)
    is_draining: Mapped[bool] = mapped_column(Boolean, default=False)
