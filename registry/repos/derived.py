"""What is read out of upstream files without fetching them, kept and told from then on.

Some upstreams list files and nothing about them. A format that knows where in its files the answer stands reads those
few bytes by ranges, once for each file; what it finds is kept beside the upstream's pages, under the file's promised
digest, and the name's documents are rendered anew. A file without a promised digest is left alone: nothing would tell
that it is another one by now.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import BinaryIO, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.clock import Clock
from registry.db import Database
from registry.errors import Invalid, NotFound, TooLarge, UpstreamUnavailable
from registry.format import FileLink
from registry.models import UpstreamPage
from registry.names import PackageKey
from registry.repos import pages, shelf
from registry.repos.pages import KeptPage
from registry.repos.refresh import Refresher
from registry.repos.topology import Connection
from registry.repos.upstreams import Upstreams
from registry.upstream.answers import FilePart
from storage.blobs import KIB, MIB

log = logging.getLogger("entrepot.upstream")

TAIL_BYTES = 64 * KIB
WINDOW_BYTES = 32 * KIB
MOST_REQUESTS = 6
MOST_BYTES = 24 * MIB
NOTHING_FOUND = timedelta(days=1)
FOREVER = timedelta(days=3650)
_AT_ONCE = 2

Reading = Callable[[str, BinaryIO], bytes | None]
"""Reads a document out of a file, given its name and its body; None when it has none. Raises Invalid or TooLarge."""


class PartBody(io.RawIOBase):
    """A file at an upstream as a seekable body that fetches what is read of it, within bounds. One thread."""

    def __init__(self, fetch: Callable[[str], FilePart | None]) -> None:
        """``fetch(part)`` asks for a range. Raises Invalid when the upstream knows none."""
        super().__init__()
        self._fetch = fetch
        self._windows: list[tuple[int, bytes]] = []
        self._position = 0
        self._fetched_bytes = 0
        first = self._ask(f"-{TAIL_BYTES}")
        self.size_bytes = first.size_bytes
        self.last_modified = first.last_modified

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, without reading."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The bytes that are wanted, or fewer at the end of the file. Raises Invalid beyond the bounds."""
        stop = self.size_bytes if size < 0 else min(self._position + size, self.size_bytes)
        start, self._position = self._position, max(self._position, stop)
        if start >= stop:
            return b""
        for begin, data in self._windows:
            if begin <= start and stop <= begin + len(data):
                return data[start - begin : stop - begin]
        end = min(max(stop, start + WINDOW_BYTES), self.size_bytes)
        return self._ask(f"{start}-{end - 1}").data[: stop - start]

    def _ask(self, part: str) -> FilePart:
        if len(self._windows) >= MOST_REQUESTS:
            raise Invalid(f"more than {MOST_REQUESTS} parts of the file would be needed")
        found = self._fetch(part)
        if found is None:
            raise Invalid("the upstream gives no parts of files")
        self._fetched_bytes += len(found.data)
        if self._fetched_bytes > MOST_BYTES:
            raise TooLarge("what is read of the file", MOST_BYTES)
        self._windows.append((found.start, found.data))
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """What was read out of a file: the document's SHA-256, and when the upstream says the file was made, if it does."""

    sha256: str
    modified: datetime | None


class Derivations:
    """Reads documents out of upstream files and keeps them. Safe for many threads."""

    def __init__(self, db: Database, upstreams: Upstreams, clock: Clock) -> None:
        self._db = db
        self._upstreams = upstreams
        self._clock = clock
        self._refresher = Refresher(threads=_AT_ONCE)

    def known(self, key: PackageKey, connections: Iterable[int]) -> Mapping[str, Known]:
        """What is known of a package's files, by their SHA-256, in one query."""
        prefix = _path(key, "")
        with self._db.read() as session:
            rows = session.execute(
                select(UpstreamPage.path, UpstreamPage.etag, UpstreamPage.last_modified).where(
                    UpstreamPage.connection_id.in_(list(connections)),
                    UpstreamPage.path >= prefix,
                    UpstreamPage.path < prefix + "~",
                    UpstreamPage.is_missing.is_(False),
                )
            ).all()
        return {path.removeprefix(prefix): Known(etag or "", _moment(modified)) for path, etag, modified in rows}

    def document(self, connection: Connection, key: PackageKey, link: FileLink, read: Reading) -> bytes:
        """The document of a file, read out of it now if it was not before. Raises NotFound, UpstreamUnavailable."""
        sha256 = link.hashes.get("sha256")
        if sha256 is None:
            raise NotFound("metadata", link.filename)
        path = _path(key, sha256)

        def kept() -> KeptPage | None:
            with self._db.read() as session:
                page = pages.read(session, connection.id, path)
            return page if page is not None and page.fresh_until > self._clock() else None

        page = kept() or self._upstreams.flight.run(
            f"derived/{connection.id}/{path}", lambda: self._read(connection, key, link, path, read), kept
        )
        if page.is_missing:
            raise NotFound("metadata", link.filename)
        return page.body

    def read_ahead(self, connection: Connection, key: PackageKey, links: Iterable[FileLink], read: Reading) -> None:
        """Read the documents of some files in the background, so that the next index tells of them."""
        wanted = [link for link in links if "sha256" in link.hashes]

        def work() -> None:
            for link in wanted:
                try:
                    self.document(connection, key, link, read)
                except NotFound:
                    continue

        if wanted:
            self._refresher.start(f"{connection.id}/{key.format}/{key.path}", work)

    def _read(self, connection: Connection, key: PackageKey, link: FileLink, path: str, read: Reading) -> KeptPage:
        upstream = self._upstreams.upstream(connection)
        document, modified = None, None
        try:
            body = PartBody(
                lambda part: self._upstreams.client.read_part(upstream, link.url, part, limit_bytes=MOST_BYTES)
            )
            document, modified = read(link.filename, cast("BinaryIO", body)), body.last_modified
        except (Invalid, TooLarge) as error:
            log.info("nothing is read out of %s: %s", link.filename, error)
        now = self._clock()
        page = KeptPage(
            pages.packed(document) if document is not None else b"",
            "",
            "",
            hashlib.sha256(document).hexdigest() if document is not None else None,
            modified,
            is_missing=document is None,
            fetched_at=now,
            fresh_until=now + (NOTHING_FOUND if document is None else FOREVER),
        )
        self._keep(connection, key, path, page)
        return page

    def _keep(self, connection: Connection, key: PackageKey, path: str, page: KeptPage) -> None:
        def unit(session: Session) -> None:
            if not pages.write(session, connection, path, page, changed=None if page.is_missing else key):
                raise UpstreamUnavailable("the external connection has changed; ask again")

        shelf.settle(self._db, unit)


def _path(key: PackageKey, sha256: str) -> str:
    return f"derived/{key.format}/{key.path}/{sha256}"


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
