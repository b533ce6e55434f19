"""What a worker knows, in memory, about a job it holds: until when, and whether its handler should stop."""

from __future__ import annotations

import time
from threading import Event, Lock
from typing import Literal

from hooks.jobs.claims import Claimed, Hold

StopReason = Literal["stop", "timeout", "lost", "drain"]
"""Asked for by a person; deadline passed; the lease may be another worker's by now; this worker ends."""

_RANK: dict[StopReason, int] = {"drain": 0, "timeout": 1, "stop": 2, "lost": 3}


class Lease:
    """A lease as far as this process can know. Safe to use from many threads.

    Expiry and deadline are computed from the monotonic clock whenever somebody asks: they are noticed even while the
    heartbeat hangs on a dead connection.
    """

    def __init__(self, claimed: Claimed, *, lease_seconds: float) -> None:
        self.hold: Hold = (claimed.job_id, claimed.fence)
        self.lease_seconds = lease_seconds
        self._valid_until = claimed.leased_at + lease_seconds
        self._deadline = None if claimed.timeout_seconds is None else claimed.leased_at + claimed.timeout_seconds
        self._reason: StopReason | None = None
        self._told_at = 0.0
        self._lock = Lock()
        self._told = Event()

    def reason(self) -> StopReason | None:
        """Why the handler should stop; None while it should go on. ``lost`` is final, and outweighs all others."""
        now = time.monotonic()
        if now >= self._valid_until:
            self.tell("lost")
        elif self._deadline is not None and now >= self._deadline:
            self.tell("timeout")
        return self._reason

    def tell(self, reason: StopReason) -> None:
        """Give the handler a reason to stop. A weaker one never replaces a stronger one."""
        with self._lock:
            if self._reason is None:
                self._told_at = time.monotonic()
            if self._reason is None or _RANK[reason] > _RANK[self._reason]:
                self._reason = reason
            self._told.set()

    def renewed(self, asked_at: float, deadline_in_seconds: float | None) -> None:
        """Note a renewal that was asked for at the monotonic time ``asked_at``."""
        with self._lock:
            self._valid_until = max(self._valid_until, asked_at + self.lease_seconds)
            self._deadline = None if deadline_in_seconds is None else asked_at + deadline_in_seconds

    def is_worth_renewing(self, return_seconds: float) -> bool:
        """False once it is lost, or the handler has not returned ``return_seconds`` after it was told to stop.

        Renewing a job that will not end would hide it for ever from the one who ends it in its stead.
        """
        reason = self.reason()
        return reason is None or (reason != "lost" and time.monotonic() < self._told_at + return_seconds)

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds`` or until there is a reason to stop."""
        end = time.monotonic() + seconds
        while self.reason() is None:
            now = time.monotonic()
            if now >= end:
                return
            until = min(end, self._valid_until, end if self._deadline is None else self._deadline)
            self._told.wait(max(0.0, until - now))
