"""Whether a volume can be written to: what a failed write says of it, and what a probe found a moment ago.

After a failed write or sync nobody knows what the medium holds, and the kernel may report success for the next sync of
pages it has dropped. So such a volume is suspect: nothing more is written to it until a probe, which reads back what it
wrote, succeeds.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Callable
from threading import RLock

from storage.errors import StorageError, Transient

log = logging.getLogger("entrepot.storage")

# How long a probe's result stands. Whoever asks more often, and a public address may be asked by anybody, writes nothing.
KEPT_SECONDS = 5.0


class VolumeHealth:
    """What this process knows of a volume. Safe for many threads.

    ``probe`` writes and raises StorageError; ``monotonic`` gives seconds.
    """

    def __init__(self, probe: Callable[[], None], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._monotonic = monotonic
        self._lock = RLock()  # the probe itself may find what makes the volume suspect
        self._is_suspect = False
        self._failure: StorageError | None = None
        self._known_at = -math.inf
        self._probed_at = -math.inf

    def note(self, error: StorageError) -> None:
        """Take account of a failed write: an input/output error makes the volume suspect."""
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EIO:
            return
        with self._lock:
            if not self._is_suspect:
                log.error("the volume is suspect, nothing is written until a probe succeeds: %s", error)
            self._is_suspect = True
            self._failure = error
            self._known_at = self._monotonic()
            self._probed_at = -math.inf

    def check(self) -> None:
        """Raise Transient, with the reason, when the volume is suspect or was not usable within ``KEPT_SECONDS``."""
        with self._lock:
            if self._monotonic() - self._known_at >= KEPT_SECONDS:
                self._try()
            if self._failure is not None:
                raise Transient(str(self._failure)) from self._failure

    def require(self) -> None:
        """Let a write begin. On a suspect volume it is the probe that decides, at most once in ``KEPT_SECONDS``.

        Raises Transient. A full volume is not suspect: there the write itself is told so.
        """
        if not self._is_suspect:
            return
        with self._lock:
            if self._monotonic() - self._probed_at >= KEPT_SECONDS:
                self._try()
            if self._is_suspect:
                raise Transient(f"the volume is suspect and is not written to: {self._failure}") from self._failure

    def _try(self) -> None:
        try:
            self._probe()
        except StorageError as error:
            self._failure = error
        else:
            if self._is_suspect:
                log.warning("the volume is written to again: a probe succeeded")
            self._failure = None
            self._is_suspect = False
        self._known_at = self._probed_at = self._monotonic()
