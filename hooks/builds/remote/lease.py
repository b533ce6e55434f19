"""A lease as far as a runner can know: kept by a thread of its own, and over when the server says so or falls silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Self, TypeVar

import requests

from hooks.builds.executor import StopReason
from hooks.builds.remote.link import Away, LeaseGone, Link, NotAdmitted, Rejected, patiently
from hooks.builds.run import Abandoned

LOG = logging.getLogger(__name__)
_BEATS_PER_LEASE = 6
T = TypeVar("T")


class HeldLease:
    """One attempt at a build. Use as a context: the lease is renewed while it lasts.

    Every request raises Abandoned once nothing about the build is taken any more.
    """

    def __init__(self, link: Link, build: Mapping[str, Any], asked_at: float) -> None:
        """``build`` is the server's answer to a claim that was sent at the monotonic time ``asked_at``."""
        self.id: str = build["leaseId"]
        self._token: str = build["leaseToken"]
        self._link = link
        self._lease_seconds: float = build["leaseSeconds"]
        self._valid_until = asked_at + self._lease_seconds
        self._reason: StopReason | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{self.id[:8]}", daemon=True)
        self.is_drained = False

    def __enter__(self) -> Self:
        """Begin to renew it."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Renew it no more."""
        self._over.set()
        self._thread.join()

    def interrupt(self) -> StopReason | None:
        """Why the build has to end, if it has to."""
        if self.is_drained or time.monotonic() >= self._valid_until:
            return StopReason.LOST
        return self._reason

    def is_lost(self) -> bool:
        """Whether somebody else may have the build by now."""
        return self.interrupt() is StopReason.LOST

    def drain(self) -> None:
        """The runner ends: the build is broken off, and goes to another."""
        self.is_drained = True

    def ask(self, method: str, *path: str, body: IO[bytes] | bytes | None = None, **more: Any) -> requests.Response:
        """One request about the build. Raises Away, Rejected, Abandoned."""
        try:
            return self._link.ask(method, "leases", self.id, *path, body=body, lease=self._token, **more)
        except (LeaseGone, NotAdmitted) as error:
            LOG.info("lease %s: %s", self.id, error)
            self._lose()
            raise Abandoned(self.id) from error

    def insist(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, as often as it takes while the server is away. Raises what it does, and Abandoned."""
        try:
            return patiently(attempt, self.is_lost)
        except Away as error:
            raise Abandoned(self.id) from error

    def _lose(self) -> None:
        self._valid_until = 0.0

    def _beat(self) -> None:
        while not self._over.wait(self._lease_seconds / _BEATS_PER_LEASE):
            asked_at = time.monotonic()
            try:
                told = self.ask("POST", "heartbeat", read_seconds=self._lease_seconds / 2).json()
            except Abandoned:
                return
            except (Away, Rejected, ValueError) as error:
                LOG.warning("lease %s is not renewed: %s", self.id, error)
                continue
            if told["stop"] is not None:
                self._reason = StopReason[told["stop"]]
            if not self.is_lost():
                self._valid_until = max(self._valid_until, asked_at + told["leaseSeconds"])
