"""External connections as the resolver sees them: pages that are kept, revalidated, and stand in when the upstream fails.

Answers are three-valued. Found and Missing are kept (Missing for a minute only); Unavailable is never kept, never read
as Missing, and answered from the last good page for up to a day. A page that ended a few minutes ago is answered at
once, and refreshed behind the answer.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry.clock import Clock
from registry.db import Database
from registry.errors import NotFound, UpstreamUnavailable
from registry.format import BadIndex, FileLink, Format, Listing, link_in
from registry.names import PackageKey
from registry.repos import pages, shelf
from registry.repos.pages import KeptPage
from registry.repos.refresh import Refresher
from registry.repos.topology import Connection
from registry.upstream import freshness
from registry.upstream.answers import Found, MissingUpstream, NotModified, Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.flight import SingleFlight
from registry.upstream.freshness import Freshness
from storage.blobs import MIB

log = logging.getLogger("entrepot.upstream")

PAGE_LIMIT_BYTES = 128 * MIB
METADATA_LIMIT_BYTES = 8 * MIB
STALE_RETRY = timedelta(seconds=30)
REFRESH_LOOK = timedelta(seconds=5)  # a document rendered from a page under refresh is looked at again after this
DEFAULT_LAG = timedelta(minutes=5)
FOREVER = timedelta(days=3650)
PARSED_PAGES = 256
# Of all parsed pages together, counted as their text: what is made of it may be several times as large.
PARSED_BYTES = 24 * MIB
ASK_SECONDS = 8.0
DEFAULT_URL_SECONDS = 5.0  # ``login`` may point a client tool of this machine at this server meanwhile


@dataclass(frozen=True, slots=True)
class Page:
    """A connection's answer for a name: ``listing`` None means that it surely has none of that name.

    ``is_new`` says that it was fetched for who asks now.
    """

    listing: Listing | None
    valid_until: datetime
    is_stale: bool
    fetched_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class UpstreamDocument:
    """A connection's document: ``body`` None means that it surely has none there."""

    body: bytes | None
    valid_until: datetime
    is_stale: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A document to have: ``check`` raises UpstreamUnavailable for a useless one, a change counts for ``key``.

    ``may_lag`` says that one past its freshness may be used while it is refreshed.
    """

    path: str
    accept: str
    key: PackageKey | None
    check: Callable[[KeptPage], None]
    may_lag: bool = True


@dataclass(frozen=True, slots=True)
class _Held:
    kept: KeptPage
    valid_until: datetime
    is_stale: bool
    is_new: bool = False


class Upstreams:
    """All external connections of the server. Safe for many threads and processes."""

    def __init__(
        self,
        db: Database,
        client: UpstreamClient,
        flight: SingleFlight,
        formats: Mapping[str, Format],
        describe: Callable[[Connection, str], Upstream],
        is_own: Callable[[str], bool],
        clock: Clock,
        *,
        lag: timedelta = DEFAULT_LAG,
        refresher: Refresher | None = None,
    ) -> None:
        """``describe(connection, base_url)`` adds what the settings say: address policy, credential, CA bundle.

        ``is_own(url)`` says whether a URL is this server's: never the default of a connection without a URL.
        ``lag`` is how long after its freshness a page is answered while it is refreshed.
        """
        self._db = db
        self._client = client
        self._flight = flight
        self._formats = formats
        self._describe = describe
        self._is_own = is_own
        self._clock = clock
        self._lag = lag
        self._refresher = refresher or Refresher()
        self._lock = threading.Lock()
        self._parsed: OrderedDict[tuple[int, str, str, datetime], tuple[Listing, int]] = OrderedDict()
        self._parsed_bytes = 0
        self._defaults: dict[str, tuple[str | None, float]] = {}  # by format: the URL, and until when (monotonic)

    @property
    def client(self) -> UpstreamClient:
        """The client, for files."""
        return self._client

    @property
    def flight(self) -> SingleFlight:
        """One fetch for each key."""
        return self._flight

    def upstream(self, connection: Connection) -> Upstream:
        """The connection as the client needs it."""
        base_url = connection.url or self._default_url(connection.format)
        if base_url is None:
            raise UpstreamUnavailable(f"the external connection {connection.name} has no URL, and there is no default")
        return self._describe(connection, base_url)

    def _default_url(self, format_name: str) -> str | None:
        # Looking into the files of a client tool takes milliseconds; an install asks this some hundred times.
        known = self._defaults.get(format_name)
        if known is None or time.monotonic() > known[1]:
            url = self._formats[format_name].default_upstream_url(self._is_own)
            known = self._defaults[format_name] = (url, time.monotonic() + DEFAULT_URL_SECONDS)
        return known[0]

    def page(self, connection: Connection, key: PackageKey) -> Page:
        """What the connection lists of a package. Raises UpstreamUnavailable when neither it nor a kept page can say."""
        path, held = self._index(connection, key)
        listing = None if held.kept.is_missing else self._parse(connection, key, path, held.kept)
        return Page(listing, held.valid_until, held.is_stale, held.kept.fetched_at, held.is_new)

    def link(self, connection: Connection, key: PackageKey, filename: str) -> FileLink | None:
        """A file of a package as the connection lists it, None for none. Raises UpstreamUnavailable as ``page`` does."""
        path, held = self._index(connection, key)
        kept = held.kept
        if kept.is_missing:
            return None
        with self._lock:
            known = self._parsed.get((connection.id, path, kept.final_url, kept.fetched_at))
        if known is not None:
            return link_in(known[0], filename)
        try:
            return self._formats[connection.format].find_link(
                key, kept.body, kept.content_type, kept.final_url, filename
            )
        except BadIndex as error:
            raise UpstreamUnavailable(f"the upstream's page of {key.path} cannot be read: {error}") from error

    def _index(self, connection: Connection, key: PackageKey) -> tuple[str, _Held]:
        format_ = self._formats[connection.format]
        path = format_.index_path(key)

        def readable(kept: KeptPage) -> None:
            # A page that cannot be read (a login page with status 200, say) must not replace one that can.
            self._parse(connection, key, path, kept)

        return path, self._current(connection, _Wanted(path, format_.index_accept(), key, readable))

    def document(
        self,
        connection: Connection,
        key: PackageKey | None,
        path: str,
        *,
        accept: str,
        check: Callable[[bytes], None],
        may_lag: bool = True,
    ) -> UpstreamDocument:
        """A document at ``path`` below the connection, kept and revalidated like a page; a change counts for ``key``.

        ``check`` raises BadIndex for a body that cannot be used; ``may_lag`` says that one past its freshness may be used
        while it is refreshed. Raises UpstreamUnavailable as ``page`` does.
        """

        def readable(kept: KeptPage) -> None:
            try:
                check(kept.body)
            except BadIndex as error:
                raise UpstreamUnavailable(f"the upstream's {path} cannot be read: {error}") from error

        held = self._current(connection, _Wanted(path, accept, key, readable, may_lag))
        return UpstreamDocument(None if held.kept.is_missing else held.kept.body, held.valid_until, held.is_stale)

    def ask(self, connection: Connection, path: str, question: bytes, *, accept: str, limit_bytes: int) -> bytes | None:
        """Post a JSON question and give the answer; None where nobody answers such questions. Nothing is kept.

        Raises UpstreamUnavailable, after seconds only: clients ask such things while somebody waits.
        """
        answer = self._client.post_document(
            self.upstream(connection), path, question, accept=accept, seconds=ASK_SECONDS, limit_bytes=limit_bytes
        )
        return answer.body if isinstance(answer, Found) else None

    def is_known_missing(self, connection: Connection, path: str) -> bool:
        """Whether the connection said so lately that it has nothing at ``path``."""
        kept = self._read(connection, path)
        return kept is not None and kept.is_missing and self._state(kept) is Freshness.FRESH

    def note_missing(self, connection: Connection, path: str) -> None:
        """The connection said that it has nothing at ``path``: kept for a minute, as the absence of a page is."""
        self._store(connection, path, pages.missing(self._clock()), key=None)

    def _current(self, connection: Connection, wanted: _Wanted) -> _Held:
        kept = self._read(connection, wanted.path)
        if kept is not None and self._state(kept) is Freshness.FRESH:
            return _Held(kept, kept.fresh_until, is_stale=False)

        def check() -> KeptPage | None:
            found = self._read(connection, wanted.path)
            return found if found is not None and self._state(found) is Freshness.FRESH else None

        def refresh() -> KeptPage:
            key = f"page/{connection.id}/{wanted.path}"
            return self._flight.run(key, lambda: self._fetch(connection, wanted, kept), check)

        if kept is not None and wanted.may_lag and self._state(kept) is Freshness.REFRESH:
            is_failing = self._refresher.start(f"{connection.id}/{wanted.path}", refresh)
            return _Held(kept, self._clock() + (STALE_RETRY if is_failing else REFRESH_LOOK), is_stale=is_failing)
        try:
            fresh = refresh()
        except UpstreamUnavailable as error:
            return self._stale(connection, wanted, kept, error)
        return _Held(fresh, fresh.fresh_until, is_stale=False, is_new=True)

    def metadata(self, connection: Connection, link: FileLink, sha256: str | None) -> bytes:
        """A file's metadata document as the upstream serves it, verified where it promised a digest, and kept.

        Raises NotFound or UpstreamUnavailable.
        """
        name = f"{link.url.rsplit('/', 1)[-1]}.metadata"
        path = f"metadata/{sha256}" if sha256 else f"metadata/{link.hashes.get('sha256', '')}/{name}"

        def promised(body: bytes) -> None:
            if sha256 is not None and _sha256(body) != sha256:
                raise BadIndex("it does not have the digest the upstream promised")

        return self.fixed(connection, path, link.url + ".metadata", accept="*/*", check=promised)

    def fixed(
        self, connection: Connection, kept_as: str, url: str, *, accept: str, check: Callable[[bytes], None]
    ) -> bytes:
        """A document that never changes: fetched once, checked, and kept for good under the name ``kept_as``.

        ``check`` raises BadIndex for a body that cannot be used. Raises NotFound or UpstreamUnavailable.
        """
        kept = self._read(connection, kept_as)
        if kept is not None:
            return kept.body
        name = url.rsplit("/", 1)[-1]
        answer = self._client.get_document(
            self.upstream(connection),
            url,
            accept=accept,
            etag=None,
            last_modified=None,
            limit_bytes=METADATA_LIMIT_BYTES,
        )
        if isinstance(answer, MissingUpstream):
            raise NotFound("document", name)
        if not isinstance(answer, Found):
            raise UpstreamUnavailable("the upstream answered 304 to an unconditional request")
        try:
            check(answer.body)
        except BadIndex as error:
            raise UpstreamUnavailable(f"the upstream's {name} cannot be used: {error}") from error
        now = self._clock()
        self._store(connection, kept_as, pages.answered(answer, now, now + FOREVER), key=None)
        return answer.body

    def _fetch(self, connection: Connection, wanted: _Wanted, kept: KeptPage | None) -> KeptPage:
        path = wanted.path
        validators = kept if kept is not None and not kept.is_missing else None
        answer = self._client.get_document(
            self.upstream(connection),
            path,
            accept=wanted.accept,
            etag=validators.etag if validators else None,
            last_modified=validators.last_modified if validators else None,
            limit_bytes=PAGE_LIMIT_BYTES,
        )
        now = self._clock()
        if isinstance(answer, MissingUpstream):
            fresh = pages.missing(now)
        elif isinstance(answer, NotModified):
            if validators is None:
                raise UpstreamUnavailable("the upstream answered 304 to an unconditional request")
            until = freshness.fresh_until(now, answer.max_age_seconds)
            self._extend(connection, path, until)
            return KeptPage(
                validators.packed,
                validators.content_type,
                validators.final_url,
                validators.etag,
                validators.last_modified,
                is_missing=False,
                fetched_at=validators.fetched_at,
                fresh_until=until,
            )
        else:
            fresh = pages.answered(answer, now, freshness.fresh_until(now, answer.max_age_seconds))
            wanted.check(fresh)
        changed = kept is None or kept.packed != fresh.packed or kept.is_missing != fresh.is_missing
        self._store(connection, path, fresh, key=wanted.key if changed else None)
        return fresh

    def _stale(
        self, connection: Connection, wanted: _Wanted, kept: KeptPage | None, error: UpstreamUnavailable
    ) -> _Held:
        if kept is None or self._state(kept) is Freshness.EXPIRED:
            raise error
        log.warning("upstream %s failed, %s is answered as of %s", connection.name, wanted.path, kept.fetched_at)
        return _Held(kept, self._clock() + STALE_RETRY, is_stale=True)

    def _state(self, kept: KeptPage) -> Freshness:
        return freshness.decide(
            self._clock(), kept.fetched_at, kept.fresh_until, is_missing=kept.is_missing, lag_limit=self._lag
        )

    def _parse(self, connection: Connection, key: PackageKey, path: str, kept: KeptPage) -> Listing:
        place = (connection.id, path, kept.final_url, kept.fetched_at)
        with self._lock:
            known = self._parsed.get(place)
            if known is not None:
                self._parsed.move_to_end(place)
                return known[0]
        body = kept.body
        try:
            listing = self._formats[connection.format].parse_index(key, body, kept.content_type, kept.final_url)
        except BadIndex as error:
            raise UpstreamUnavailable(f"the upstream's page of {key.path} cannot be read: {error}") from error
        with self._lock:
            self._remember(place, listing, len(body))
        return listing

    def _remember(self, place: tuple[int, str, str, datetime], listing: Listing, size_bytes: int) -> None:
        if place not in self._parsed:
            self._parsed_bytes += size_bytes
        self._parsed[place] = (listing, size_bytes)
        # The newest one stays, however large: who asks for it once mostly asks twice.
        while len(self._parsed) > PARSED_PAGES or (self._parsed_bytes > PARSED_BYTES and len(self._parsed) > 1):
            _, (_, dropped_bytes) = self._parsed.popitem(last=False)
            self._parsed_bytes -= dropped_bytes

    def _read(self, connection: Connection, path: str) -> KeptPage | None:
        with self._db.read() as session:
            return pages.read(session, connection.id, path)

    def _store(self, connection: Connection, path: str, kept: KeptPage, *, key: PackageKey | None) -> None:
        shelf.settle(self._db, lambda session: pages.write(session, connection, path, kept, changed=key))

    def _extend(self, connection: Connection, path: str, until: datetime) -> None:
        with self._db.write() as session:
            pages.extend(session, connection.id, path, until)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
