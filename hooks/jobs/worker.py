"""The worker: takes jobs, runs their handlers in threads, keeps their leases, and takes over from dead workers."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread
from types import MappingProxyType

from sqlalchemy.orm import Session

from hooks.jobs import claims, processes, retry
from hooks.jobs.attempt import Attempt, Settle
from hooks.jobs.claims import Claimed, EndedJob, Hold
from hooks.jobs.context import OUTAGES, Handler, JobContext
from hooks.jobs.retry import Retry
from registry.db import Database

__all__ = ["EndedJob", "Handler", "JobContext", "Retry", "Settle", "Worker"]

LOG = logging.getLogger(__name__)
_DAY_SECONDS = 86_400.0
_PURGE_BATCH = 500
_PURGE_EVERY_SECONDS = 600.0
_LAST_ROUND_SECONDS = 10.0
_NOTHING: Mapping[str, Settle] = MappingProxyType({})


def _do_nothing() -> None:
    """Where nobody waits for the end of a job."""


class Worker:
    """One worker process of the queue. ``run`` works until ``drain``; all times are in seconds.

    ``handlers`` by job kind: jobs of other kinds are left to other workers (of a newer version). ``slots`` jobs run at
    a time, from ``queues``; ``only`` are those it may take at all. ``heartbeat_seconds`` should be a fraction of
    ``lease_seconds``. ``settle`` by job kind.
    A handler that has not returned ``return_seconds`` after it was told to stop loses its lease. ``periodic``:
    (interval, callable) pairs, each run at start and then at most once per interval in this worker, never twice at
    the same time; several workers may each run theirs. Ended jobs are deleted after ``retention_days``. ``on_ended`` is
    called after each job, in its thread: what follows from a job is often another, which ``nudge`` finds at once.
    """

    def __init__(
        self,
        db: Database,
        handlers: Mapping[str, Handler],
        *,
        slots: int,
        queues: Sequence[str] = ("default",),
        poll_seconds: float = 0.5,
        lease_seconds: float = 30.0,
        heartbeat_seconds: float = 5.0,
        name: str = "worker",
        settle: Mapping[str, Settle] = _NOTHING,
        only: claims.Only = None,
        periodic: Sequence[tuple[float, Callable[[], None]]] = (),
        reap_seconds: float = 3.0,
        return_seconds: float = 60.0,
        first_retry_seconds: float = retry.FIRST_DELAY_SECONDS,
        retention_days: float = 30.0,
        on_ended: Callable[[], None] = _do_nothing,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = name
        self._db = db
        self._handlers = dict(handlers)
        self._settle = dict(settle)
        self._only = only
        self._slot_count = slots
        self._queues = tuple(sorted(set(queues)))
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._return_seconds = return_seconds
        self._first_retry_seconds = first_retry_seconds
        self._retention_seconds = retention_days * _DAY_SECONDS
        self._on_ended = on_ended
        self._rounds: list[tuple[float, Callable[[], None]]] = [
            (heartbeat_seconds, self._beat),
            (reap_seconds, self._reap),
            (_PURGE_EVERY_SECONDS, self._purge),
            *periodic,
        ]
        self._attempts: dict[Hold, Attempt] = {}
        self._in_doubt: list[Hold] = []
        self._lock = Lock()
        self._slot_freed = Event()
        self._stopping = Event()
        self._drain_at: float | None = None
        self._announce_at = 0.0
        self._thread: Thread | None = None

    def run(self) -> None:
        """Work until ``drain`` was called and all jobs are ended or given back. Blocks."""
        rounds = [
            Thread(target=self._every, args=(seconds, unit), name=f"{self.name}-round-{number}", daemon=True)
            for number, (seconds, unit) in enumerate(self._rounds)
        ]
        for thread in rounds:
            thread.start()
        try:
            while self._drain_at is None:
                self._slot_freed.clear()
                if not self._fill():
                    self._slot_freed.wait(self._poll_seconds)
            self._empty()
        finally:
            self._stopping.set()
            end = time.monotonic() + _LAST_ROUND_SECONDS
            for thread in rounds:
                thread.join(timeout=max(0.0, end - time.monotonic()))
        self._leave()

    def start(self) -> None:
        """Run in a thread of this process, until ``drain``."""
        self._thread = Thread(target=self.run, name=self.name, daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Look for jobs now, not at the next poll: somebody in this process knows that there may be some."""
        self._slot_freed.set()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a worker that was started with ``start``; say whether it has ended."""
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def drain(self, grace_seconds: float) -> None:
        """End: take no more jobs; after the grace tell the handlers; what they leave unfinished is queued again.

        Returns at once and takes no lock, so that a signal handler may call it; a second call may shorten the grace.
        """
        self._drain_at = min(self._drain_at or float("inf"), time.monotonic() + grace_seconds)

    # --- taking jobs

    def _fill(self) -> bool:
        """Claim as many jobs as there are free slots; whether there were any."""
        self._drop_dead()
        free = self._slot_count - len(self._attempts)
        if free <= 0:
            return False
        claimed: list[Claimed] = []
        try:
            self._give_back_doubtful()
            with self._db.read() as session:
                if not claims.anything_due(session, self._queues, self._handlers, only=self._only):
                    return False
            with self._db.write() as session:
                claimed = claims.claim(
                    session,
                    owner=self.id,
                    queues=self._queues,
                    kinds=self._handlers,
                    free=free,
                    lease_seconds=self._lease_seconds,
                    only=self._only,
                )
        except OUTAGES as error:
            # The commit may have gone through: then these rows are ours and nobody runs them.
            self._in_doubt += [(job.job_id, job.fence) for job in claimed]
            LOG.warning("%s cannot take jobs: %s", self.name, error)
            return False
        for job in claimed:
            self._start(job)
        return bool(claimed)

    def _give_back_doubtful(self) -> None:
        if self._in_doubt:
            with self._db.write() as session:
                claims.release(session, owner=self.id, holds=self._in_doubt)
            self._in_doubt.clear()

    def _start(self, job: Claimed) -> None:
        attempt = Attempt(
            self._db,
            job,
            handler=self._handlers[job.kind],
            settle=self._settle.get(job.kind),
            lease_seconds=self._lease_seconds,
            first_retry_seconds=self._first_retry_seconds,
        )
        attempt.thread = Thread(target=self._work, args=(attempt,), name=f"{self.name}-job-{job.job_id}", daemon=True)
        with self._lock:
            self._attempts[attempt.lease.hold] = attempt
        attempt.thread.start()

    def _drop_dead(self) -> None:
        """Free slots whose thread died without a word; their leases run out."""
        with self._lock:
            dead = [hold for hold, attempt in self._attempts.items() if not attempt.thread.is_alive()]
            for hold in dead:
                del self._attempts[hold]
        for job_id, _fence in dead:
            LOG.error("the thread of job %d died", job_id)

    def _held(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _work(self, attempt: Attempt) -> None:
        # No finally: a thread that dies keeps its slot until _drop_dead sees it, and is not renewed meanwhile.
        attempt.run()
        with self._lock:
            self._attempts.pop(attempt.lease.hold, None)
        self._slot_freed.set()
        self._on_ended()

    # --- rounds: each in a thread of its own

    def _every(self, seconds: float, unit: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                unit()
            except OUTAGES as error:
                LOG.warning("%s: %s", self.name, error)
            except Exception:
                LOG.exception("%s: a periodic task failed and is tried again", self.name)
            self._stopping.wait(seconds)

    def _beat(self) -> None:
        """Renew all leases whose threads live, in one statement, and hear what was asked of them."""
        live = [attempt.lease for attempt in self._held() if attempt.thread.is_alive()]
        held = {lease.hold: lease for lease in live if lease.is_worth_renewing(self._return_seconds)}
        announces = time.monotonic() >= self._announce_at
        if not held and not announces:
            return  # an idle worker does not write
        beats: dict[Hold, claims.Beat] = {}
        with self._db.write() as session:
            session.connection()  # SQLite's wait for the write lock happens here, before the lease's time is taken
            asked_at = time.monotonic()
            if held:
                beats = claims.renew(session, owner=self.id, holds=list(held), lease_seconds=self._lease_seconds)
            if announces:
                self._announce(session)
        self._announce_at = asked_at + self._lease_seconds if announces else self._announce_at
        for hold, lease in held.items():
            beat = beats.get(hold)
            if beat is None:
                lease.tell("lost")
                continue
            lease.renewed(asked_at, beat.deadline_in_seconds)
            if beat.stop_requested:
                lease.tell("stop")

    def _announce(self, session: Session) -> None:
        processes.see(
            session,
            self.id,
            name=self.name,
            slots=self._slot_count,
            queues=self._queues,
            is_draining=self._drain_at is not None,
        )

    def _reap(self) -> None:
        """Take over from holders that went silent. Every worker does it; no leader is needed."""
        with self._db.read() as session:
            holds = claims.expired(session, self._handlers)
        for hold in holds:
            self._reclaim(hold)
        if holds:
            self._slot_freed.set()

    def _reclaim(self, hold: Hold) -> None:
        try:
            with self._db.write() as session:
                ended = claims.reclaim(session, hold)
                if ended is not None and ended.kind in self._settle:
                    self._settle[ended.kind](session, ended)
        except OUTAGES:
            raise
        except Exception:
            # Settled together or not at all; one job that cannot be must not keep the others from being reclaimed.
            LOG.exception("job %d of a silent worker could not be settled and is tried again", hold[0])

    def _purge(self) -> None:
        """Delete jobs that ended long ago in small batches, so that no other writer waits long."""
        with self._db.write() as session:
            processes.forget_silent(session, older_than_seconds=_DAY_SECONDS)
        deleted = _PURGE_BATCH
        while deleted == _PURGE_BATCH and not self._stopping.is_set():
            with self._db.write() as session:
                deleted = claims.purge(session, older_than_seconds=self._retention_seconds, at_most=_PURGE_BATCH)

    # --- ending

    def _empty(self) -> None:
        """Let the handlers end by themselves, then tell them, then give back what they still hold."""
        self._announce_at = 0.0
        while self._held() and time.monotonic() < (self._drain_at or 0.0):
            self._await_a_free_slot()
        for attempt in self._held():
            attempt.lease.tell("drain")
        end = time.monotonic() + self._return_seconds
        while self._held() and time.monotonic() < end:
            self._await_a_free_slot()
        for attempt in self._held():
            attempt.lease.tell("lost")
            self._in_doubt.append(attempt.lease.hold)

    def _await_a_free_slot(self) -> None:
        self._slot_freed.clear()
        self._drop_dead()
        if self._held():
            self._slot_freed.wait(min(self._poll_seconds, 0.1))

    def _leave(self) -> None:
        try:
            self._give_back_doubtful()
            with self._db.write() as session:
                processes.forget(session, self.id)
        except OUTAGES as error:
            LOG.warning("%s leaves without a word: %s", self.name, error)
