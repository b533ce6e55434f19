"""Publishing: the bytes are in the store already; here one short transaction makes them a file of a version.

Files, audit entry and event are written together: what is acknowledged is durable, and what is announced happened.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.access import Action
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict, Denied, FileExists, NameUsed, Unavailable
from registry.format import Format, Release
from registry.leaks import LeakGuard
from registry.models import Asset, Blob, Package, PackageTag, PackageVersion
from registry.names import PackageKey, PackageName
from registry.repos import built, descriptions, freezing, promises, quotas, shelf, states
from registry.repos.admission import Admission, Admissions, Credential
from registry.repos.origins import Ask, Controls, Facts, Place, decide
from registry.repos.topology import Topology, TopologyCache
from registry.stores import DomainStores
from storage.blobs import BlobHandle, BlobStore
from storage.errors import StorageError
from storage.intake import receive
from storage.reader import open_file

log = logging.getLogger("entrepot.publish")

PROMISES_HOLD = timedelta(days=1)
"""How long a digest without its file keeps a version from being finished."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did: ``is_new`` is False when the identical file was here already.

    ``revision`` is that of the version, with the file.
    """

    filename: str
    is_new: bool
    revision: str


@dataclass(frozen=True, slots=True)
class _Bodies:
    """What was received of one file: itself, and the documents beside it where there are any."""

    file: BlobHandle
    metadata: BlobHandle | None
    provenance: BlobHandle | None

    def all(self) -> list[BlobHandle]:
        return [body for body in (self.file, self.metadata, self.provenance) if body is not None]


class Publisher:
    """Publishes files. Safe for many threads and processes."""

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        admissions: Admissions,
        formats: Mapping[str, Format],
        clock: Clock,
        topologies: TopologyCache,
        leaks: LeakGuard,
        *,
        frozen_after: timedelta = states.FROZEN_AFTER,
        witness: built.Witness = built.nobody,
    ) -> None:
        """After ``frozen_after`` a version takes no further files (0: always). ``witness`` knows builds by their tokens."""
        self._witness = witness
        self._leaks = leaks
        self._db = db
        self._topologies = topologies
        self._frozen_after = frozen_after
        self._formats = formats
        self._stores = stores
        self._admissions = admissions
        self._clock = clock

    def publish(
        self,
        admission: Admission,
        credential: Credential | None,
        format_name: str,
        release: Release,
        handle: BlobHandle,
        hashes: Mapping[str, str],
        *,
        tags: Sequence[str] = (),
        is_finished: bool = True,
    ) -> Published:
        """Make the received body a file of ``release``. Consumes ``handle``: on any failure its body is removed.

        ``tags`` point at the version from now on, unless it was here already: a publish that is repeated moves nothing
        back. With ``is_finished`` False a new version stays Unfinished, unlisted and unannounced, until ``finish``.
        Raises FileExists or NameUsed for another body of that name, Denied for a name that came from an upstream, or a
        version that takes no further files, what admission raises when the right was withdrawn while the upload ran, and
        TokenInside for a live token in it.
        """
        store = self._stores.of(admission.domain_id)
        key = PackageKey(format_name, release.namespace, release.name)
        bodies = [handle]
        try:
            metadata = _receive(store, release.metadata_document, bodies)
            provenance = _receive(store, release.provenance_document, bodies)
            self._ask_again(credential, admission, key)
            self._check_inside(store, handle, admission, key, release.filename)

            # Before the transaction: it may have to read the domain's keys.
            keyring = self._stores.keyring(admission.domain_id)
            description = descriptions.sealed(keyring, key, release.version, release.description)

            def unit(session: Session) -> tuple[Published, list[BlobHandle]]:
                self._admissions.confirm(session, admission, Action.PUBLISH, key, self._clock())
                inserted = self._insert(
                    session,
                    admission,
                    key,
                    release,
                    _Bodies(handle, metadata, provenance),
                    hashes,
                    description,
                    is_finished=is_finished,
                )
                if inserted[0].is_new:
                    self._tag(session, admission, key, release, tags)
                return inserted

            done, unneeded = shelf.settle(self._db, unit)
        except Unavailable:
            # The commit's outcome may be unknown: a body that a row might refer to is the sweep's to judge, not ours.
            raise
        except BaseException:
            _discard(store, bodies)
            raise
        _discard(store, unneeded)
        return done

    def _ask_again(self, credential: Credential | None, admission: Admission, key: PackageKey) -> None:
        """Raise where the right is gone by now, or was for some package but not for the one that the bytes name."""
        self._admissions.admit(
            credential,
            Action.PUBLISH,
            admission.domain,
            admission.repository,
            format_name=key.format,
            namespace=key.namespace,
            package=key.name,
            now=self._clock(),
        )

    def _check_inside(
        self, store: BlobStore, handle: BlobHandle, admission: Admission, key: PackageKey, filename: str
    ) -> None:
        """Refuse an archive with a live token of ours in a member; the packed bytes were looked at as they came."""
        place = f"{filename}, which {admission.actor} sent as {key.format}/{key.path} to {admission.path}"
        with open_file(store, handle) as body:
            self._leaks.check_archive(body, filename, place)

    def _insert(
        self,
        session: Session,
        admission: Admission,
        key: PackageKey,
        release: Release,
        bodies: _Bodies,
        hashes: Mapping[str, str],
        description: bytes | None,
        *,
        is_finished: bool,
    ) -> tuple[Published, list[BlobHandle]]:
        now = self._clock()
        made_by = self._witness(session, admission.identity)
        package = self._open_package(session, admission, key, release, now)
        holder = _holder(session, package, release.filename, bodies.file.digest)
        if holder is not None:
            freezing.check_state(holder, admission.path)
            return Published(release.filename, is_new=False, revision=holder.revision), bodies.all()
        sort_key = self._formats[key.format].sort_key
        version = _ensure_version(
            session,
            package,
            release,
            sort_key,
            description,
            actor=admission.actor,
            now=now,
            status=shelf.FINISHED if is_finished else shelf.UNFINISHED,
        )
        freezing.check_addition(session, version, now, now, self._frozen_after, admission.path)
        unused: list[BlobHandle] = []
        blobs: dict[BlobHandle, Blob] = {}
        for body in bodies.all():
            blobs[body], took = shelf.ensure_blob(session, admission.domain_id, body, now)
            unused += [] if took else [body]
        asset = shelf.add_asset(
            session,
            version,
            release.filename,
            blobs[bodies.file],
            hashes=hashes,
            extra=release.extra,
            metadata_blob=blobs[bodies.metadata] if bodies.metadata is not None else None,
            provenance_blob=blobs[bodies.provenance] if bodies.provenance is not None else None,
            published_at=now,
            published_by=admission.actor,
        )
        if made_by is not None:
            built.keep(session, asset, made_by, now)
        quotas.check(session, admission.repository_id)
        shelf.bump(session, admission.domain_id, *key)
        if version.status != shelf.UNFINISHED:
            announce(session, admission, key, version.version, asset, now=now)
        _audit(session, admission, key, version.version, asset, now, built.details(made_by))
        return Published(release.filename, is_new=True, revision=version.revision), unused

    def check_may_publish(self, session: Session, admission: Admission, key: PackageKey) -> Package | None:
        """The package's row, None before its first version. Raises Denied where its name takes no files from here.

        Asked in the transaction of ``session``: what package and package group say there and then counts.
        """
        package = shelf.find_package(session, admission.repository_id, *key)
        topology = self._topologies.current(session, admission.domain_id)
        decision = decide(origin_facts(topology, admission.repository_id, key, package), Ask.PUBLISH)
        if not decision.allowed:
            raise Denied(decision.text)
        if package is not None:
            shelf.check_open(package, admission.path)
        return package

    def _open_package(
        self, session: Session, admission: Admission, key: PackageKey, release: Release, now: datetime
    ) -> Package:
        """The package's row, if it is one that takes files published here. Raises Denied."""
        known = self.check_may_publish(session, admission, key)
        if known is not None:
            _check_whose(session, admission, key, release, self._formats[key.format].sort_key)
        return shelf.open_package(
            session,
            known,
            admission.repository_id,
            *key,
            display_name=release.display_name,
            origin=shelf.PUBLISHED,
            now=now,
        )

    @staticmethod
    def _tag(session: Session, admission: Admission, key: PackageKey, release: Release, tags: Sequence[str]) -> None:
        if not tags:
            return
        version = shelf.find_version(session, admission.repository_id, key, release.version)
        for tag in tags:
            session.merge(PackageTag(package_id=version.package_id, tag=tag, version=version.version))

    def finish(self, admission: Admission, key: PackageKey, version: str) -> bool:
        """Say that an Unfinished version is whole: listed and announced from now on. False when it was already.

        Raises NotFound, and Conflict while a file of it is not what a digest promised.
        """

        def unit(session: Session) -> bool:
            row = shelf.find_version(session, admission.repository_id, key, version, locked=True)
            return finish(session, admission, key, row, self._clock())

        return shelf.settle(self._db, unit)


