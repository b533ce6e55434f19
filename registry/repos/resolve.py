"""What a repository offers under a name: its own files and its upstreams', by one rule.

The rule, the whole of it: *the repository and its upstreams are asked in order; the first to have a file of a name
offers it. Once any of them holds the name as published, nothing that came or would come from an external connection
counts for it.* So that nobody outside can slip a version under a name of ours (dependency confusion).

A part that might know the name and cannot answer makes the whole answer Unavailable: a list that is silently shorter
would make clients choose another version, or another owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import select

from registry.db import Database
from registry.errors import Denied, NotFound
from registry.format import FileLink, Format, Listing, Location, link_in
from registry.models import Asset, Package, PackageVersion
from registry.names import PackageKey, PackageName
from registry.repos import shelf
from registry.repos.admission import Admission
from registry.repos.held import (
    Held,
    KeptFile,
    OfferedFile,
    Row,
    is_published,
    package_status,
    read_held,
    read_rows,
    visible,
)
from registry.repos.topology import Connection, Node, Topology, TopologyCache
from registry.repos.unlisted import Unlisted
from registry.repos.upstreams import Page, UpstreamDocument, Upstreams

__all__ = ["Kept", "KeptFile", "Marked", "Offer", "OfferedFile", "Resolver"]


@dataclass(frozen=True)
class Offer:
    """All files under a name, and until when the list holds (None: until a row changes).

    ``own`` are files by name which are offered as they stand there, but for what upstreams say of kept ones; then come
    those that the ``listings`` have besides, in the order in which their connections were asked.

    ``tags`` are those of rows, the first repository of the chain that has one deciding. ``extras`` is what each
    external connection's index says of the package as a whole, in the order in which they were asked. ``revision`` is
    the name's state that all this is of. ``fetched_at`` is when the newest of the upstreams' pages came.
    """

    key: PackageKey
    own: Mapping[str, OfferedFile]
    listings: tuple[tuple[Connection, Listing], ...]
    valid_until: datetime | None
    is_stale: bool
    status: str | None = None
    status_reason: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    extras: tuple[Mapping[str, Any], ...] = ()
    revision: int = 0
    fetched_at: datetime | None = None

    @cached_property
    def files(self) -> tuple[OfferedFile, ...]:
        """All of them: of a long list that is work, which who wants one file, or what lists say of themselves, can save."""
        files = dict(self.own)
        for connection, listing in self.listings:
            for link in listing.files:
                files[link.filename] = _offered(link, connection, files.get(link.filename))
        return tuple(files.values())

    def file(self, filename: str) -> OfferedFile | None:
        """The one of that name."""
        found = self.own.get(filename)
        for connection, listing in self.listings:
            link = link_in(listing, filename)
            if link is not None:
                found = _offered(link, connection, found)
        return found


@dataclass(frozen=True, slots=True)
class Kept:
    """What a chain holds under a name; with ``is_published`` nothing from outside counts for it."""

    files: tuple[OfferedFile, ...]
    is_published: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Packages of a namespace: which are ``published`` here, and the ``extra`` of their marked files, newest last."""

    published: frozenset[PackageName]
    extras: Mapping[str, Sequence[Mapping[str, Any]]]


