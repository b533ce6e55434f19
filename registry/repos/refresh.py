"""Work that nobody waits for: pages refreshed behind the answers that were given from the old ones."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from registry.errors import Problem

log = logging.getLogger("entrepot.upstream")

THREADS = 8
REST_SECONDS = 30.0
MOST_FAILURES = 4096


class Refresher:
    """Runs at most one refresh for each key and ``THREADS`` in all, in this process. Safe for many threads.

    What does not fit is left out: the next request for the same page asks again. A key whose refresh failed rests for
    ``REST_SECONDS``, lest a dead upstream is asked for each request.
    """

    def __init__(self, *, threads: int = THREADS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._failed: OrderedDict[str, float] = OrderedDict()

    def start(self, key: str, work: Callable[[], object]) -> bool:
        """Begin ``work`` in the background unless it runs, rests or does not fit; says whether it failed lately."""
        with self._lock:
            failed = self._failed.get(key)
            if failed is not None and self._monotonic() < failed + REST_SECONDS:
                return True
            if key in self._running or len(self._running) >= self._threads:
                return failed is not None
            self._running.add(key)
        # A daemon: a server that ends does not wait for a page that nobody waits for.
        threading.Thread(target=self._run, args=(key, work), name="refresh", daemon=True).start()
        return failed is not None

    def _run(self, key: str, work: Callable[[], object]) -> None:
        worked = False
        try:
            work()
            worked = True
        except Problem as error:
            log.info("a refresh failed: %s", error)
        except Exception:
            log.exception("a refresh failed")
        finally:
            with self._lock:
                self._running.discard(key)
                self._failed.pop(key, None)
                if not worked:
                    self._failed[key] = self._monotonic()
                    while len(self._failed) > MOST_FAILURES:
                        self._failed.popitem(last=False)
