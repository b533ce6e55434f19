"""gunicorn's threaded worker with one difference: while it ends, its port is closed."""

from __future__ import annotations

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """Answers what has connected, and refuses what comes later.

    gunicorn itself stops to accept and leaves the socket open until the last request is done (measured): for minutes,
    while a large file is being downloaded, clients would connect and wait for nobody, and a proxy could not tell.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop to accept; at the end of this worker's life for good."""
        is_ending = not enabled and not self.alive
        if is_ending:
            for listener in self.sockets:
                self._accept_waiting(listener)
        super().set_accept_enabled(enabled)
        if is_ending:
            for listener in self.sockets:
                listener.close()

    def _accept_waiting(self, listener: object) -> None:
        known = -1
        while known != self.nr_conns < self.worker_connections:
            known = self.nr_conns
            self.accept(listener)