class Resolver:
    """Answers what a repository offers. Safe for many threads."""

    def __init__(
        self, db: Database, topology: TopologyCache, upstreams: Upstreams, formats: Mapping[str, Format]
    ) -> None:
        self._db = db
        self._topology = topology
        self._upstreams = upstreams
        self._formats = formats
        self._unlisted = Unlisted(upstreams)

    def topology(self, admission: Admission) -> Topology:
        """The topology this request was let in under."""
        known = self._topology.peek(admission.domain_id)
        if known is not None and known.revision >= admission.topology_revision:
            return known
        with self._db.read() as session:
            return self._topology.get(session, admission.domain_id, admission.topology_revision)

    def chain(self, admission: Admission) -> tuple[Node, ...]:
        """The admitted repository and its upstreams, in the order in which they are asked."""
        return self.topology(admission).chain(admission.repository_id)

    def offer(self, admission: Admission, key: PackageKey) -> Offer:
        """All files of a package. Raises NotFound, or UpstreamUnavailable when a part cannot answer."""
        chain = self.chain(admission)
        held = self._held(admission, chain, key)
        pages: list[tuple[Connection, Page]] = []
        if not is_published(held.rows):
            pages = self._pages(chain, key)
            # Fetching takes time and counts as a change itself: what is offered, and under which revision, is read after.
            # A page that was there may be replaced at this moment: under its revision it must not be taken for the new one.
            if any(page.is_new for _, page in pages):
                held = self._held(admission, chain, key)
        is_ours = is_published(held.rows)
        files = {name: file for name, file in visible(held.rows, chain).items() if file.status != shelf.UNFINISHED}
        offer = _with_pages(key, [] if is_ours else pages, files)
        if offer is None:
            raise NotFound("package", self._formats[key.format].display_name(key))
        offer = replace(offer, tags=held.tags, revision=held.revision)
        return _under(package_status(held.rows, chain), offer)

    def _held(self, admission: Admission, chain: Sequence[Node], key: PackageKey) -> Held:
        with self._db.read() as session:
            return read_held(session, chain, key, admission.domain_id)

    def connections(self, admission: Admission, format_name: str) -> list[Connection]:
        """The external connections of a format along the chain, in the order in which they are asked."""
        return _connections(self.chain(admission), format_name)

    def is_published(self, admission: Admission, key: PackageKey) -> bool:
        """Whether the chain holds the name as published, so that nothing from outside counts for it."""
        with self._db.read() as session:
            return is_published(read_rows(session, self.chain(admission), key, ""))

    def find_file(self, admission: Admission, key: PackageKey, filename: str) -> OfferedFile:
        """One file of a package; kept files are found by one query, without asking any upstream. Raises NotFound.

        Nor is one asked for a file that no index lists (``OfferedFile.location``): whether it is there shows when it is read.
        Raises Denied for a file of a package that is quarantined here.

        A file of an Unfinished version is found too: who may have it is the caller's to say, by its ``status``.
        """
        chain = self.chain(admission)
        with self._db.read() as session:
            rows = read_rows(session, chain, key, filename)
        _refuse_quarantined(rows, chain, key)
        found = visible(rows, chain).get(filename)
        if found is not None:
            return found
        if is_published(rows):
            raise NotFound("file", filename)
        location = self._formats[key.format].locate(key, filename)
        if location is not None:
            return self._located(chain, key, location, filename)
        for connection in _connections(chain, key.format):
            link = self._upstreams.link(connection, key, filename)
            if link is not None:
                return _offered(link, connection, None)
        raise NotFound("file", filename)

    def _located(self, chain: Sequence[Node], key: PackageKey, location: Location, filename: str) -> OfferedFile:
        found = [
            _offered(link, connection, None)
            for connection in _connections(chain, key.format)
            if (link := self._unlisted.link(connection, location, filename)) is not None
        ]
        if not found:
            raise NotFound("file", filename)
        first, *others = (replace(file, location=location) for file in found)
        return replace(first, others=tuple(others))

    def kept(self, admission: Admission, key: PackageKey) -> Kept:
        """The files of finished versions that the chain holds, whatever lies outside; of a quarantined package none."""
        chain = self.chain(admission)
        with self._db.read() as session:
            rows = read_rows(session, chain, key, None)
        if package_status(rows, chain)[0] == shelf.QUARANTINED:
            return Kept((), is_published=True)
        files = tuple(file for file in visible(rows, chain).values() if file.status != shelf.UNFINISHED)
        return Kept(files, is_published(rows))

    def outside(
        self,
        admission: Admission,
        format_name: str,
        key: PackageKey | None,
        path: str,
        *,
        accept: str,
        check: Callable[[bytes], None],
    ) -> list[UpstreamDocument]:
        """What each external connection has at ``path``, in the order in which they are asked; see Upstreams.document.

        Whether anything from outside counts is the caller's to say (``Kept.is_published``). Raises UpstreamUnavailable.
        """
        return [
            self._upstreams.document(connection, key, path, accept=accept, check=check)
            for connection in _connections(self.chain(admission), format_name)
        ]

    def marked(self, admission: Admission, format_name: str, namespace: str, mark: str) -> Marked:
        """Which packages of a namespace have files with ``mark`` in their ``extra``, by finished versions that count."""
        chain = self.chain(admission)
        position = {node.id: index for index, node in enumerate(chain)}
        here = (
            Package.repository_id.in_(position),
            Package.format == format_name,
            Package.namespace == namespace,
        )
        is_open = Package.status != shelf.QUARANTINED
        with self._db.read() as session:
            names = session.scalars(select(Package.name).where(*here, Package.origin == shelf.PUBLISHED)).all()
            rows = session.execute(
                select(Package.repository_id, Package.name, Package.origin, Asset.extra)
                .join(PackageVersion, PackageVersion.package_id == Package.id)
                .join(Asset, Asset.version_id == PackageVersion.id)
                .where(
                    *here, is_open, PackageVersion.status == shelf.FINISHED, Asset.extra[mark].as_string().is_not(None)
                )
                .order_by(Asset.published_at, Asset.id)
            ).all()
        published = frozenset(PackageName(name) for name in names)
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: -position[row.repository_id]):
            if row.origin == shelf.PUBLISHED or row.name not in published:
                found.setdefault(row.name, []).append(row.extra)
        return Marked(published, found)

    def names(self, admission: Admission, format_name: str) -> list[tuple[PackageKey, str]]:
        """Packages (and their names as displayed) that the chain holds itself and the caller may know of.

        What upstreams list is not asked for.
        """
        ids = [node.id for node in self.chain(admission)]
        with self._db.read() as session:
            found = session.execute(
                select(Package.namespace, Package.name, Package.display_name)
                .where(Package.repository_id.in_(ids), Package.format == format_name)
                .order_by(Package.namespace, Package.name)
            ).all()
        keys = {PackageKey(format_name, namespace, PackageName(name)): display for namespace, name, display in found}
        return [(key, display) for key, display in keys.items() if admission.sees_all or admission.sees(key)]

    def _pages(self, chain: Sequence[Node], key: PackageKey) -> list[tuple[Connection, Page]]:
        connections = _connections(chain, key.format)
        return [(connection, self._upstreams.page(connection, key)) for connection in connections]


