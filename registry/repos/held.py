"""What the rows of a chain say of a package: its files, its tags and its state, by plain columns and few queries.

All of it lies on the path of each file and each index page of an install, so that the statements are made once and
name tables: a statement that is built anew for each request costs five times its own work (measured: 437 µs against 92).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from registry.db import table_of
from registry.format import FileLink, Location
from registry.models import Asset, Blob, Package, PackageTag, PackageVersion
from registry.names import PackageKey
from registry.repos import shelf, states
from registry.repos.topology import Connection, Node
from storage.blobs import BlobHandle, Digest, Locator


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file whose bytes are in the store."""

    asset_id: int
    repository_id: int
    handle: BlobHandle
    metadata_blob_id: int | None
    published_at: datetime
    provenance_blob_id: int | None = None


@dataclass(slots=True)  # not frozen: a page has thousands, and each would take three times as long to make
class OfferedFile:
    """A file that a repository offers: kept, or to be fetched through ``connection`` by ``link``, or both.

    ``display_version`` is as its author wrote it, ``status`` that of its version, ``deprecated`` empty while it is not.
    A file with a ``location`` is not listed by any index and may not be there at all: then the ``others``, of further
    connections, come in turn.
    """

    filename: str
    version: str
    hashes: Mapping[str, str]
    size_bytes: int | None
    upload_time: datetime | None
    extra: Mapping[str, Any]
    yanked_reason: str | None
    kept: KeptFile | None
    link: FileLink | None
    connection: Connection | None
    display_version: str = ""
    status: str = shelf.FINISHED
    deprecated: str = ""
    location: Location | None = None
    others: tuple[OfferedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A package of a repository of the chain with one of its files, or with None where it has none (of that name)."""

    origin: str
    package_status: str
    package_status_reason: str
    package_repository_id: int
    has_states: bool
    filename: str | None
    file: OfferedFile | None


@dataclass(frozen=True, slots=True)
class Held:
    """What rows say of a name at one moment."""

    rows: list[Row]
    tags: Mapping[str, str]
    revision: int
    states: Mapping[str, str]


def _files_statement(*, one_file: bool) -> Select[Any]:
    package, version, asset, blob = (table_of(each) for each in (Package, PackageVersion, Asset, Blob))
    on = asset.c.package_id == package.c.id
    if one_file:
        on &= asset.c.filename == bindparam("filename")
    return (
        select(
            package.c.origin,
            package.c.status.label("package_status"),
            package.c.status_reason,
            package.c.repository_id,
            package.c.has_states,
            version.c.version,
            version.c.display_version,
            version.c.yanked_reason,
            version.c.status,
            version.c.deprecated,
            asset.c.id,
            asset.c.filename,
            asset.c.hashes,
            asset.c.extra,
            asset.c.metadata_blob_id,
            asset.c.provenance_blob_id,
            asset.c.published_at,
            blob.c.locator,
            blob.c.sha256,
            blob.c.size_bytes,
            blob.c.envelope,
        )
        .select_from(package)
        .outerjoin(asset, on)
        .outerjoin(version, version.c.id == asset.c.version_id)
        .outerjoin(blob, blob.c.id == asset.c.blob_id)
        .where(
            package.c.repository_id.in_(bindparam("repositories", expanding=True)),
            package.c.format == bindparam("format"),
            package.c.namespace == bindparam("namespace"),
            package.c.name == bindparam("name"),
        )
    )


def _tags_statement() -> Select[Any]:
    package, tag = table_of(Package), table_of(PackageTag)
    return (
        select(package.c.repository_id, tag.c.tag, tag.c.version)
        .select_from(package)
        .join(tag, tag.c.package_id == package.c.id)
        .where(
            package.c.repository_id.in_(bindparam("repositories", expanding=True)),
            package.c.format == bindparam("format"),
            package.c.namespace == bindparam("namespace"),
            package.c.name == bindparam("name"),
            package.c.origin == bindparam("origin"),
        )
    )


def _states_statement() -> Select[Any]:
    package, version = table_of(Package), table_of(PackageVersion)
    return (
        select(package.c.repository_id, version.c.version, version.c.status)
        .select_from(package)
        .join(version, version.c.package_id == package.c.id)
        .where(
            package.c.repository_id.in_(bindparam("repositories", expanding=True)),
            package.c.format == bindparam("format"),
            package.c.namespace == bindparam("namespace"),
            package.c.name == bindparam("name"),
            package.c.origin == bindparam("origin"),
        )
    )


_ALL_FILES = _files_statement(one_file=False)
_ONE_FILE = _files_statement(one_file=True)
_TAGS = _tags_statement()
_STATES = _states_statement()


def read_held(session: Session, chain: Sequence[Node], key: PackageKey, domain_id: int) -> Held:
    """All that the chain's rows say of a name, and the revision that it is of."""
    rows = read_rows(session, chain, key, None)
    tags = _read_tags(session, chain, key, counting(rows)) if rows else {}
    return Held(rows, tags, shelf.revision(session, domain_id, key), read_states(session, chain, key, rows))


def read_states(session: Session, chain: Sequence[Node], key: PackageKey, rows: Sequence[Row]) -> dict[str, str]:
    """Version → state, of those that the first repository to have them withholds. No query where none ever was."""
    if not any(row.has_states for row in rows):
        return {}
    position = {node.id: index for index, node in enumerate(chain)}
    found = session.execute(_STATES, {**_asked(chain, key), "origin": counting(rows)}).all()
    said: dict[str, str] = {}
    for _, version, status in sorted(found, key=lambda row: position[row[0]]):
        said.setdefault(version, status)
    return {version: status for version, status in said.items() if status in states.WITHHELD}


def read_rows(session: Session, chain: Sequence[Node], key: PackageKey, filename: str | None) -> list[Row]:
    """The package's rows in the chain with its files (all, or the one named), in one query."""
    given = {**_asked(chain, key), **({} if filename is None else {"filename": filename})}
    return [_row(*values) for values in session.execute(_ALL_FILES if filename is None else _ONE_FILE, given)]


def _asked(chain: Sequence[Node], key: PackageKey) -> dict[str, Any]:
    ids = [node.id for node in chain]
    return {"repositories": ids, "format": key.format, "namespace": key.namespace, "name": key.name}


def _row(
    origin: str,
    package_status: str,
    status_reason: str,
    repository_id: int,
    has_states: bool,
    version: str | None,
    display_version: str | None,
    *values: Any,
) -> Row:
    yanked, status, deprecated, asset_id, filename, hashes, extra, metadata_id, provenance_id, at, *blob = values
    if filename is None or version is None:
        return Row(origin, package_status, status_reason, repository_id, has_states, None, None)
    locator, sha256, size_bytes, envelope = blob
    handle = BlobHandle(Locator(locator), Digest(sha256), size_bytes, envelope)
    file = OfferedFile(
        filename,
        version,
        {**hashes, "sha256": sha256},
        size_bytes,
        at,
        extra,
        yanked,
        KeptFile(asset_id, repository_id, handle, metadata_id, at, provenance_id),
        None,
        None,
        display_version or version,
        status,
        deprecated,
    )
    return Row(origin, package_status, status_reason, repository_id, has_states, filename, file)


def _read_tags(session: Session, chain: Sequence[Node], key: PackageKey, origin: str) -> dict[str, str]:
    position = {node.id: index for index, node in enumerate(chain)}
    found = session.execute(_TAGS, {**_asked(chain, key), "origin": origin}).all()
    tags: dict[str, str] = {}
    for _, tag, version in sorted(found, key=lambda row: position[row[0]]):
        tags.setdefault(tag, version)
    return tags


def package_status(rows: Sequence[Row], chain: Sequence[Node]) -> tuple[str, str]:
    """What the chain says of the package's state: a quarantine anywhere, else the first word that is not "active"."""
    position = {node.id: index for index, node in enumerate(chain)}
    origin = counting(rows)
    said = [
        (row.package_status != shelf.QUARANTINED, position[row.package_repository_id], row)
        for row in rows
        if row.origin == origin and row.package_status != shelf.ACTIVE
    ]
    if not said:
        return shelf.ACTIVE, ""
    first = min(said, key=lambda entry: entry[:2])[2]
    return first.package_status, first.package_status_reason


def is_published(rows: Sequence[Row]) -> bool:
    """Whether the chain holds the name as published."""
    return any(row.origin == shelf.PUBLISHED for row in rows)


def counting(rows: Sequence[Row]) -> str:
    """Which origin counts: once anything is published, what came from outside does not."""
    return shelf.PUBLISHED if is_published(rows) else shelf.UPSTREAM


def visible(rows: Sequence[Row], chain: Sequence[Node]) -> dict[str, OfferedFile]:
    """The files that count, by name: of the first repository that has them, published ones hiding upstream ones."""
    origin = counting(rows)
    position = {node.id: index for index, node in enumerate(chain)}
    files: dict[str, OfferedFile] = {}
    for row in sorted(rows, key=lambda row: position[row.package_repository_id]):
        if row.origin == origin and row.filename is not None and row.file is not None:
            files.setdefault(row.filename, row.file)
    return files
