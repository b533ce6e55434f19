"""What the rows of a chain say of a package: its files, its tags and its state, by plain columns and few queries.

All of it lies on the path of each file and each index page of an install, so that the statements are made once and
name tables: a statement that is built anew for each request costs five times its own work (measured: 437 µs against 92).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from registry.repos.origins import Ask, Controls, Facts, Serving, places_of, serving
from registry.repos.topology import Connection, Node, Topology
from storage.blobs import BlobHandle, Digest, Locator

MOST_REMEMBERED = 4096


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

    controls: Controls
    package_status: str
    package_status_reason: str
    package_repository_id: int
    has_states: bool
    filename: str | None
    file: OfferedFile | None
    is_published: bool = True


@dataclass(frozen=True, slots=True)
class HeldTag:
    """A tag of the package in a repository of the chain; ``origin`` is the package's there."""

    repository_id: int
    tag: str
    version: str
    origin: str


@dataclass(frozen=True, slots=True)
class HeldState:
    """The state of a version in a repository of the chain; ``origin`` is the version's there."""

    repository_id: int
    version: str
    status: str
    origin: str


@dataclass(frozen=True, slots=True)
class Held:
    """What rows say of a name at one moment."""

    rows: list[Row]
    tags: Sequence[HeldTag]
    revision: int
    states: Sequence[HeldState]


