"""gunicorn's threaded worker, which closes its port when it ends, asks for bodies when wanted, and drops slow clients."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from config import ending
from config.client_socket import ClientSocket

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def keep_signals_for_workers() -> None:
    """Have a signal that meets a new worker wait until the worker has its own answer to it; called in the master.

    A fork has the master's handlers at first, which note a signal for a loop that it never gets to. One who is told to
    end within that moment would go on, and its master wait for it as long as it waits for a request (measured: in one
    of eight ends right after a worker was started).
    """
    master = os.getpid()

    def block() -> None:
        if os.getpid() == master:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def unblock() -> None:
        if os.getpid() == master:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    os.register_at_fork(before=block, after_in_parent=unblock)


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """Answers what has connected, and refuses what comes later.

    gunicorn itself stops to accept and leaves the socket open until the last request is done (measured): for minutes,
    while a large file is being downloaded, clients would connect and wait for nobody, and a proxy could not tell.
    """

    def init_signals(self) -> None:
        """Take the signals into its own hands, those that waited as well."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop to accept; at the end of this worker's life for good."""
        is_ending = not enabled and not self.alive
        if is_ending:
            ending.begin()
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

    def accept(self, listener: Any) -> None:
        """Accept a connection, as one that is not waited for without end."""
        super().accept(_Accepting(listener))

    def handle(self, conn: Any) -> Any:
        """Read and answer a request."""
        conn.sock.begin_head()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request. A client that waits for "100 Continue" gets it when the application reads its body.

        gunicorn sends it with every such request before the application has seen it (measured), and with that makes
        a client send gigabytes which are refused for a reason that was in the head.
        """
        conn.sock.begin_body()
        if req._expected_100_continue:  # noqa: SLF001  (gunicorn has no other word for it)
            req._expected_100_continue = False  # noqa: SLF001
            req.body.reader = _Invitation(req, req.body.reader, conn.sock)
        return super().handle_request(req, conn)


class _Accepting:
    """A listening socket whose connections are ``ClientSocket``."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def accept(self) -> tuple[ClientSocket, Any]:
        accepted, address = self._listener.accept()
        return ClientSocket.of(accepted), address

    def getsockname(self) -> Any:
        return self._listener.getsockname()


class _Invitation:
    """A reader of a request's body that asks the client to send it, once.

    Until then the connection is to end with the answer: a client may send the body after all, or its next request
    instead (RFC 9110 §10.1.1), and neither could be told from the other.
    """

    def __init__(self, request: Any, reader: Any, connection: socket.socket) -> None:
        self._request = request
        self._reader = reader
        self._connection = connection
        self._is_sent = False
        self._closes = request.must_close
        request.must_close = True

    def read(self, size: int) -> Any:
        """Read as the reader does."""
        if not self._is_sent:
            self._is_sent = True
            self._request.must_close = self._closes
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._reader.read(size)
