"""A client's connection that does not hold a thread for ever.

Each request has a thread for as long as it lasts, and gunicorn waits for a client without end: a few dozen connections
that send a byte now and then (Slowloris), or read none, would be a whole server (measured: 32 of them, with two
processes of 16 threads). A reverse proxy in front is better at this and sees more clients; this holds without one.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any, Self

IDLE_SECONDS = 30.0
"""How long nothing at all may come, or go."""
HEAD_SECONDS = 30.0
"""How long a request's head may take, from its first byte."""
GRACE_SECONDS = 30.0
"""Waited for a body, or for what is sent to be taken, before its rate is looked at."""
FLOOR_BYTES_PER_SECOND = 1024


class ClientSocket(socket.socket):
    """An accepted connection. What is too slow ends as a reset, which gunicorn and the readers of bodies know.

    Only time spent waiting for the client counts: what this server does meanwhile does not make a client slow.
    """

    _waited_seconds: float
    _received_bytes: int
    _head_deadline: float | None

    @classmethod
    def of(cls, accepted: socket.socket) -> Self:
        """The same connection; ``accepted`` is used up."""
        made = cls(fileno=accepted.detach())
        made.begin_head()
        return made

    def begin_head(self) -> None:
        """A request is about to be read."""
        self._waited_seconds, self._received_bytes = 0.0, 0
        self._head_deadline = time.monotonic() + HEAD_SECONDS

    def begin_body(self) -> None:
        """The head is read: from here on the rate counts."""
        self._waited_seconds, self._received_bytes = 0.0, 0
        self._head_deadline = None

    def setblocking(self, flag: bool) -> None:
        """Blocking means up to ``IDLE_SECONDS``."""
        super().settimeout(IDLE_SECONDS if flag else 0.0)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Read what is there. Raises ConnectionResetError for a client that is too slow."""
        allowed = self.gettimeout()
        if allowed is None or allowed == 0.0:
            return super().recv(bufsize, flags)
        began = time.monotonic()
        left = max(0.001, self._left_seconds(began))
        super().settimeout(min(allowed, left))
        try:
            piece = super().recv(bufsize, flags)
        except TimeoutError as error:
            if allowed < min(IDLE_SECONDS, left):
                raise  # gunicorn's own patience, with what is left of a body that nobody wanted
            raise _reset() from error
        finally:
            super().settimeout(allowed)
        self._waited_seconds += time.monotonic() - began
        self._received_bytes += len(piece)
        return piece

    def _left_seconds(self, now: float) -> float:
        if self._head_deadline is not None:
            return self._head_deadline - now
        return GRACE_SECONDS + self._received_bytes / FLOOR_BYTES_PER_SECOND - self._waited_seconds

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of it. Raises ConnectionResetError for a client that takes it too slowly."""
        allowed = self.gettimeout()
        if allowed is None or allowed == 0.0:
            super().sendall(data, flags)
            return
        # The time-out of ``sendall`` is for the whole of it, however often a part is taken.
        super().settimeout(GRACE_SECONDS + len(data) / FLOOR_BYTES_PER_SECOND)
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            raise _reset() from error
        finally:
            super().settimeout(allowed)


def be_patient_for(seconds: float) -> None:
    """Set how long all connections of this process are waited for, instead of half a minute."""
    global IDLE_SECONDS, HEAD_SECONDS, GRACE_SECONDS  # noqa: PLW0603  (gunicorn makes the connections, and knows no settings)
    IDLE_SECONDS = HEAD_SECONDS = GRACE_SECONDS = seconds


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