def _files_statement(*, one_file: bool) -> Select[Any]:
    package, version, asset, blob = (table_of(each) for each in (Package, PackageVersion, Asset, Blob))
    on = asset.c.package_id == package.c.id
    if one_file:
        on &= asset.c.filename == bindparam("filename")
    return (
        select(
            package.c.publish,
            package.c.upstream,
            package.c.origin,
            package.c.status.label("package_status"),
            package.c.status_reason,
            package.c.repository_id,
            version.c.origin.label("version_origin"),
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
        select(package.c.repository_id, tag.c.tag, tag.c.version, package.c.origin)
        .select_from(package)
        .join(tag, tag.c.package_id == package.c.id)
        .where(
            package.c.repository_id.in_(bindparam("repositories", expanding=True)),
            package.c.format == bindparam("format"),
            package.c.namespace == bindparam("namespace"),
            package.c.name == bindparam("name"),
        )
    )


def _states_statement() -> Select[Any]:
    package, version = table_of(Package), table_of(PackageVersion)
    return (
        select(package.c.repository_id, version.c.version, version.c.status, version.c.origin)
        .select_from(package)
        .join(version, version.c.package_id == package.c.id)
        .where(
            package.c.repository_id.in_(bindparam("repositories", expanding=True)),
            package.c.format == bindparam("format"),
            package.c.namespace == bindparam("namespace"),
            package.c.name == bindparam("name"),
        )
    )


_ALL_FILES = _files_statement(one_file=False)
_ONE_FILE = _files_statement(one_file=True)
_TAGS = _tags_statement()
_STATES = _states_statement()


def read_held(session: Session, chain: Sequence[Node], key: PackageKey, domain_id: int) -> Held:
    """All that the chain's rows say of a name, and the revision that it is of."""
    rows = read_rows(session, chain, key, None)
    tags = session.execute(_TAGS, _asked(chain, key)).all() if rows else ()
    found = tuple(HeldTag(*row) for row in tags)
    return Held(rows, found, shelf.revision(session, domain_id, key), read_states(session, chain, key, rows))


def read_states(session: Session, chain: Sequence[Node], key: PackageKey, rows: Sequence[Row]) -> Sequence[HeldState]:
    """The state of each version in each repository of the chain. No query where none was ever withheld."""
    if not any(row.has_states for row in rows):
        return ()
    return tuple(HeldState(*row) for row in session.execute(_STATES, _asked(chain, key)))


def states_of(found: Sequence[HeldState], chain: Sequence[Node], counts: Serving) -> dict[str, str]:
    """Version → state, of those that are withheld by the first repository of the chain whose version it is that counts."""
    position = {node.id: index for index, node in enumerate(chain)}
    said: dict[str, str] = {}
    for state in sorted(found, key=lambda each: position[each.repository_id]):
        if state.repository_id in (counts.kept if state.origin == shelf.UPSTREAM else counts.published):
            said.setdefault(state.version, state.status)
    return {version: status for version, status in said.items() if status in states.WITHHELD}


def read_rows(session: Session, chain: Sequence[Node], key: PackageKey, filename: str | None) -> list[Row]:
    """The package's rows in the chain with its files (all, or the one named), in one query."""
    given = {**_asked(chain, key), **({} if filename is None else {"filename": filename})}
    return [_row(*values) for values in session.execute(_ALL_FILES if filename is None else _ONE_FILE, given)]


def _asked(chain: Sequence[Node], key: PackageKey) -> dict[str, Any]:
    ids = [node.id for node in chain]
    return {"repositories": ids, "format": key.format, "namespace": key.namespace, "name": key.name}


def _row(
    publish: str,
    upstream: str,
    origin: str,
    package_status: str,
    status_reason: str,
    repository_id: int,
    version_origin: str | None,
    has_states: bool,
    version: str | None,
    display_version: str | None,
    *values: Any,
) -> Row:
    yanked, status, deprecated, asset_id, filename, hashes, extra, metadata_id, provenance_id, at, *blob = values
    controls = Controls(publish, upstream, origin)
    if filename is None or version is None:
        return Row(controls, package_status, status_reason, repository_id, has_states, None, None)
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
    is_published = version_origin != shelf.UPSTREAM
    return Row(controls, package_status, status_reason, repository_id, has_states, filename, file, is_published)


def facts_of(topology: Topology, chain: Sequence[Node], key: PackageKey, rows: Sequence[Row]) -> Facts:
    """What a decision on the name depends on, out of the rows that ``read_rows`` gave of the same chain."""
    controls = {row.package_repository_id: row.controls for row in rows}
    return facts_from(topology, chain, key, controls)


def facts_from(topology: Topology, chain: Sequence[Node], key: PackageKey, controls: Mapping[int, Controls]) -> Facts:
    """What a decision on the name depends on, by the controls of its rows.

    Remembered with the topology that it is of, under all that it is made of: each file of an install asks for it.
    """
    under = (key, tuple(node.id for node in chain), tuple(controls.items()))
    found = topology.remembered.get(under)
    if found is None:
        places = places_of([(node.id, node.name) for node in chain], topology.upstreams, controls)
        found = Facts(key, places, topology.groups.ruling(key))
        if len(topology.remembered) >= MOST_REMEMBERED:
            topology.remembered.clear()  # names are strangers' to choose
        topology.remembered[under] = found
    return found


def tags_of(tags: Sequence[HeldTag], chain: Sequence[Node], facts: Facts) -> dict[str, str]:
    """The tags that count: of each the first repository that has it, as long as what it points at counts."""
    counts = serving(facts, Ask.TAG)
    position = {node.id: index for index, node in enumerate(chain)}
    found: dict[str, str] = {}
    for tag in sorted(tags, key=lambda each: position[each.repository_id]):
        if tag.repository_id in (counts.kept if tag.origin == shelf.UPSTREAM else counts.published):
            found.setdefault(tag.tag, tag.version)
    return found


def package_status(rows: Sequence[Row], chain: Sequence[Node], counts: Serving) -> tuple[str, str]:
    """What the chain says of the package's state: a quarantine anywhere, else the first word that is not "active"."""
    position = {node.id: index for index, node in enumerate(chain)}
    said = [
        (row.package_status != shelf.QUARANTINED, position[row.package_repository_id], row)
        for row in rows
        if row.package_status != shelf.ACTIVE
        and row.package_repository_id in (counts.kept if row.controls.origin == shelf.UPSTREAM else counts.published)
    ]
    if not said:
        return shelf.ACTIVE, ""
    first = min(said, key=lambda entry: entry[:2])[2]
    return first.package_status, first.package_status_reason


def visible(
    rows: Sequence[Row], chain: Sequence[Node], counts: Serving, sort_key: Callable[[str], Any]
) -> dict[str, OfferedFile]:
    """The files that count, by name: of the first repository that has them.

    A version belongs to whom it is of: where one is published, kept files of the same version are not its.
    """
    position = {node.id: index for index, node in enumerate(chain)}
    is_mixed = any(not row.is_published and row.file is not None for row in rows)
    ours = published_versions(rows, counts, sort_key) if is_mixed else Versions(())
    files: dict[str, OfferedFile] = {}
    for row in sorted(rows, key=lambda row: position[row.package_repository_id]):
        if row.filename is None or row.file is None:
            continue
        if row.is_published:
            if row.package_repository_id in counts.published:
                files.setdefault(row.filename, row.file)
        elif row.package_repository_id in counts.kept and not (ours and ours.have(sort_key(row.file.version))):
            files.setdefault(row.filename, row.file)
    return files


class Versions:
    """A set of versions by their keys in the format's order, in which one version's spellings are equal."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self._keys = sorted(keys)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._keys)

    def have(self, key: Any) -> bool:
        """Whether one of them has this key: keys compare, and need not hash."""
        at = bisect_left(self._keys, key)
        return at < len(self._keys) and bool(self._keys[at] == key)


def published_versions(rows: Sequence[Row], counts: Serving, sort_key: Callable[[str], Any]) -> Versions:
    """The versions that are ours among these rows."""
    versions = {
        row.file.version
        for row in rows
        if row.file is not None and row.is_published and row.package_repository_id in counts.published
    }
    return Versions(map(sort_key, versions))
