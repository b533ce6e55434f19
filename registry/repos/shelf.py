"""Rows that publishing, keeping and promoting all make: get or create, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from registry.db import Database, table_of
from registry.errors import Denied, NotFound, Unavailable
from registry.models import Asset, Blob, Package, PackageState, PackageVersion, Repository, RetiredFilename
from registry.models import package as words
from registry.models.package import new_revision
from registry.names import PackageKey
from registry.repos import states
from registry.stores import require_key_in_use
from storage.blobs import BlobHandle, Digest, Locator

T = TypeVar("T")

# Where a package or version came from.
PUBLISHED, UPSTREAM, PREPARED = words.PUBLISHED, words.UPSTREAM, words.PREPARED

# What a package's owners say of it. Archived and quarantined ones take no uploads, quarantined ones offer no file.
ACTIVE = "active"
ARCHIVED = "archived"
DEPRECATED = "deprecated"
QUARANTINED = "quarantined"
STATUSES = (ACTIVE, ARCHIVED, DEPRECATED, QUARANTINED)

# What state a version is in, most often; ``states`` has all of them.
FINISHED = states.PUBLISHED
UNFINISHED = states.UNFINISHED

# Made once: each publish and each file that is kept runs most of them.
_PACKAGE = select(Package).where(
    Package.repository_id == bindparam("repository"),
    Package.format == bindparam("format"),
    Package.namespace == bindparam("namespace"),
    Package.name == bindparam("name"),
)
_VERSION = select(PackageVersion).where(
    PackageVersion.package_id == bindparam("package"), PackageVersion.version == bindparam("version")
)
# Whoever changes a version waits for others who do: two changes of one never pass each other by.
_LOCKED = _VERSION.with_for_update().execution_options(populate_existing=True)
_BLOB = select(Blob).where(Blob.domain_id == bindparam("domain"), Blob.sha256 == bindparam("sha256"))
_ASSET = select(Asset).where(Asset.package_id == bindparam("package"), Asset.filename == bindparam("filename"))
_RETIRED = select(RetiredFilename.sha256).where(
    RetiredFilename.package_id == bindparam("package"), RetiredFilename.filename == bindparam("filename")
)
_STATE = table_of(PackageState)
_IS_STATE = (
    _STATE.c.domain_id == bindparam("of_domain"),
    _STATE.c.format == bindparam("of_format"),
    _STATE.c.namespace == bindparam("of_namespace"),
    _STATE.c.name == bindparam("of_name"),
)
_REVISION = select(_STATE.c.revision).where(*_IS_STATE)
_COUNT_UP = update(_STATE).where(*_IS_STATE).values(revision=_STATE.c.revision + 1)
_BEGIN_COUNT = insert(_STATE)


def settle(db: Database, unit: Callable[[Session], T]) -> T:
    """Run ``unit`` in a write transaction; again when another writer made the same row first.

    The database's unique constraints are the arbiter of races, not a lock of ours: the loser looks again and finds
    the winner's row.
    """
    for _ in range(5):
        try:
            return db.retry(unit)
        except IntegrityError as error:
            last = error
    raise Unavailable("too many writers of the same name at once; try again") from last


def find_package(session: Session, repository_id: int, format_name: str, namespace: str, name: str) -> Package | None:
    """The package's row in a repository."""
    return session.scalar(
        _PACKAGE, {"repository": repository_id, "format": format_name, "namespace": namespace, "name": name}
    )


def open_package(
    session: Session,
    known: Package | None,
    repository_id: int,
    format_name: str,
    namespace: str,
    name: str,
    *,
    display_name: str,
    origin: str,
    now: datetime,
) -> Package:
    """``known`` (the package's row, if there is one), or a new row for the first of its name here.

    It is the row that the caller decided about, and is not looked for again: on PostgreSQL each statement sees what was
    committed meanwhile, so that a second look could find a row that nobody asked the origin controls about. Where one
    came in between, the insert fails (run in ``settle``), and the caller decides again.
    """
    package = known
    if package is not None and (package.origin == PREPARED or origin == PUBLISHED):
        # The origin controls stay as they are: somebody put them, or nothing of this origin could have come.
        package.origin = origin
    if package is None:
        package = Package(
            repository_id=repository_id,
            format=format_name,
            namespace=namespace,
            name=name,
            display_name=display_name,
            origin=origin,
            created_at=now,
        )
        session.add(package)
        session.flush()
    return package


def check_open(package: Package, place: str) -> None:
    """Raise Denied when a package takes no further files; ``place`` names its repository."""
    if package.status in (ARCHIVED, QUARANTINED):
        reason = f" ({package.status_reason})" if package.status_reason else ""
        raise Denied(f"{package.display_name} is {package.status} in {place}{reason}, so nothing can be added to it")


def find_version(
    session: Session, repository_id: int, key: PackageKey, version: str, *, locked: bool = False
) -> PackageVersion:
    """A version by its canonical names, ``locked`` for a change. Raises NotFound."""
    package = find_package(session, repository_id, *key)
    row = None
    if package is not None:
        row = session.scalar(_LOCKED if locked else _VERSION, {"package": package.id, "version": version})
    if row is None:
        raise NotFound("version", f"{key.path} {version}")
    return row


