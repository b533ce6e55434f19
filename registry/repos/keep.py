"""Keeping by reference: a version found upstream stays where it was asked for, also when the upstream loses it.

"Where" is two repositories: the one that was asked, and the one with the external connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.clock import Clock
from registry.db import Database
from registry.errors import NotFound
from registry.format import FileLink, Format
from registry.models import Asset, Blob, PackageVersion
from registry.names import PackageKey
from registry.repos import descriptions, kept_rows, shelf
from registry.repos.admission import Admission
from registry.repos.arrival import Kept
from registry.repos.coming import Coming
from registry.repos.derived import Derivations
from registry.repos.evict import UseMarks
from registry.repos.fetch import Fetcher, Order, Wanted
from registry.repos.origins import Source
from registry.repos.reading import Readings
from registry.repos.resolve import KeptFile, OfferedFile
from registry.repos.topology import Connection, TopologyCache
from registry.repos.unlisted import Unlisted
from registry.repos.upstreams import Upstreams
from registry.stores import DomainStores, handle_of
from registry.upstream.answers import FileHead
from storage.blobs import BlobHandle, ByteRange


@dataclass(frozen=True, slots=True)
class VersionText:
    """What is known of a version: the format's own metadata, and the description with its media type."""

    metadata: Mapping[str, Any]
    description: str
    description_type: str


