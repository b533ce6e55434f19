"""Following a log while it is written, for a bounded time, without holding a database session while waiting.

A web process has few threads, and a follower holds one as long as it is answered. So an answer ends by itself after
``STREAM_SECONDS`` and the client goes on where it stopped; in each process only so many followers are answered at a time,
and of them only a few of one caller's. Who is not let in asks now and then instead, which costs a thread for
milliseconds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from registry.errors import RateLimited

STREAM_SECONDS = 25.0
"""How long one answer lasts at the most; less than what proxies and workers wait before they give up."""
HEARTBEAT_SECONDS = 2.0
"""A follower who has gone is noticed when something is sent: until then their place is taken."""
POLL_SECONDS = 0.5
PIECE_BYTES = 256 * 1024
RETRY_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Piece:
    """What came: bytes from ``start`` to ``end`` of the log. Without any it is a heartbeat; ``is_last``: that was all."""

    data: bytes
    start: int
    end: int
    is_last: bool


Read = Callable[[int, int], tuple[bytes, int, bool]]
"""Bytes from an offset (at most so many), where to go on, whether that is the end for good. Opens its own session."""


def _never() -> bool:
    return False


@dataclass(slots=True)
class Tails:
    """The followers of one process: who is answered, and for how long. Safe for many threads.

    ``is_ending`` says that the process is about to end: followers are sent away, so that it need not wait for them.
    """

    most: int = 4
    most_of_one: int = 2
    stream_seconds: float = STREAM_SECONDS
    is_ending: Callable[[], bool] = _never
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _by_caller: Counter[int] = field(default_factory=Counter)

    def enter(self, caller: int) -> Callable[[], None]:
        """Take a place for a caller; gives what gives it back (once, however often it is called). Raises RateLimited."""
        with self._lock:
            if self._by_caller.total() >= self.most or self._by_caller[caller] >= self.most_of_one:
                raise RateLimited("as many logs as this server follows at a time are being followed", RETRY_SECONDS)
            self._by_caller[caller] += 1
        held = [caller]

        def leave() -> None:
            with self._lock:
                if held:
                    self._by_caller[held.pop()] -= 1
                    self._by_caller += Counter()  # drops those that are at zero

        return leave

    @contextmanager
    def place(self, caller: int) -> Iterator[None]:
        """A place as long as the block lasts. Raises RateLimited."""
        leave = self.enter(caller)
        try:
            yield
        finally:
            leave()

    def follow(self, read: Read, offset: int) -> Iterator[Piece]:
        """What is added to a log from ``offset`` on, until it has ended or the time is over."""
        until = time.monotonic() + self.stream_seconds
        told_at = time.monotonic()
        while True:
            data, position, is_last = read(offset, PIECE_BYTES)
            if data or is_last:
                yield Piece(data, offset, position, is_last)
                offset, told_at = position, time.monotonic()
            if is_last or time.monotonic() >= until or self.is_ending():
                return
            if data:
                continue
            time.sleep(POLL_SECONDS)
            if time.monotonic() - told_at >= HEARTBEAT_SECONDS:
                yield Piece(b"", offset, offset, is_last=False)
                told_at = time.monotonic()


def whole_characters(data: bytes, *, is_last: bool) -> int:
    """How many bytes of ``data`` are whole characters of UTF-8 (RFC 3629 §3); all of them at the end, or if it is none."""
    if is_last:
        return len(data)
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:  # begins a character: of two bytes from C0 on, of three from E0, of four from F0
            needs = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(data) - back if back < needs else len(data)
    return len(data)