def ensure_version(session: Session, package: Package, version: str, **values: Any) -> PackageVersion:
    """The version's row, locked for a change, or made with ``values`` if it is not there."""
    row = session.scalar(_LOCKED, {"package": package.id, "version": version})
    if row is None:
        row = PackageVersion(package_id=package.id, version=version, **values)
        session.add(row)
        session.flush()
    return row


def touch_version(version: PackageVersion) -> None:
    """Say that a version's files or metadata changed."""
    version.revision = new_revision()


def keep_revision(version: PackageVersion) -> None:
    """Keep the revision through the changes of the row that are made in this flush: they change nothing of the version."""
    flag_modified(version, "revision")


def find_blob(session: Session, domain_id: int, sha256: str) -> Blob | None:
    """The domain's one body of that digest."""
    return session.scalar(_BLOB, {"domain": domain_id, "sha256": sha256})


def ensure_blob(session: Session, domain_id: int, handle: BlobHandle, now: datetime) -> tuple[Blob, bool]:
    """The domain's one blob of that digest; True when ``handle`` became it, False when an older body is used.

    Re-use touches the row first, so that the sweep, which deletes only rows untouched for the grace period, stays away.
    """
    blob = find_blob(session, domain_id, handle.digest)
    if blob is not None:
        blob.touched_at = now
        return blob, blob.locator == handle.locator
    require_key_in_use(session, handle)
    blob = Blob(
        domain_id=domain_id,
        sha256=handle.digest,
        size_bytes=handle.size_bytes,
        locator=handle.locator,
        envelope=handle.envelope,
        created_at=now,
        touched_at=now,
    )
    session.add(blob)
    session.flush()
    return blob, True


def find_readable_blob(
    session: Session, domain_id: int, sha256: str, may_read: Callable[[str], bool]
) -> BlobHandle | None:
    """The domain's body of that digest, if a repository (by name) that ``may_read`` has a finished file of it."""
    blob = find_blob(session, domain_id, sha256)
    if blob is None:
        return None
    holders = session.scalars(
        select(Repository.name)
        .join(Package, Package.repository_id == Repository.id)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .join(Asset, Asset.version_id == PackageVersion.id)
        .where(Asset.blob_id == blob.id, PackageVersion.status == FINISHED)
        .distinct()
    )
    if not any(may_read(name) for name in holders):
        return None
    return BlobHandle(Locator(blob.locator), Digest(blob.sha256), blob.size_bytes, blob.envelope)


def find_asset(session: Session, package_id: int, filename: str) -> Asset | None:
    """A package's file by name."""
    return session.scalar(_ASSET, {"package": package_id, "filename": filename})


def add_asset(
    session: Session,
    version: PackageVersion,
    filename: str,
    blob: Blob,
    *,
    hashes: Mapping[str, str],
    extra: Mapping[str, Any],
    metadata_blob: Blob | None,
    published_at: datetime,
    published_by: str,
    provenance_blob: Blob | None = None,
) -> Asset:
    """The commit mark: from this row's commit on, the file is there."""
    asset = Asset(
        package_id=version.package_id,
        version_id=version.id,
        filename=filename,
        blob_id=blob.id,
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
        hashes=dict(hashes),
        extra=dict(extra),
        metadata_blob_id=metadata_blob.id if metadata_blob is not None else None,
        provenance_blob_id=provenance_blob.id if provenance_blob is not None else None,
        published_at=published_at,
        published_by=published_by,
    )
    session.add(asset)
    touch_version(version)
    session.flush()
    return asset


def retired_digest(session: Session, package_id: int, filename: str) -> str | None:
    """The digest of a deleted file of that name, or None when the name was never used."""
    return session.scalar(_RETIRED, {"package": package_id, "filename": filename})


def bump(session: Session, domain_id: int, format_name: str, namespace: str, name: str) -> None:
    """Say that something changed under a name, so that rendered documents of it are made again.

    The name "" stands for all names of a namespace (what a group lists of its members), and that without a namespace
    for the format's list of all names. The rows are always updated in this order, so that two writers cannot wait for
    each other.
    """
    _count_up(session, domain_id, format_name, ((namespace, name), (namespace, ""), ("", "")))


def bump_names(session: Session, domain_id: int, format_name: str, namespace: str) -> None:
    """Say that there is a name more or less, in a namespace and in all, and that nothing changed under any of them."""
    _count_up(session, domain_id, format_name, ((namespace, ""), ("", "")))


def _count_up(session: Session, domain_id: int, format_name: str, keys: Iterable[tuple[str, str]]) -> None:
    connection = session.connection()
    for namespace, name in dict.fromkeys(keys):
        if connection.execute(_COUNT_UP, _state(domain_id, format_name, namespace, name)).rowcount == 0:
            row = {"domain_id": domain_id, "format": format_name, "namespace": namespace, "name": name, "revision": 1}
            connection.execute(_BEGIN_COUNT, row)


def revision(session: Session, domain_id: int, key: PackageKey) -> int:
    """How many changes there were under a name in the domain; 0 for a name that was never heard of."""
    return session.scalar(_REVISION, _state(domain_id, key.format, key.namespace, key.name)) or 0


def _state(domain_id: int, format_name: str, namespace: str, name: str) -> dict[str, object]:
    return {"of_domain": domain_id, "of_format": format_name, "of_namespace": namespace, "of_name": name}
