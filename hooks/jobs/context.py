"""What a handler gets: its job, when to stop, and the fenced ways to write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from hooks.errors import LeaseLost
from hooks.jobs import claims
from hooks.jobs.claims import Claimed
from hooks.jobs.lease import Lease, StopReason
from hooks.models.job import JobState
from registry.db import Database
from registry.errors import Unavailable

T = TypeVar("T")
LOG = logging.getLogger(__name__)

OUTAGES = (Unavailable, PoolTimeout)
"""What a database that is away raises, through either door of ``registry.db``."""
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_ENDS_OF_HANDLERS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED, JobState.TIMED_OUT})


def record(database: Database, lease: Lease, write: Callable[[Session, bool], bool]) -> None:
    """Run ``write`` in a write transaction, again and again while the database is away, until it is recorded.

    ``write`` gets the session and whether an earlier try may have been committed unnoticed (the connection broke
    during the commit); it returns False when the lease is no longer held. Raises LeaseLost then, and also when the
    database answers heartbeats but has refused this very transaction for a whole lease: then the lease is given up,
    because a job that is held and never ended is the one fault the queue cannot heal.
    """
    failing_since: float | None = None
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            with database.write() as session:
                if not write(session, failing_since is not None):
                    raise LeaseLost(*lease.hold)
        except OUTAGES as error:
            now = time.monotonic()
            failing_since = failing_since or now
            if lease.reason() != "lost" and now - failing_since > lease.lease_seconds:
                lease.tell("lost")
                raise LeaseLost(*lease.hold) from error
            LOG.warning("job %d: its end cannot be recorded yet (%s)", lease.hold[0], error)
        else:
            return
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


class JobContext:
    """One attempt at one job, in the thread that runs its handler.

    ``attempt`` counts the starts (1 first) and never repeats; ``fence`` names this holder. A handler may be started
    again after any crash: what it does outside ``step`` and ``finish`` must be harmless when it is done twice.
    """

    def __init__(self, database: Database, claimed: Claimed, lease: Lease) -> None:
        self.job_id = claimed.job_id
        self.kind = claimed.kind
        self.payload: dict[str, Any] = claimed.payload
        self.subject = claimed.subject
        self.attempt = claimed.attempt
        self.fence = claimed.fence
        self.is_finished = False
        self.has_noticed = False
        self._database = database
        self._lease = lease

    def stop_reason(self) -> StopReason | None:
        """Why to stop: ``stop`` (asked for), ``timeout``, ``lost`` (another worker may run it), ``drain``; or None.

        A handler that was told and returns without ``finish`` leaves its job stopped, timed out, or (``drain``)
        queued again. After ``lost`` nothing it writes is accepted: it releases what it holds and returns.
        """
        reason = self._lease.reason()
        self.has_noticed = self.has_noticed or reason is not None
        return reason

    def should_stop(self) -> bool:
        """Whether there is any reason to stop."""
        return self.stop_reason() is not None

    def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds`` or until there is a reason to stop; say whether there is one."""
        self._lease.wait(seconds)
        return self.should_stop()

    def step(self, unit: Callable[[Session], T]) -> T:
        """Run ``unit`` in one write transaction, only while this holder holds the job, and return what it returns.

        Repeated on deadlock (nothing was applied then), not on an outage: it may have been applied unnoticed.
        Raises LeaseLost (``unit`` has not run, or is rolled back), Unavailable, and whatever ``unit`` raises.
        """

        def fenced(session: Session) -> T:
            if not claims.is_held(session, self._lease.hold):
                raise LeaseLost(*self._lease.hold)
            return unit(session)

        return self._database.retry(fenced)

    def finish(
        self, state: JobState, unit: Callable[[Session], None] | None = None, *, error: str | None = None
    ) -> None:
        """End the job: its final ``state`` and what ``unit`` writes (domain rows, jobs that follow) in one transaction.

        ``state`` is succeeded, failed, stopped or timed_out (else ValueError); ``error`` is one line for people. While
        the database is away it is tried again, so ``unit`` must be fit to run again after a rollback. Raises LeaseLost
        when another holder took over or the job has ended: then nothing of ``unit`` is stored. What ``unit`` raises
        leaves the job running, and it may be finished otherwise.
        """
        if state not in _ENDS_OF_HANDLERS:
            raise ValueError(f"a handler cannot end its job as {state}")

        def write(session: Session, may_be_recorded: bool) -> bool:
            if claims.end(session, self._lease.hold, state, error):
                if unit is not None:
                    unit(session)
                return True
            return may_be_recorded and claims.was_ended(session, self._lease.hold, state)

        record(self._database, self._lease, write)
        self.is_finished = True


Handler = Callable[[JobContext], None]
"""Does a job of one kind. Its docstring says why running twice is harmless."""