def finish(session: Session, admission: Admission, key: PackageKey, row: PackageVersion, now: datetime) -> bool:
    """Finish a version in the caller's transaction; see ``Publisher.finish``."""
    if row.status != shelf.UNFINISHED:
        return False
    broken = promises.settle(session, admission.repository_id, key, row.version, now - PROMISES_HOLD)
    if broken:
        raise Conflict(f"{key.path} {row.version} is not finished: the checksum of {broken[0]} fits no file that came")
    row.status = shelf.FINISHED
    shelf.keep_revision(row)
    for asset in session.scalars(select(Asset).where(Asset.version_id == row.id).order_by(Asset.id)):
        announce(session, admission, key, row.version, asset, now=now)
    shelf.bump(session, admission.domain_id, *key)
    place = f"{admission.path}/{key.format}/{key.path}/{row.version}"
    audit.record(session, now, admission.actor, "version.finish", place)
    return True


def origin_facts(topology: Topology, repository_id: int, key: PackageKey, package: Package | None) -> Facts:
    """What decides whether versions may be put in a repository: its own package row, and the package's group."""
    node = topology.nodes[repository_id]
    controls = Controls(package.publish, package.upstream, package.origin) if package is not None else None
    return Facts(key, (Place(node.id, node.name, controls=controls),), topology.groups.ruling(key))


