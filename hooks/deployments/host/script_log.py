"""The log of a deployment's scripts: whole in a file, the tail of an event for reports."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

MAX_TAIL_BYTES = 2048
MAX_LOG_BYTES = 64 * 1024 * 1024
_MAX_LINE_BYTES = 8192


class ScriptLog:
    """Takes the output of an event's scripts. The file grows over the events of a deployment, to 64 MiB at most."""

    def __init__(self, path: Path, clock: Callable[[], datetime], show: Callable[[str], object]) -> None:
        """``show`` gets every line as it comes, without its time."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._file = path.open("ab")
        self._left = MAX_LOG_BYTES - os.fstat(self._file.fileno()).st_size
        self._clock = clock
        self._show = show
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._pending = {"[stdout]": b"", "[stderr]": b""}

    def close(self) -> None:
        """Write what has come without a line's end."""
        self._flush()
        self._file.close()

    def say(self, text: str) -> None:
        """A line of the agent's own."""
        self._flush()
        self._write(text.encode(errors="replace"))

    def feed(self, stream: str, data: bytes) -> None:
        """Output of a script; ``stream`` is [stdout] or [stderr]."""
        *lines, rest = (self._pending[stream] + data).split(b"\n")
        while len(rest) > _MAX_LINE_BYTES:
            lines.append(rest[:_MAX_LINE_BYTES])
            rest = rest[_MAX_LINE_BYTES:]
        self._pending[stream] = rest
        for line in lines:
            self._write(stream.encode() + line)

    @property
    def tail(self) -> str:
        """The last lines, 2048 bytes at most."""
        text = b"".join(self._tail)[-MAX_TAIL_BYTES:].decode(errors="replace")
        while len(text.encode()) > MAX_TAIL_BYTES:  # a replaced byte is longer than what it stands for
            text = text[1:]
        return text

    def _flush(self) -> None:
        for stream, rest in self._pending.items():
            if rest:
                self._write(stream.encode() + rest)
            self._pending[stream] = b""

    def _write(self, line: bytes) -> None:
        moment = f"{self._clock():%Y-%m-%d %H:%M:%S} ".encode()
        self._tail.append(line + b"\n")
        self._tail_bytes += len(line) + 1
        while self._tail_bytes - len(self._tail[0]) >= MAX_TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
        if self._left > 0:
            self._left -= len(moment) + len(line) + 1
            over = b"the log is full; the rest is not kept\n" if self._left <= 0 else b""
            self._file.write(moment + line + b"\n" + (moment + over if over else b""))
            self._file.flush()
        self._show(line.decode(errors="replace"))
