"""Leaving an origin alone that keeps failing, so that callers learn it at once instead of waiting for a time-out."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Breaker:
    """One origin's recent luck; used by many threads. Times are monotonic seconds.

    ``threshold`` consecutive failures open it; while open one caller per ``probe_seconds`` is let through as a probe,
    and one success closes it. ``hold`` keeps everybody out for as long as the origin itself asked for.
    """

    def __init__(self, monotonic: Callable[[], float], *, threshold: int, probe_seconds: float) -> None:
        self._monotonic = monotonic
        self._threshold = threshold
        self._probe_seconds = probe_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._next_probe = 0.0
        self._held_until = 0.0

    def admit(self) -> bool:
        """Whether the caller may ask now. A True while open *is* the probe: the next one comes a period later."""
        with self._lock:
            now = self._monotonic()
            if now < self._held_until:
                return False
            if self._failures < self._threshold:
                return True
            if now < self._next_probe:
                return False
            # Moved here and not when the probe reports: a probe whose thread dies must not keep it open for ever.
            self._next_probe = now + self._probe_seconds
            return True

    def succeeded(self) -> None:
        """The origin gave a usable answer."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """The origin gave none, after the retries."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._threshold:
                self._next_probe = self._monotonic() + self._probe_seconds

    def hold(self, seconds: float) -> None:
        """The origin asked to be left alone for ``seconds`` (Retry-After)."""
        with self._lock:
            self._held_until = max(self._held_until, self._monotonic() + seconds)

    def wait_seconds(self) -> float:
        """How long until ``admit`` may be true again; 0 if it is now."""
        with self._lock:
            probe = self._next_probe if self._failures >= self._threshold else 0.0
            return max(0.0, max(self._held_until, probe) - self._monotonic())
