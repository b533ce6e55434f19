"""The worker's end of the two pipes to ``hooks.builds.inside``. What comes back is believed to be output, no more."""

from __future__ import annotations

import json
import os
import select
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_FRAME_BYTES = 8 * 1024 * 1024
_READ_BYTES = 256 * 1024
_FEED_SECONDS = 0.1
_HEADER = struct.Struct(">cI")


class Vanished(Exception):
    """The sandbox ended, or speaks nonsense (which only its own commands can bring about)."""


class Channel:
    """Requests out, frames in. Not thread-safe."""

    def __init__(self, requests: int, frames: int) -> None:
        """Take over both descriptors (``requests`` to write to, ``frames`` to read from)."""
        self._requests = requests
        self._frames = frames
        self._buffer = bytearray()

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request. Raises Vanished."""
        payload = json.dumps(request).encode()
        data = memoryview(struct.pack(">I", len(payload)) + payload)
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except OSError as error:
            raise Vanished(f"the sandbox takes no requests: {error}") from error

    def feed(self, piece: bytes, give_up: Callable[[], object]) -> bool:
        """Send a piece of a body, empty for its end; False when ``give_up``, asked while it waits, says something.

        A sandbox that takes nothing must not hold the worker. Raises Vanished.
        """
        data = memoryview(struct.pack(">I", len(piece)) + piece)
        os.set_blocking(self._requests, False)
        try:
            while data:
                _, ready, _ = select.select([], [self._requests], [], _FEED_SECONDS)
                if give_up():
                    return False
                if ready:
                    data = data[os.write(self._requests, data) :]
        except OSError as error:
            raise Vanished(f"the sandbox takes no requests: {error}") from error
        finally:
            os.set_blocking(self._requests, True)
        return True

    def next_frame(self, timeout_seconds: float) -> tuple[bytes, bytes] | None:
        """The next frame (kind, payload); None when none came in time. Raises Vanished."""
        while (frame := self._buffered_frame()) is None:
            ready, _, _ = select.select([self._frames], [], [], timeout_seconds)
            if not ready:
                return None
            self._buffer += self._receive()
        return frame

    def _receive(self) -> bytes:
        """What has come. Raises Vanished at the end."""
        data = os.read(self._frames, _READ_BYTES)
        if not data:
            raise Vanished("the sandbox ended")
        return data

    def _buffered_frame(self) -> tuple[bytes, bytes] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        kind, size = _HEADER.unpack_from(self._buffer)
        if kind not in {b"O", b"D", b"E"} or size > MAX_FRAME_BYTES:
            raise Vanished("the sandbox sent something that is not a frame")
        end = _HEADER.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return kind, payload

    def close(self) -> None:
        """Close both pipes: the runner inside takes the end of its requests as its own. Idempotent."""
        for descriptor in (self._requests, self._frames):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._frames = -1


def parse_answer(payload: bytes) -> dict[str, Any]:
    """The JSON object of an ``E`` frame. Raises Vanished for anything else."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Vanished("the sandbox's answer cannot be read") from error
    if not isinstance(answer, dict):
        raise Vanished("the sandbox's answer is not an object")
    return answer