def _check_whose(
    session: Session, admission: Admission, key: PackageKey, release: Release, sort_key: Callable[[str], Any]
) -> None:
    """Raise Conflict for a version that came from outside: files of ours never go into it."""
    kept = session.scalars(
        select(PackageVersion.version)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(
            Package.repository_id == admission.repository_id,
            Package.format == key.format,
            Package.namespace == key.namespace,
            Package.name == key.name,
            PackageVersion.origin == shelf.UPSTREAM,
        )
    )
    wanted = sort_key(release.version)
    if any(sort_key(version) == wanted for version in kept):
        raise Conflict(
            f"{key.path} {release.display_version} came to {admission.path} from an upstream: publish another version"
        )


def _receive(store: BlobStore, document: bytes | None, bodies: list[BlobHandle]) -> BlobHandle | None:
    """Store a document that goes beside a file, and note it among the bodies to discard on failure."""
    if document is None:
        return None
    received = receive(io.BytesIO(document), store, limit_bytes=len(document)).handle
    bodies.append(received)
    return received


def _discard(store: BlobStore, bodies: Sequence[BlobHandle]) -> None:
    """Remove bodies that no row refers to. One that cannot be removed now is left to the sweep."""
    for body in bodies:
        try:
            store.delete(body.locator)
        except StorageError as error:
            log.warning("an unused body stays until the sweep: %s", error)


def announce(
    session: Session, admission: Admission, key: PackageKey, version: str, asset: Asset, *, now: datetime
) -> None:
    """The event of a file that is visible from now on, in the transaction that makes it so."""
    events.record(
        session,
        events.AssetPublished(
            domain=admission.domain,
            repository=admission.repository,
            format=key.format,
            namespace=key.namespace,
            name=key.name,
            version=version,
            filename=asset.filename,
            sha256=asset.sha256,
            published_by=asset.published_by,
        ),
        now,
    )


def _audit(
    session: Session,
    admission: Admission,
    key: PackageKey,
    version: str,
    asset: Asset,
    now: datetime,
    details: Mapping[str, Any],
) -> None:
    place = f"{admission.path}/{key.format}/{key.path}/{version}/{asset.filename}"
    audit.record(session, now, admission.actor, "asset.publish", place, sha256=asset.sha256, **details)


def _holder(session: Session, package: Package, filename: str, digest: str) -> PackageVersion | None:
    """The version that has this very file already. Raises FileExists or NameUsed for another of that name."""
    existing = shelf.find_asset(session, package.id, filename)
    if existing is not None:
        if existing.sha256 != digest:
            raise FileExists(filename)
        return session.get_one(PackageVersion, existing.version_id)
    retired = shelf.retired_digest(session, package.id, filename)
    if retired is not None and retired != digest:
        raise NameUsed("This filename has already been used, use a different version")
    return None


def _ensure_version(
    session: Session,
    package: Package,
    release: Release,
    sort_key: Callable[[str], Any],
    description: bytes | None,
    *,
    actor: str,
    now: datetime,
    status: str,
) -> PackageVersion:
    """The release's row: also one whose version is spelled otherwise and means the same (``1.0`` and ``1.0.0``)."""
    key = sort_key(release.version)
    spellings = session.scalars(select(PackageVersion.version).where(PackageVersion.package_id == package.id))
    spelled = next((version for version in spellings if sort_key(version) == key), release.version)
    version = shelf.ensure_version(
        session,
        package,
        spelled,
        display_version=release.display_version,
        summary=release.summary,
        metadata_=dict(release.metadata),
        description=description,  # a new row's version is spelled as the release's, for which it was sealed
        description_type=release.description_type,
        origin=shelf.PUBLISHED,
        promoted_from=None,
        yanked_reason=None,
        status=status,
        published_at=now,
        published_by=actor,
    )
    if release.metadata and not version.metadata_ and version.version == release.version:
        # Where one file of several says what a version is, that need not be the first to come.
        version.metadata_, version.summary = dict(release.metadata), release.summary
        version.description, version.description_type = description, release.description_type
    return version


def yank(
    session: Session,
    admission: Admission,
    format_name: str,
    namespace: str,
    name: str,
    version: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Yank a version with a reason (may be empty), or put it back with None (PEP 592). Raises NotFound."""
    key = PackageKey(format_name, namespace, PackageName(name))
    row = shelf.find_version(session, admission.repository_id, key, version)
    if row.yanked_reason == reason:
        return
    row.yanked_reason = reason
    shelf.bump(session, admission.domain_id, *key)
    events.record(
        session,
        events.VersionYanked(
            domain=admission.domain,
            repository=admission.repository,
            format=format_name,
            namespace=namespace,
            name=name,
            version=version,
            reason=reason,
            by=admission.actor,
        ),
        now,
    )
    audit.record(
        session,
        now,
        admission.actor,
        "version.yank" if reason is not None else "version.unyank",
        f"{admission.path}/{format_name}/{key.path}/{version}",
        reason=reason,
    )
