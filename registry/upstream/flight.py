"""One fetch per thing: threads of a process share one call, processes of a host take turns and look again first."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

_POLL_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


class _Flight:
    """One call in the air."""

    def __init__(self) -> None:
        self.leader = threading.get_ident()
        self.landed = threading.Event()
        self.is_settled = False
        self.result: Any = None
        self.error: Exception | None = None


class SingleFlight:
    """Keeps callers from doing the same work at the same time. One per process; used by many threads.

    ``directory`` holds the lock files (``<2 hex>/<sha256 of the key>``) and is shared by the processes of one host; the
    kernel drops a lock with its holder, so that a killed process never blocks the others. Nobody waits longer than
    ``wait_seconds`` for another: then they do the work themselves, since doing it twice is merely wasteful.
    """

    def __init__(self, directory: Path, *, wait_seconds: float = 30.0) -> None:
        self._directory = directory
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}

    def run(
        self,
        key: str,
        work: Callable[[], T],
        check: Callable[[], T | None] = lambda: None,
        *,
        wait_seconds: float | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> T:
        """The result of ``work``, done by this caller or by another one for the same ``key`` at the same time.

        ``key`` must hold everything that the result depends on. ``check`` looks whether another process has done the
        work meanwhile, and gives its result or None; it is called once the turn has come, right before ``work``.
        ``wait_seconds`` is this caller's patience, where the work may rightly take longer than most; ``on_wait`` is called
        when the leader finds another process at work.
        Raises what ``work`` or ``check`` raised, in the leader and in those who waited for it, and is then forgotten.
        """
        patience = self._wait_seconds if wait_seconds is None else wait_seconds
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if leads:
            return self._lead(key, flight, work, check, patience, on_wait)
        if flight.leader != threading.get_ident() and flight.landed.wait(patience) and flight.is_settled:
            if flight.error is not None:
                raise flight.error
            result: T = flight.result
            return result
        # The leader takes too long, was torn down (SystemExit), or is this very thread one frame up.
        return work()

    def _lead(
        self,
        key: str,
        flight: _Flight,
        work: Callable[[], T],
        check: Callable[[], T | None],
        patience: float,
        on_wait: Callable[[], None],
    ) -> T:
        try:
            with self._turn(key, patience, on_wait):
                found = check()
                flight.result = found if found is not None else work()
            flight.is_settled = True
        except Exception as error:
            flight.error = error
            flight.is_settled = True
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
        result: T = flight.result
        return result

    @contextmanager
    def _turn(self, key: str, patience: float, on_wait: Callable[[], None]) -> Iterator[None]:
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self._directory / name[:2] / name
        descriptor = self._acquire(path, patience, on_wait)
        try:
            yield
        finally:
            if descriptor is not None:
                # Removed while held: whoever waits for this very file sees that its name is gone and starts over.
                try:
                    path.unlink(missing_ok=True)
                except OSError as failure:
                    log.warning("a lock file stays behind: %s", failure)
                finally:
                    os.close(descriptor)

    def _acquire(self, path: Path, patience: float, on_wait: Callable[[], None] = lambda: None) -> int | None:
        """The locked descriptor; None when the wait is over or the directory cannot be used."""
        deadline = time.monotonic() + patience
        tries = 0
        while True:
            try:
                descriptor = _try_lock(path)
            except OSError as failure:
                # The lock saves work, it does not guard anything: a full disk must not stop fetching.
                log.warning("no lock between processes: %s", failure)
                return None
            if descriptor is not None:
                return descriptor
            if tries == 0:
                on_wait()
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_SECONDS[min(tries, len(_POLL_SECONDS) - 1)])
            tries += 1


def _try_lock(path: Path) -> int | None:
    """Lock the file of this name without waiting; None if somebody holds it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
