"""What a repository offers under a name: its own files and its upstreams', by one rule.

The repository and its upstreams are asked in order; the first to have a file of a name offers it. What counts of them is
decided by origin controls (``origins`` has the rules): by default, once any of them holds the name as published, nothing
that came or would come from an external connection. So that nobody outside can slip a version under a name of ours
(dependency confusion).

A part that might know the name and cannot answer makes the whole answer Unavailable: a list that is silently shorter
would make clients choose another version, or another owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

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
    facts_from,
    facts_of,
    package_status,
    published_versions,
    read_held,
    read_rows,
    read_states,
    states_of,
    tags_of,
    visible,
)
from registry.repos.origins import Ask, Controls, Facts, Serving, Source, decide, serving
from registry.repos.topology import Connection, Node, Topology, TopologyCache
from registry.repos.unlisted import Unlisted
from registry.repos.upstreams import Page, UpstreamDocument, Upstreams
from registry.repos.withheld import NOTHING, Withheld

__all__ = ["Kept", "KeptFile", "Marked", "Offer", "OfferedFile", "Resolver"]


@dataclass(frozen=True)
class Offer:
    """All files under a name, and until when the list holds (None: until a row changes).

    ``own`` are files by name which are offered as they stand there, but for what upstreams say of kept ones; then come
    those that the ``listings`` have besides, in the order in which their connections were asked.

    ``tags`` are those of rows, the first repository of the chain that has one deciding. ``extras`` is what each
    external connection's index says of the package as a whole, in the order in which they were asked. ``revision`` is
    the name's state that all this is of. ``fetched_at`` is when the newest of the upstreams' pages came. ``withheld``
    is heeded in all of it but ``extras``: Unlisted versions are there as withdrawn ones.
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
    withheld: Withheld = NOTHING

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
    """What a chain holds under a name; with ``is_closed`` nothing from outside counts for it."""

    files: tuple[OfferedFile, ...]
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Packages of a namespace: the ``extra`` of their marked files, newest last.

    ``is_closed(name)`` says whether nothing from outside counts for a package of it, marked or not.
    """

    extras: Mapping[str, Sequence[Mapping[str, Any]]]
    is_closed: Callable[[PackageName], bool]


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

    def current_topology(self, session: Session, domain_id: int) -> Topology:
        """The topology as of the transaction of ``session``, where no admission says which one counts."""
        return self._topology.current(session, domain_id)

    def chain(self, admission: Admission) -> tuple[Node, ...]:
        """The admitted repository and its upstreams, in the order in which they are asked."""
        return self.topology(admission).chain(admission.repository_id)

    def offer(self, admission: Admission, key: PackageKey) -> Offer:
        """All files of a package. Raises NotFound, or UpstreamUnavailable when a part cannot answer."""
        topology = self.topology(admission)
        chain = topology.chain(admission.repository_id)
        held = self._held(admission, chain, key)
        facts = facts_of(topology, chain, key, held.rows)
        counts = serving(facts)
        pages = self._pages(chain, key, counts)
        # Fetching takes time and counts as a change itself: what is offered, and under which revision, is read after.
        # A page that was there may be replaced at this moment: under its revision it must not be taken for the new one.
        if any(page.is_new for _, page in pages):
            held = self._held(admission, chain, key)
            facts = facts_of(topology, chain, key, held.rows)
            counts = serving(facts)
            pages = [(connection, page) for connection, page in pages if connection.repository_id in counts.external]
        sort_key = self._formats[key.format].sort_key
        shown = visible(held.rows, chain, counts, sort_key)
        ours = published_versions(held.rows, counts, sort_key) if pages else None
        withheld = self._withheld(key, states_of(held.states, chain, counts))
        offer = _with_pages(
            key, pages, shown, withheld, (lambda link: ours.have(sort_key(link.version))) if ours else None
        )
        if offer is None:
            raise NotFound("package", self._formats[key.format].display_name(key))
        offer = replace(offer, tags=tags_of(held.tags, chain, facts), revision=held.revision)
        return _under(package_status(held.rows, chain, counts), offer)

    def _held(self, admission: Admission, chain: Sequence[Node], key: PackageKey) -> Held:
        with self._db.read() as session:
            return read_held(session, chain, key, admission.domain_id)

    def connections(self, admission: Admission, format_name: str) -> list[Connection]:
        """The external connections of a format along the chain, in the order in which they are asked."""
        return _connections(self.chain(admission), format_name)

    def is_closed(self, admission: Admission, key: PackageKey) -> bool:
        """Whether nothing from outside counts for the name here."""
        _, _, counts = self._counting(admission, key, "")
        return counts.is_closed

    def facts(self, admission: Admission, key: PackageKey) -> Facts:
        """What decisions on the name depend on here: its origin controls along the chain, and its package group."""
        return self._counting(admission, key, "")[1]

    def _counting(
        self, admission: Admission, key: PackageKey, filename: str | None, ask: Ask = Ask.INDEX
    ) -> tuple[list[Row], Facts, Serving]:
        topology = self.topology(admission)
        chain = topology.chain(admission.repository_id)
        with self._db.read() as session:
            rows = read_rows(session, chain, key, filename)
        facts = facts_of(topology, chain, key, rows)
        return rows, facts, serving(facts, ask)

    def find_file(self, admission: Admission, key: PackageKey, filename: str) -> OfferedFile:
        """One file of a package; kept files are found by one query, without asking any upstream. Raises NotFound.

        Nor is one asked for a file that no index lists (``OfferedFile.location``): whether it is there shows when it is read.
        Raises Denied for a file of a package that is quarantined here, or of a version that is Archived.

        A file of an Unfinished version is found too: who may have it is the caller's to say, by its ``status``.
        """
        chain = self.chain(admission)
        rows, _, counts = self._counting(admission, key, filename, Ask.ASSET)
        may_mix = any(row.controls.origin == shelf.PUBLISHED for row in rows)
        if may_mix and any(row.file is not None and not row.is_published for row in rows):
            # Ours and others' lie beside each other under this name: whose version it is, only all rows tell.
            rows = self._counting(admission, key, None, Ask.ASSET)[0]
        _refuse_quarantined(package_status(rows, chain, counts), key)
        found = visible(rows, chain, counts, self._formats[key.format].sort_key).get(filename)
        if found is None:
            found = self._file_from_outside(admission, chain, key, filename, counts, may_mix=may_mix)
        self._held_back(chain, key, rows, counts).check_served(key, found.version, filename)
        return found

    def _file_from_outside(
        self,
        admission: Admission,
        chain: Sequence[Node],
        key: PackageKey,
        filename: str,
        counts: Serving,
        *,
        may_mix: bool,
    ) -> OfferedFile:
        if counts.is_closed:
            raise NotFound("file", filename)
        found = self._outside_file(chain, key, filename, counts)
        if may_mix and self._is_ours(admission, key, found.version):
            raise NotFound("file", filename)
        return found

    def _outside_file(self, chain: Sequence[Node], key: PackageKey, filename: str, counts: Serving) -> OfferedFile:
        connections = [each for each in _connections(chain, key.format) if each.repository_id in counts.external]
        location = self._formats[key.format].locate(key, filename)
        if location is not None:
            return self._located(connections, location, filename)
        for connection in connections:
            link = self._upstreams.link(connection, key, filename)
            if link is not None:
                return _offered(link, connection, None)
        raise NotFound("file", filename)

    def _is_ours(self, admission: Admission, key: PackageKey, version: str) -> bool:
        """Whether the version is published here: then no file from outside is one of its."""
        rows, _, counts = self._counting(admission, key, None, Ask.ASSET)
        sort_key = self._formats[key.format].sort_key
        return published_versions(rows, counts, sort_key).have(sort_key(version))

    def _located(self, connections: Sequence[Connection], location: Location, filename: str) -> OfferedFile:
        found = [
            _offered(link, connection, None)
            for connection in connections
            if (link := self._unlisted.link(connection, location, filename)) is not None
        ]
        if not found:
            raise NotFound("file", filename)
        first, *others = (replace(file, location=location) for file in found)
        return replace(first, others=tuple(others))

    def kept(self, admission: Admission, key: PackageKey) -> Kept:
        """The files of finished versions that the chain holds, whatever lies outside; of a quarantined package none."""
        chain = self.chain(admission)
        rows, _, counts = self._counting(admission, key, None, Ask.METADATA)
        if package_status(rows, chain, counts)[0] == shelf.QUARANTINED:
            return Kept((), is_closed=True)
        withheld = self._held_back(chain, key, rows, counts)
        shown = withheld.offered(visible(rows, chain, counts, self._formats[key.format].sort_key)).values()
        return Kept(tuple(file for file in shown if withheld.lists(file.version)), counts.is_closed)

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

        Of a package those are asked of which what they have counts for it. Raises UpstreamUnavailable.
        """
        connections = _connections(self.chain(admission), format_name)
        if key is not None:
            counts = self._counting(admission, key, "", Ask.METADATA)[2]
            connections = [connection for connection in connections if connection.repository_id in counts.external]
        return [
            self._upstreams.document(connection, key, path, accept=accept, check=check) for connection in connections
        ]

    def marked(self, admission: Admission, format_name: str, namespace: str, mark: str) -> Marked:
        """Which packages of a namespace have files with ``mark`` in their ``extra``, by finished versions that count."""
        topology = self.topology(admission)
        chain = topology.chain(admission.repository_id)
        position = {node.id: index for index, node in enumerate(chain)}
        here = (Package.repository_id.in_(position), Package.format == format_name, Package.namespace == namespace)
        controls: dict[str, dict[int, Controls]] = {}
        with self._db.read() as session:
            for name, repository_id, *own in session.execute(
                select(Package.name, Package.repository_id, Package.publish, Package.upstream, Package.origin).where(
                    *here
                )
            ):
                controls.setdefault(name, {})[repository_id] = Controls(*own)
            rows = session.execute(_marked_statement(here, mark)).all()

        @cache
        def facts(name: PackageName) -> Facts:
            return facts_from(topology, chain, PackageKey(format_name, namespace, name), controls.get(name, {}))

        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: -position[row.repository_id]):
            source = Source.KEPT if row.origin == shelf.UPSTREAM else Source.PUBLISHED
            if decide(facts(row.name), Ask.METADATA, source, row.repository_id).allowed:
                found.setdefault(row.name, []).append(row.extra)
        return Marked(found, lambda name: serving(facts(name), Ask.METADATA).is_closed)

    def names(self, admission: Admission, format_name: str) -> list[tuple[PackageKey, str]]:
        """Packages (and their names as displayed) that the chain holds itself and the caller may know of.

        What upstreams list is not asked for.
        """
        ids = [node.id for node in self.chain(admission)]
        with self._db.read() as session:
            found = session.execute(
                select(Package.namespace, Package.name, Package.display_name)
                .where(
                    Package.repository_id.in_(ids),
                    Package.format == format_name,
                    Package.origin != shelf.PREPARED,
                )
                .order_by(Package.namespace, Package.name)
            ).all()
        keys = {PackageKey(format_name, namespace, PackageName(name)): display for namespace, name, display in found}
        return [(key, display) for key, display in keys.items() if admission.sees_all or admission.sees(key)]

    def _held_back(self, chain: Sequence[Node], key: PackageKey, rows: Sequence[Row], counts: Serving) -> Withheld:
        """What of the name is withheld, asked for only where something of it may be."""
        if not any(row.has_states for row in rows):
            return NOTHING
        with self._db.read() as session:
            found = read_states(session, chain, key, rows)
        return self._withheld(key, states_of(found, chain, counts))

    def _withheld(self, key: PackageKey, found: Mapping[str, str]) -> Withheld:
        return Withheld.of(found, self._formats[key.format].sort_key) if found else NOTHING

    def _pages(self, chain: Sequence[Node], key: PackageKey, counts: Serving) -> list[tuple[Connection, Page]]:
        connections = [each for each in _connections(chain, key.format) if each.repository_id in counts.external]
        return [(connection, self._upstreams.page(connection, key)) for connection in connections]


