"""Fetching an upstream's file: read once, to the store and to the client at the same time, and verified before it counts.

One fetch runs for each file; whoever asks meanwhile waits for it and reads the store. The fetch belongs to the server,
not to the client that caused it: a client that hangs up, or reads slowly, neither stops nor slows it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from registry.errors import Problem, UpstreamUnavailable
from registry.upstream.answers import Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.flight import SingleFlight
from storage.blobs import KIB, MIB, BlobHandle, BlobStore, ByteRange
from storage.errors import BodyRejected, StorageError
from storage.intake import Intake

log = logging.getLogger("entrepot.fetch")

PIECE_BYTES = 64 * KIB
WINDOW_PIECES = 64  # 4 MiB between the fetch and its first client
HELD_BACK_BYTES = 64 * KIB
FILE_LIMIT_BYTES = 16 * 1024 * MIB
SLOW_CLIENT_SECONDS = 1.0
ALGORITHMS = frozenset({"sha256", "sha512", "sha1", "md5", "blake2b_256"})
WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: where it is, what the upstream's page promised of it, and which ``digests`` to compute besides."""

    url: str
    filename: str
    hashes: dict[str, str]
    size_bytes: int | None
    digests: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Fetch:
    """A fetch under way. ``pieces`` feeds its first client until that proves too slow (``is_detached``)."""

    pieces: queue.Queue[bytes | None] = field(default_factory=lambda: queue.Queue(WINDOW_PIECES))
    done: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    size_bytes: int | None = None
    handle: BlobHandle | None = None
    error: Exception | None = None
    is_detached: bool = False


@dataclass(frozen=True, slots=True)
class OpenFetch:
    """A body on its way: ``size_bytes`` is None when the upstream did not say."""

    size_bytes: int | None
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Order:
    """One fetch: what, from where, into which store.

    ``find()`` says whether another process has kept the file meanwhile; ``keep(handle, digests)`` makes the rows once
    the body is complete and verified, and says which handle counts (another writer may have been first).
    """

    key: str
    upstream: Upstream
    wanted: Wanted
    store: BlobStore
    find: Callable[[], BlobHandle | None]
    keep: Callable[[BlobHandle, dict[str, str]], BlobHandle]


class Fetcher:
    """Runs the fetches of one process; ``flight`` keeps the processes of one host apart. Safe for many threads."""

    def __init__(self, client: UpstreamClient, flight: SingleFlight) -> None:
        self._client = client
        self._flight = flight
        self._lock = threading.Lock()
        self._running: dict[str, _Fetch] = {}

    def open(self, order: Order) -> OpenFetch:
        """Start fetching, or join the fetch that runs; returns when its first bytes or its failure are known.

        Raises UpstreamUnavailable or NotFound when the upstream refuses at the start; a failure later breaks the
        stream before its last bytes, so that no client takes a wrong file for a whole one.
        """
        fetch, leads = self._join(order)
        _wait(fetch.started, order)
        if leads and fetch.error is None and not fetch.done.is_set():
            return OpenFetch(fetch.size_bytes, _follow(fetch, order.store))
        handle = self._finished(fetch, order)
        return OpenFetch(handle.size_bytes, order.store.open(handle))

    def complete(self, order: Order) -> BlobHandle:
        """Fetch and wait until the file is kept (for a range of a file that is not here yet)."""
        fetch, leads = self._join(order)
        if leads:
            fetch.is_detached = True  # nobody reads along
        return self._finished(fetch, order)

    def _join(self, order: Order) -> tuple[_Fetch, bool]:
        with self._lock:
            fetch = self._running.get(order.key)
            if fetch is not None:
                return fetch, False
            fetch = self._running[order.key] = _Fetch()
        threading.Thread(target=self._run, args=(fetch, order), name="fetch", daemon=True).start()
        return fetch, True

    def _finished(self, fetch: _Fetch, order: Order) -> BlobHandle:
        _wait(fetch.done, order)
        if fetch.handle is None:
            raise _again(fetch.error)
        return fetch.handle

    def _run(self, fetch: _Fetch, order: Order) -> None:
        try:
            # A large file takes longer than others are usually waited for, and a second fetch would make it longer still.
            fetch.handle = self._flight.run(
                order.key, lambda: self._receive(fetch, order), order.find, wait_seconds=WAIT_SECONDS
            )
        except (Problem, StorageError) as error:
            fetch.error = error
        except Exception as error:
            log.exception("fetch of %s failed", order.wanted.filename)
            fetch.error = error
        finally:
            with self._lock:
                self._running.pop(order.key, None)
            fetch.done.set()
            fetch.started.set()
            _offer(fetch, None)

    def _receive(self, fetch: _Fetch, order: Order) -> BlobHandle:
        wanted = order.wanted
        known = {name: value for name, value in wanted.hashes.items() if name in ALGORITHMS}
        intake = Intake(order.store, FILE_LIMIT_BYTES, algorithms={*known, *wanted.digests})
        try:
            with self._client.open_file(order.upstream, wanted.url) as stream:
                size = stream.size_bytes if stream.size_bytes is not None else wanted.size_bytes
                fetch.size_bytes = size
                fetch.started.set()
                held = b""
                for piece in stream.chunks(PIECE_BYTES):
                    intake.write(piece)
                    # The end stays here until the digest is known to be right.
                    held += piece
                    if len(held) > HELD_BACK_BYTES:
                        _offer(fetch, held[:-HELD_BACK_BYTES])
                        held = held[-HELD_BACK_BYTES:]
            received = intake.finish(expected=known, declared_bytes=size)
        except BodyRejected as error:
            raise UpstreamUnavailable(f"the upstream's {wanted.filename} is not what it promised: {error}") from error
        finally:
            intake.abort()
        handle = order.keep(received.handle, dict(received.digests))
        _offer(fetch, held)
        return handle


def _wait(event: threading.Event, order: Order) -> None:
    if not event.wait(WAIT_SECONDS):
        raise UpstreamUnavailable(f"{order.wanted.filename} did not arrive in time")


def _offer(fetch: _Fetch, piece: bytes | None) -> None:
    """Hand a piece to the first client, unless it is too slow: then it reads the rest from the store when all is here."""
    if fetch.is_detached:
        return
    deadline = time.monotonic() + SLOW_CLIENT_SECONDS
    while not fetch.is_detached:
        try:
            fetch.pieces.put(piece, timeout=0.1)
        except queue.Full:
            if time.monotonic() > deadline:
                fetch.is_detached = True
        else:
            return


def _follow(fetch: _Fetch, store: BlobStore) -> Iterator[bytes]:
    sent = 0
    try:
        while True:
            try:
                piece = fetch.pieces.get(timeout=0.2)
            except queue.Empty:
                if fetch.is_detached or fetch.done.is_set():
                    break
                continue
            if piece is None:
                break
            sent += len(piece)
            yield piece
        if not fetch.done.wait(WAIT_SECONDS):
            raise UpstreamUnavailable("the file did not arrive in time")
        if fetch.handle is None:
            raise _again(fetch.error)
        if sent < fetch.handle.size_bytes:
            yield from store.open(fetch.handle, ByteRange(sent, fetch.handle.size_bytes))
    finally:
        fetch.is_detached = True


def _again(error: Exception | None) -> Exception:
    """A failure of the fetch, told to one more of those who waited for it."""
    if isinstance(error, (Problem, StorageError)):
        return error
    return UpstreamUnavailable("the upstream's file could not be fetched")