class Files:
    """Opens what the resolver offers, from the store or through the upstream. Safe for many threads."""

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        upstreams: Upstreams,
        fetcher: Fetcher,
        formats: Mapping[str, Format],
        clock: Clock,
        topologies: TopologyCache,
        *,
        marks: UseMarks | None = None,
    ) -> None:
        """``marks`` notes which bodies are read, where that decides which of them may go."""
        self._db = db
        self._topologies = topologies
        self._marks = marks
        self._formats = formats
        self._stores = stores
        self._upstreams = upstreams
        self._fetcher = fetcher
        self._clock = clock
        self._unlisted = Unlisted(upstreams)
        self.derived = Derivations(db, upstreams, clock)
        self.readings = Readings(db, stores, formats)

    def read(self, admission: Admission, handle: BlobHandle, part: ByteRange | None) -> Iterator[bytes]:
        """The bytes of a kept file."""
        if self._marks is not None:
            self._marks.used(handle.locator)
        return self._stores.of(admission.domain_id).open(handle, part)

    def begin(self, admission: Admission, key: PackageKey, offered: OfferedFile) -> Coming:
        """Begin to fetch a file that is not kept yet, or join in. Raises NotFound or UpstreamUnavailable."""
        for candidate in (offered, *offered.others):
            try:
                return Coming.begin(self._upstreams.client, self._fetcher, self._order(admission, key, candidate))
            except NotFound:
                # Only a sure absence leads on to the next connection: an outage must not put another's file in its place.
                if candidate.location is not None and candidate.connection is not None:
                    self._unlisted.note_missing(candidate.connection, candidate.location)
        raise NotFound("file", offered.filename)

    def complete(self, admission: Admission, key: PackageKey, offered: OfferedFile) -> Kept:
        """Fetch a file that is not kept yet, and wait until it is. Raises NotFound or UpstreamUnavailable."""
        return self.begin(admission, key, offered).wait_kept()

    def head(self, offered: OfferedFile) -> FileHead | None:
        """What the upstream says of a file that is not kept, without fetching it; None where it says too little.

        Raises NotFound or UpstreamUnavailable.
        """
        for candidate in (offered, *offered.others):
            if candidate.link is None or candidate.connection is None:
                continue
            upstream = self._upstreams.upstream(candidate.connection)
            try:
                return self._upstreams.client.head_file(upstream, candidate.link.url)
            except NotFound:
                continue
        raise NotFound("file", offered.filename)

    def digest_beside(self, offered: OfferedFile) -> Mapping[str, str]:
        """The digest that lies beside a file that no index lists, by its algorithm; nothing where there is none.

        Raises UpstreamUnavailable.
        """
        if offered.location is None or offered.connection is None:
            return {}
        return self._unlisted.digest(offered.connection, offered.location)

    def metadata(self, admission: Admission, offered: OfferedFile, sha256: str | None) -> bytes:
        """A file's metadata document: the one extracted at upload, or the upstream's. Raises NotFound."""
        if offered.kept is not None and offered.kept.metadata_blob_id is not None:
            return self._whole(admission, offered.kept.metadata_blob_id)
        if offered.link is None or offered.connection is None:
            raise NotFound("metadata", f"{offered.filename}.metadata")
        return self._upstreams.metadata(offered.connection, offered.link, sha256)

    def provenance(
        self, admission: Admission, offered: OfferedFile, url: str, *, accept: str, check: Callable[[bytes], None]
    ) -> bytes:
        """What was attested of a file: at its upload, or, from ``url``, at the upstream's, fetched once and kept.

        ``check`` raises BadIndex for an upstream's document that cannot be used. Raises NotFound, UpstreamUnavailable.
        """
        if offered.kept is not None and offered.kept.provenance_blob_id is not None:
            return self._whole(admission, offered.kept.provenance_blob_id)
        if not url or offered.connection is None:
            raise NotFound("provenance", offered.filename)
        kept_as = f"provenance/{hashlib.sha256(url.encode()).hexdigest()}"
        return self._upstreams.fixed(offered.connection, kept_as, url, accept=accept, check=check)

    def described(self, admission: Admission, key: PackageKey, kept: KeptFile) -> VersionText | None:
        """What the archives of a kept file's version said of it; None where they were not read. May raise Damaged."""
        with self._db.read() as session:
            row = session.execute(
                select(
                    PackageVersion.version,
                    PackageVersion.metadata_,
                    PackageVersion.description,
                    PackageVersion.description_type,
                )
                .join(Asset, Asset.version_id == PackageVersion.id)
                .where(Asset.id == kept.asset_id)
            ).first()
        if row is None or not row[1]:
            return None
        keyring = self._stores.keyring(admission.domain_id)
        text, metadata = descriptions.opened(keyring, key, row[0], row[2], row[1])
        return VersionText(metadata, text, row[3])

    def _whole(self, admission: Admission, blob_id: int) -> bytes:
        with self._db.read() as session:
            blob = session.get_one(Blob, blob_id)
        return b"".join(self._stores.of(admission.domain_id).open(handle_of(blob)))

    def _order(self, admission: Admission, key: PackageKey, offered: OfferedFile) -> Order:
        link, connection = offered.link, offered.connection
        if link is None or connection is None:
            raise NotFound("file", offered.filename)
        repositories = list(dict.fromkeys((admission.repository_id, connection.repository_id)))

        def keep(handle: BlobHandle, digests: Mapping[str, str]) -> Kept:
            def unit(session: Session) -> BlobHandle:
                return self._insert(session, admission.domain_id, repositories, key, offered, handle, digests)

            kept = shelf.settle(self._db, unit)
            if kept.locator != handle.locator:
                self._stores.of(admission.domain_id).delete(handle.locator)
            return Kept(kept, {**digests, "sha256": kept.digest})

        def find() -> Kept | None:
            there = self._find(admission.domain_id, link, connection, key)
            return keep(there.handle, {**there.digests, **link.hashes}) if there is not None else None

        return Order(
            key=f"file/{admission.domain_id}/{connection.id}/{link.hashes.get('sha256') or link.url}",
            upstream=self._upstreams.upstream(connection),
            wanted=Wanted(
                link.url,
                offered.filename,
                dict(link.hashes),
                link.size_bytes,
                self._formats[key.format].digests,
                (lambda: self.digest_beside(offered)) if offered.location is not None else None,
            ),
            store=self._stores.of(admission.domain_id),
            find=find,
            keep=keep,
        )

    def _find(self, domain_id: int, link: FileLink, connection: Connection, key: PackageKey) -> Kept | None:
        """What another process kept meanwhile: the promised bytes, whosoever, or else the file of that name."""
        sha256 = link.hashes.get("sha256")
        with self._db.read() as session:
            if sha256 is not None:
                blob = session.scalar(select(Blob).where(Blob.domain_id == domain_id, Blob.sha256 == sha256))
                asset = session.scalar(select(Asset).where(Asset.blob_id == blob.id).limit(1)) if blob else None
                return Kept(handle_of(blob), dict(asset.hashes) if asset else {}) if blob else None
            package = shelf.find_package(session, connection.repository_id, *key)
            if package is None:
                return None
            asset = shelf.find_asset(session, package.id, link.filename)
            if asset is None or session.get_one(PackageVersion, asset.version_id).origin != shelf.UPSTREAM:
                return None
            if any(asset.hashes.get(name, value) != value for name, value in link.hashes.items()):
                return None
            return Kept(handle_of(session.get_one(Blob, asset.blob_id)), dict(asset.hashes))

    def _insert(
        self,
        session: Session,
        domain_id: int,
        repositories: list[int],
        key: PackageKey,
        offered: OfferedFile,
        handle: BlobHandle,
        digests: Mapping[str, str],
    ) -> BlobHandle:
        now, format_ = self._clock(), self._formats[key.format]
        blob = kept_rows.ensure_blob(session, domain_id, handle, now)
        file = kept_rows.KeptRow(
            display_name=format_.display_name(key),
            version=offered.version,
            summary=format_.summary(offered.extra),
            yanked_reason=offered.yanked_reason,
            filename=offered.filename,
            hashes=digests,
            extra=offered.extra,
            published_at=offered.upload_time or now,
        )
        # The request that began this was decided under a topology that is known here, then or a newer one.
        topology = self._topologies.peek(domain_id) or self._topologies.current(session, domain_id)
        ruling = topology.groups.ruling(key)
        for repository_id in repositories:
            is_outside = offered.connection is not None and offered.connection.repository_id == repository_id
            way_in = kept_rows.WayIn(Source.EXTERNAL if is_outside else Source.KEPT, ruling)
            kept_rows.keep(session, domain_id, repository_id, key, file, blob, way_in, now)
        return blob.handle