def _marked_statement(here: tuple[ColumnElement[bool], ...], mark: str) -> Select[Any]:
    return (
        select(Package.repository_id, Package.name, PackageVersion.origin, Asset.extra)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .join(Asset, Asset.version_id == PackageVersion.id)
        .where(
            *here,
            Package.status != shelf.QUARANTINED,
            PackageVersion.status == shelf.FINISHED,
            Asset.extra[mark].as_string().is_not(None),
        )
        .order_by(Asset.published_at, Asset.id)
    )


def _with_pages(
    key: PackageKey,
    pages: Sequence[tuple[Connection, Page]],
    held: Mapping[str, OfferedFile],
    withheld: Withheld,
    is_ours: Callable[[FileLink], bool] | None,
) -> Offer | None:
    """Files of rows and of pages together, but for those of versions of ours; None where there are none of either."""
    files = withheld.offered(held)
    listings = tuple(
        (connection, withheld.listing(page.listing)) for connection, page in pages if page.listing is not None
    )
    extras = tuple(listing.extra for _, listing in listings)
    if not listings and not files:
        return None
    says = [listing for _, listing in listings if listing.status]
    if is_ours is not None:
        # What only the format understands of the listing tells of all of its files: it goes along with them.
        listings = tuple(
            (connection, replace(listing, files=tuple(link for link in listing.files if not is_ours(link)), extra={}))
            for connection, listing in listings
        )
    return Offer(
        key,
        files,
        listings,
        valid_until=min((page.valid_until for _, page in pages), default=None),
        is_stale=any(page.is_stale for _, page in pages),
        status=says[0].status if says else None,
        status_reason=says[0].status_reason if says else None,
        extras=extras,
        fetched_at=max((page.fetched_at for _, page in pages), default=None),
        withheld=withheld,
    )


def _under(own: tuple[str, str], offer: Offer) -> Offer:
    """The offer under the package's state here, which comes before what an upstream says of it.

    Of a quarantined package nothing is listed, whoever says so; also not what is kept of it here.
    """
    status, reason = own
    if status != shelf.ACTIVE:
        offer = replace(offer, status=status, status_reason=reason or None)
    return replace(offer, own={}, listings=()) if offer.status == shelf.QUARANTINED else offer


def _refuse_quarantined(said: tuple[str, str], key: PackageKey) -> None:
    status, reason = said
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
