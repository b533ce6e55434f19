"""One attempt at one job: run the handler, and record what it left open."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from threading import Thread

from sqlalchemy.orm import Session

from hooks.errors import LeaseLost
from hooks.jobs import claims, retry
from hooks.jobs.claims import Claimed, EndedJob
from hooks.jobs.context import Handler, JobContext, record
from hooks.jobs.lease import Lease
from hooks.jobs.retry import Retry
from hooks.models.job import JobState
from registry.db import Database

LOG = logging.getLogger(__name__)

Settle = Callable[[Session, EndedJob], None]
"""Writes what the end of a job means for the domain, in the transaction that ends it, when no handler could: the last
attempt failed, the worker died with it, or the handler returned on a stop or time-out without ``finish``."""


class Attempt:
    """A claimed job, its lease, and the thread that runs its handler (set by the worker before it starts)."""

    def __init__(
        self,
        database: Database,
        claimed: Claimed,
        *,
        handler: Handler,
        settle: Settle | None,
        lease_seconds: float,
        first_retry_seconds: float,
    ) -> None:
        self.lease = Lease(claimed, lease_seconds=lease_seconds)
        self.thread = Thread()
        self._context = JobContext(database, claimed, self.lease)
        self._database = database
        self._claimed = claimed
        self._handler = handler
        self._settle = settle
        self._first_retry_seconds = first_retry_seconds

    def run(self) -> None:
        """Run the handler and see the attempt recorded, unless the lease is lost. Raises nothing."""
        try:
            self._record(self._handle())
        except LeaseLost as lost:
            LOG.info("%s", lost)
        except Exception:
            # Without a thread nobody renews it: the lease runs out, and whoever reclaims the job tries to settle it.
            LOG.exception("job %d could not be settled", self._claimed.job_id)

    def _handle(self) -> Exception | None:
        """Run the handler; give back what it raised."""
        job = self._claimed
        try:
            self._handler(self._context)
        except (Retry, LeaseLost) as error:
            return error
        except Exception as error:
            LOG.exception("job %d (%s), attempt %d", job.job_id, job.kind, job.attempt)
            return error
        return None

    def _record(self, error: Exception | None) -> None:
        reason = self.lease.reason()
        if self._context.is_finished or reason == "lost" or isinstance(error, LeaseLost):
            return
        if reason == "stop":
            self._end(JobState.STOPPED, "it was stopped")
        elif reason == "timeout":
            self._end(JobState.TIMED_OUT, f"it took longer than {self._claimed.timeout_seconds:g} seconds")
        elif reason == "drain" and (error is not None or self._context.has_noticed):
            # A handler that never looked and came to its end has done its work; one that looked has broken it off.
            self._queue_again(after_seconds=0, error=None, counts=False)
        elif error is None:
            self._end(JobState.SUCCEEDED, None)
        else:
            self._retry_or_fail(error)

    def _retry_or_fail(self, error: Exception) -> None:
        text = retry.one_line(error)
        delay_seconds = retry.delay_seconds(
            error,
            tries_used=self._claimed.tries_used,
            tries_allowed=self._claimed.tries_allowed,
            jitter=random.random(),  # noqa: S311  (spreads retries, hides nothing)
            first_seconds=self._first_retry_seconds,
        )
        if delay_seconds is None:
            self._end(JobState.FAILED, text)
        else:
            self._queue_again(after_seconds=delay_seconds, error=text, counts=True)

    def _end(self, state: JobState, error: str | None) -> None:
        def write(session: Session, may_be_recorded: bool) -> bool:
            if claims.end(session, self.lease.hold, state, error):
                self._tell_domain(session, state, error)
                return True
            return may_be_recorded and claims.was_ended(session, self.lease.hold, state)

        record(self._database, self.lease, write)

    def _queue_again(self, *, after_seconds: float, error: str | None, counts: bool) -> None:
        def write(session: Session, _may_be_recorded: bool) -> bool:
            state = claims.give_back(session, self.lease.hold, after_seconds=after_seconds, error=error, counts=counts)
            if state is JobState.STOPPED:
                self._tell_domain(session, state, error)
            return state is not None

        record(self._database, self.lease, write)

    def _tell_domain(self, session: Session, state: JobState, error: str | None) -> None:
        job = self._claimed
        if self._settle is not None and state is not JobState.SUCCEEDED:
            self._settle(session, EndedJob(job.job_id, job.kind, job.payload, job.subject, job.attempt, state, error))