def _with_pages(
    key: PackageKey, pages: Sequence[tuple[Connection, Page]], files: dict[str, OfferedFile]
) -> Offer | None:
    """Files of rows and of pages together; None where there are none of either."""
    listings = tuple((connection, page.listing) for connection, page in pages if page.listing is not None)
    if not listings and not files:
        return None
    says = [listing for _, listing in listings if listing.status]
    return Offer(
        key,
        files,
        listings,
        valid_until=min((page.valid_until for _, page in pages), default=None),
        is_stale=any(page.is_stale for _, page in pages),
        status=says[0].status if says else None,
        status_reason=says[0].status_reason if says else None,
        extras=tuple(listing.extra for _, listing in listings),
        fetched_at=max((page.fetched_at for _, page in pages), default=None),
    )


def _under(own: tuple[str, str], offer: Offer) -> Offer:
    """The offer under the package's state here, which comes before what an upstream says of it.

    Of a quarantined package nothing is listed, whoever says so; also not what is kept of it here.
    """
    status, reason = own
    if status != shelf.ACTIVE:
        offer = replace(offer, status=status, status_reason=reason or None)
    return replace(offer, own={}, listings=()) if offer.status == shelf.QUARANTINED else offer


def _refuse_quarantined(rows: Sequence[Row], chain: Sequence[Node], key: PackageKey) -> None:
    status, reason = package_status(rows, chain)
    if status == shelf.QUARANTINED:
        raise Denied(f"{key.path} is quarantined, so none of its files is served" + (f": {reason}" if reason else ""))


def _connections(chain: Sequence[Node], format_name: str) -> list[Connection]:
    return [connection for node in chain for connection in node.connections if connection.format == format_name]


def _offered(link: FileLink, connection: Connection, known: OfferedFile | None) -> OfferedFile:
    if known is not None and (known.kept is None or known.connection is not None):
        return known  # an earlier repository of the chain offers this file
    yanked = link.extra.get("yanked", False)
    reason = None if yanked is False else ("" if yanked is True else str(yanked))
    if known is None:
        return OfferedFile(
            link.filename,
            link.version,
            link.hashes,
            link.size_bytes,
            link.upload_time,
            link.extra,
            reason,
            None,
            link,
            connection,
        )
    # The kept bytes stay what they were when first seen; yanks and the like follow the upstream.
    return replace(
        known,
        upload_time=link.upload_time or known.upload_time,
        extra=link.extra,
        yanked_reason=reason,
        link=link,
        connection=connection,
    )
