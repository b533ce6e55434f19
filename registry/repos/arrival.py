"""A file on its way from an upstream into the store, and everybody who reads it meanwhile.

One thread receives it. Any number of others read along, each at its own pace, from what lies in the store already: a
slow client slows nobody, and one that hangs up stops nothing. The file's end is held back from all of them until the
whole is verified and kept, so that nobody takes a wrong file for a whole one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from registry.errors import Problem, UpstreamUnavailable
from storage.blobs import KIB, BlobHandle, BlobStore, ByteRange
from storage.errors import Missing, StorageError
from storage.intake import Intake

HELD_BACK_BYTES = 64 * KIB
WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A file in the store, with its digests in lower-case hex by algorithm."""

    handle: BlobHandle
    digests: Mapping[str, str]


class Arrival:
    """What one thread tells of a file it fetches, and others wait for. Safe for many threads.

    It is *waiting* at first, *elsewhere* while another process of this host fetches the file, *begun* once the
    upstream's answer has a head, and *over* when the file is kept or cannot be had.
    """

    def __init__(self, filename: str, store: BlobStore) -> None:
        self._filename = filename
        self._store = store
        self._changed = threading.Condition()
        self._intake: Intake | None = None
        self._released_bytes = 0
        self._error: Exception | None = None
        self.is_elsewhere = False
        self.is_over = False
        self.received_bytes = 0
        self.size_bytes: int | None = None
        self.etag: str | None = None
        self.promised: Mapping[str, str] = {}
        self.kept: Kept | None = None

    # The thread that fetches:

    def wait_elsewhere(self) -> None:
        """Another process fetches it; this one will find it kept."""
        with self._changed:
            self.is_elsewhere = True
            self._changed.notify_all()

    def begin(self, intake: Intake, size_bytes: int | None, etag: str | None, promised: Mapping[str, str]) -> None:
        """The upstream answers, and this is what the head of its answer says."""
        with self._changed:
            self.is_elsewhere = False
            self._intake = intake
            self.size_bytes, self.etag, self.promised = size_bytes, etag, promised
            self._changed.notify_all()

    def advance(self, intake: Intake) -> None:
        """More has been received."""
        released = max(0, min(intake.readable_bytes, intake.size_bytes - HELD_BACK_BYTES))
        with self._changed:
            self.received_bytes = intake.size_bytes
            if released > self._released_bytes:
                self._released_bytes = released
                self._changed.notify_all()

    def finish(self, kept: Kept) -> None:
        """The file is verified and kept."""
        with self._changed:
            self.kept, self.is_over, self._intake = kept, True, None
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """The file cannot be had."""
        with self._changed:
            self._error, self.is_over, self._intake = error, True, None
            self._changed.notify_all()

    # Everybody else:

    def wait_begun(self) -> None:
        """Return when it is known what comes or who fetches it. Raises why there is nothing to come."""
        self._wait(lambda: self._intake is not None or self.is_elsewhere)

    def wait_kept(self) -> Kept:
        """Return when the file is kept. Raises why it is not."""
        self._wait(lambda: False)
        assert self.kept is not None
        return self.kept

    def read(self, part: ByteRange | None) -> Iterator[bytes]:
        """The file or a part of it, as it arrives. Raises what the fetch ended with, before the file's last bytes."""
        position, stop = (part.start, part.stop) if part is not None else (0, None)
        for piece in self._reread(position, stop):
            position += len(piece)
            yield piece
        if position == stop:
            return
        handle = self.wait_kept().handle
        end = handle.size_bytes if stop is None else stop
        if not position <= end <= handle.size_bytes:
            raise UpstreamUnavailable(f"{self._filename} is not as long as it was said to be")
        with closing(self._store.open(handle, ByteRange(position, end))) as pieces:
            yield from pieces

    def _reread(self, position: int, stop: int | None) -> Iterator[bytes]:
        """What is released of the part while the file arrives; ends early when the store has the whole of it."""
        self._wait_beyond(position)
        intake = self._intake
        if intake is None:
            return
        try:
            reread = intake.reread()
        except Missing:
            return  # committed at this moment
        with closing(reread):
            while stop is None or position < stop:
                self._wait_beyond(position)
                if self.is_over:
                    return
                released = self._released_bytes if stop is None else min(self._released_bytes, stop)
                piece = reread.read(ByteRange(position, released))
                position += len(piece)
                yield piece

    def _wait_beyond(self, position: int) -> None:
        self._wait(lambda: self._released_bytes > position)

    def _wait(self, has_come: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.is_over or has_come(), WAIT_SECONDS):
                raise UpstreamUnavailable(f"{self._filename} did not arrive in time")
            if isinstance(self._error, (Problem, StorageError)):
                raise self._error
            if self._error is not None:
                raise UpstreamUnavailable("the upstream's file could not be fetched")
