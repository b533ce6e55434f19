"""What clients will ask next, had before they ask: a bounded amount of work behind the answers.

Installers go from package to package, one question at a time; most of a cold install is waiting for an upstream. What
the next question is, only a format knows (from what it has just answered); here is who works it off.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from registry.errors import Problem

log = logging.getLogger("entrepot.ahead")

THREADS = 3
MOST_WAITING = 256
REST_SECONDS = 600.0
MOST_REMEMBERED = 8192


class ReadAhead:
    """Does each piece of work at most once in ``REST_SECONDS``, ``THREADS`` at a time, in this process.

    What does not fit is left out: nothing depends on it, the client's own question does the same work. Safe for many
    threads.
    """

    def __init__(
        self, *, is_on: bool = True, threads: int = THREADS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """With ``is_on`` False nothing is ever done."""
        self._is_on = is_on
        self._threads = threads
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue(MOST_WAITING)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._started = 0

    def start(self, key: str, work: Callable[[], object]) -> bool:
        """Do ``work`` soon; False when the same was begun lately, or does not fit."""
        if not self._is_on:
            return False
        now = self._monotonic()
        with self._lock:
            begun = self._known.get(key)
            if begun is not None and now < begun + REST_SECONDS:
                return False
            try:
                self._waiting.put_nowait((key, work))
            except queue.Full:
                return False
            self._known[key] = now
            self._known.move_to_end(key)
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
            needs_thread = self._started < self._threads
            self._started += needs_thread
        if needs_thread:
            # A daemon: a server that ends does not wait for what nobody asked for yet.
            threading.Thread(target=self._work_off, name="ahead", daemon=True).start()
        return True

    def _work_off(self) -> None:
        while True:
            key, work = self._waiting.get()
            try:
                work()
            except Problem as error:
                log.debug("nothing ahead for %s: %s", key, error)
            except Exception:
                log.exception("reading ahead for %s failed", key)
