"""Fetching an upstream's file: read once, to the store and to the clients at the same time, and verified before it counts.

One fetch runs for each file; whoever asks meanwhile reads along (``arrival``). The fetch belongs to the server, not to
the client that caused it: a client that hangs up, or reads slowly, neither stops nor slows it.

What a file has to be is promised by an index, or by the head of the upstream's answer, or by a checksum that lies beside
the file. The last one is asked for while the file arrives: all of them are known before its end goes out.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from registry.errors import Problem, UpstreamUnavailable
from registry.repos.arrival import WAIT_SECONDS, Arrival, Kept
from registry.upstream.answers import Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.download import FileStream
from registry.upstream.flight import SingleFlight
from registry.upstream.promised import STRONG
from storage.blobs import MIB, BlobHandle, BlobStore
from storage.errors import BodyRejected, StorageError
from storage.intake import ALGORITHMS, Intake

log = logging.getLogger("entrepot.fetch")

FILE_LIMIT_BYTES = 16 * 1024 * MIB
MOST_REJECTED = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: where it is, what an index promised of it, and which ``digests`` to compute besides.

    ``ask_digest()`` asks for the checksum that lies beside a file of which nothing was promised; it gives nothing where
    there is none, and raises UpstreamUnavailable where that cannot be told.
    """

    url: str
    filename: str
    hashes: Mapping[str, str]
    size_bytes: int | None
    digests: frozenset[str] = frozenset()
    ask_digest: Callable[[], Mapping[str, str]] | None = None


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
    find: Callable[[], Kept | None]
    keep: Callable[[BlobHandle, Mapping[str, str]], Kept]


class Fetcher:
    """Runs the fetches of one process; ``flight`` keeps the processes of one host apart. Safe for many threads."""

    def __init__(self, client: UpstreamClient, flight: SingleFlight) -> None:
        self._client = client
        self._flight = flight
        self._lock = threading.Lock()
        self._running: dict[str, Arrival] = {}
        self._rejected: OrderedDict[str, None] = OrderedDict()
        self._sends_no_checksums: set[int] = set()  # upstreams, by what the last file of each had in its head

    def start(self, order: Order) -> Arrival:
        """The fetch of the file that runs already, or one that begins now."""
        with self._lock:
            arrival = self._running.get(order.key)
            if arrival is not None:
                return arrival
            arrival = self._running[order.key] = Arrival(order.wanted.filename, order.store)
        threading.Thread(target=self._run, args=(arrival, order), name="fetch", daemon=True).start()
        return arrival

    def was_rejected(self, order: Order) -> bool:
        """Whether the file was fetched by this process lately and was not what had been promised."""
        return order.key in self._rejected

    def _run(self, arrival: Arrival, order: Order) -> None:
        kept: Kept | None = None
        error: Exception | None = None
        try:
            # A large file takes longer than others are usually waited for, and a second fetch would make it longer still.
            kept = self._flight.run(
                order.key,
                lambda: self._receive(arrival, order),
                order.find,
                wait_seconds=WAIT_SECONDS,
                on_wait=arrival.wait_elsewhere,
            )
        except (Problem, StorageError) as expected:
            error = expected
        except Exception as unexpected:
            log.exception("fetch of %s failed", order.wanted.filename)
            error = unexpected
        # Before it is told: whoever asks anew after a failure starts anew.
        with self._lock:
            self._running.pop(order.key, None)
            if kept is not None:
                self._rejected.pop(order.key, None)
        if kept is not None:
            arrival.finish(kept)
        else:
            arrival.fail(error or UpstreamUnavailable("the fetch was given up"))

    def _receive(self, arrival: Arrival, order: Order) -> Kept:
        wanted = order.wanted
        known = {name: value for name, value in wanted.hashes.items() if name in ALGORITHMS}
        computed = {*known, *wanted.digests, "sha256"}
        intake = Intake(order.store, FILE_LIMIT_BYTES, algorithms=computed)
        try:
            # Who sends no checksums with files will not begin now; then both questions cost the time of one.
            early = self._ask_digest(order) if order.upstream.id in self._sends_no_checksums else None
            with self._client.open_file(order.upstream, wanted.url) as stream:
                size = stream.size_bytes if stream.size_bytes is not None else wanted.size_bytes
                promised = known or self._promised_in_head(order, stream, computed)
                late = None if STRONG & promised.keys() else early or self._ask_digest(order)
                arrival.begin(intake, size, stream.etag, promised)
                for piece in stream.chunks():
                    intake.write(piece)
                    arrival.advance(intake)
            beside = late.result() if late is not None else {}
            received = intake.finish({**promised, **beside}, size)
        except BodyRejected as error:
            self._reject(order)
            raise UpstreamUnavailable(f"the upstream's {wanted.filename} is not what it promised: {error}") from error
        finally:
            intake.abort()
        return order.keep(received.handle, received.digests)

    def _promised_in_head(self, order: Order, stream: FileStream, computed: set[str]) -> Mapping[str, str]:
        found = {name: digest for name, digest in stream.checksums.items() if name in computed}
        with self._lock:
            if STRONG & found.keys():
                self._sends_no_checksums.discard(order.upstream.id)
            else:
                self._sends_no_checksums.add(order.upstream.id)
        return found

    def _ask_digest(self, order: Order) -> Future[Mapping[str, str]] | None:
        """Begin to ask for the checksum beside the file; None where nobody wants to know it."""
        ask = order.wanted.ask_digest
        if ask is None:
            return None
        answer: Future[Mapping[str, str]] = Future()

        def run() -> None:
            try:
                answer.set_result(ask())
            except Problem as expected:  # raised where the answer is wanted
                answer.set_exception(expected)
            except Exception as unexpected:
                log.exception("asking for the digest of %s failed", order.wanted.filename)
                answer.set_exception(unexpected)

        threading.Thread(target=run, name="digest", daemon=True).start()
        return answer

    def _reject(self, order: Order) -> None:
        with self._lock:
            self._rejected[order.key] = None
            while len(self._rejected) > MOST_REJECTED:
                self._rejected.popitem(last=False)
