"""The runner: asks for builds, runs them in threads, and survives the server's restarts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from hooks.builds.remote.lease import HeldLease
from hooks.builds.remote.link import PROTOCOL, Away, Link, NotAdmitted, Pause, Rejected
from hooks.builds.remote.work import Bench, run_one

LOG = logging.getLogger("entrepot.runner")

_FULL_POLL_SECONDS = 5.0
_BREAK_SECONDS = 20.0


class Runner:
    """Runs builds of one server. ``slots`` at a time."""

    def __init__(self, link: Link, bench: Bench, *, host: str, version: str, slots: int) -> None:
        self._link = link
        self._bench = bench
        self._said = {
            "protocol": PROTOCOL,
            "host": host,
            "version": version,
            "environments": sorted(bench.executors),
            "slots": slots,
        }
        self._slots = slots
        self._lock = threading.Lock()
        self._held: dict[str, tuple[HeldLease, threading.Thread]] = {}
        self._freed = threading.Event()

    def run(self, told: threading.Event, drain_seconds: float) -> None:
        """Work until ``told``; then let builds end for a while, and give the others back. Raises NotAdmitted, Rejected."""
        pause = Pause()
        while not told.is_set():
            self._freed.clear()
            try:
                wait_seconds = self._claim()
                pause.reset()
            except Away as error:
                wait_seconds = pause.next_seconds()
                LOG.warning("no build can be asked for; next try in %.1f s: %s", wait_seconds, error)
            if wait_seconds:
                self._wait(told, wait_seconds)
        self._drain(drain_seconds)

    def _wait(self, told: threading.Event, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not told.is_set() and not self._freed.is_set() and (left := end - time.monotonic()) > 0:
            told.wait(min(left, 0.2))

    def _claim(self) -> float:
        """Ask once; how long to wait before the next time. Only this thread asks, so that ``leases`` are all there are."""
        with self._lock:
            leases = list(self._held)
        asked_at = time.monotonic()
        answer: Mapping[str, Any] = self._link.ask("POST", "claim", json={**self._said, "leases": leases}).json()
        build = answer["build"]
        if build is None:
            return _FULL_POLL_SECONDS if len(leases) >= self._slots else float(answer["pollSeconds"])
        lease = HeldLease(self._link, build, asked_at)
        LOG.info("build %s of %s begins, attempt %d", build["id"], build["project"], build["attempt"])
        thread = threading.Thread(target=self._work, args=(lease, build), name=f"build-{build['id']}", daemon=True)
        with self._lock:
            self._held[lease.id] = (lease, thread)
        thread.start()
        return 0.0

    def _work(self, lease: HeldLease, build: Mapping[str, Any]) -> None:
        try:
            with lease:
                run_one(self._bench, lease, build)
        except Exception:
            # Without its thread nobody renews the lease: it runs out, and the build goes to another.
            LOG.exception("build %s broke this runner's thread", build["id"])
        finally:
            with self._lock:
                self._held.pop(lease.id, None)
            self._freed.set()

    def _drain(self, seconds: float) -> None:
        self._join(seconds)
        with self._lock:
            held = list(self._held.values())
        for lease, _ in held:
            lease.drain()
        self._join(_BREAK_SECONDS)

    def _join(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._lock:
            threads = [thread for _, thread in self._held.values()]
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


__all__ = ["NotAdmitted", "Rejected", "Runner"]
