"""A file that is not kept yet, as one request sees it: read along, or a part of it straight from the upstream.

A part that begins near what has arrived is read along with the fetch. One that is far from it would wait for megabytes
that nobody asked for (the directory at the end of a large archive, the rest of a download that broke off): it is read
from the upstream by a range, while the fetch goes on.

No digest covers such a part, nor does one cover what is read along before the end. That is sound, because nothing of a
part is kept, and because whoever puts a file together from parts has to verify the whole, as for parts of a kept file.
What can be known is checked: it is the very part, of a file of the same length, and of the same ETag where there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing

from registry.errors import NotFound, UpstreamUnavailable
from registry.repos.arrival import Arrival, Kept
from registry.repos.fetch import Fetcher, Order
from registry.upstream.client import UpstreamClient
from registry.upstream.download import FileStream
from storage.blobs import KIB, MIB, ByteRange

log = logging.getLogger("entrepot.fetch")

NEAR_BYTES = 2 * MIB
"""How far ahead of what has arrived a part may begin and still wait for it: about as long as another request takes."""

AT_ONCE_BYTES = 128 * KIB
"""Files up to this size are answered once they are kept: about as much would be held back in any case."""


class Coming:
    """One request's view of a fetch. Made by ``begin``, which has waited for the head of the upstream's answer."""

    def __init__(self, client: UpstreamClient, fetcher: Fetcher, order: Order, arrival: Arrival) -> None:
        self._client = client
        self._fetcher = fetcher
        self._order = order
        self._arrival = arrival
        self._asked_bytes: int | None = None

    @classmethod
    def begin(cls, client: UpstreamClient, fetcher: Fetcher, order: Order) -> Coming:
        """Start the fetch or join it. Raises NotFound or UpstreamUnavailable when the upstream refuses at the start."""
        arrival = fetcher.start(order)
        arrival.wait_begun()
        return cls(client, fetcher, order, arrival)

    @property
    def size_bytes(self) -> int | None:
        """The file's length, as far as is known: kept, as the upstream's answer says, as its index does."""
        if self._arrival.kept is not None:
            return self._arrival.kept.handle.size_bytes
        said = (self._arrival.size_bytes, self._order.wanted.size_bytes, self._asked_bytes)
        return next((size for size in said if size is not None), None)

    def ask_size(self) -> None:
        """Find out the length where another process has the upstream's answer. Raises NotFound, UpstreamUnavailable."""
        if self.size_bytes is None and self._arrival.is_elsewhere:
            head = self._client.head_file(self._order.upstream, self._order.wanted.url)
            self._asked_bytes = head.size_bytes if head is not None else None

    @property
    def digests(self) -> Mapping[str, str]:
        """What is known of the file's digests: all that are computed once it is kept, until then what is promised."""
        kept = self._arrival.kept
        return kept.digests if kept is not None else {**self._arrival.promised, **self._order.wanted.hashes}

    @property
    def kept(self) -> Kept | None:
        """The file in the store, if it is there by now."""
        return self._arrival.kept

    def wait_kept(self) -> Kept:
        """The file in the store, once it is there. Raises UpstreamUnavailable."""
        return self._arrival.wait_kept()

    def read(self, part: ByteRange | None) -> Iterator[bytes]:
        """The file or a part of it, from where it can be had soonest. Raises before the first piece, or breaks off.

        The whole, and a part at its end that is read along, end only when the whole is verified.
        """
        if part is not None and self._is_far(part):
            stream = self._from_upstream(part)
            if stream is not None:
                return _pieces(stream)
        return self._arrival.read(part)

    def _is_far(self, part: ByteRange) -> bool:
        if self._arrival.is_over or self._fetcher.was_rejected(self._order):
            return False  # of a file that is known to be wrong, no part is passed on unverified
        if self._arrival.is_elsewhere:
            return (self.size_bytes or 0) > NEAR_BYTES  # nobody here sees how far it is
        return part.start > self._arrival.received_bytes + NEAR_BYTES

    def _from_upstream(self, part: ByteRange) -> FileStream | None:
        """The part by a range; None where the fetch has to be waited for: it will tell what is wrong, if anything is."""
        order = self._order
        try:
            stream = self._client.open_part(order.upstream, order.wanted.url, f"{part.start}-{part.stop - 1}")
        except (NotFound, UpstreamUnavailable) as error:
            log.info("no part of %s: %s", order.wanted.filename, error)
            return None
        if stream is None:
            return None
        theirs, ours = stream.etag, self._arrival.etag
        if stream.total_bytes != self.size_bytes or (theirs and ours and theirs != ours):
            log.warning("no part of %s: the upstream has another file by now", order.wanted.filename)
            stream.close()
            return None
        return stream


def _pieces(stream: FileStream) -> Iterator[bytes]:
    with closing(stream):
        yield from stream.chunks()
