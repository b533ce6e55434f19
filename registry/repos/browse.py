"""What is in the repositories, for people and scripts who look around: plain values out of few, bounded queries.

Not the clients' read path: that one serves rendered documents. A version counts once it has an asset, because the asset
row is what marks a publish as done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from registry.errors import Invalid, NotFound
from registry.models import Asset, Domain, ExternalConnection, Package, PackageVersion, Repository, RepositoryUpstream
from registry.names import PackageKey, PackageName
from registry.repos import built, descriptions, shelf, states
from storage.keyring import Keyring

SortKey = Callable[[str], Any]
"""Turns a canonical version into something that sorts as the format says."""

LARGEST_PAGE = 200
# The newest version of a listed package is looked for among so many of its latest publications: a page of packages
# with ten thousand versions each must not read them all.
VERSIONS_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class ConnectionSummary:
    """An external connection; ``url`` None means the ecosystem's own default."""

    format: str
    name: str
    url: str | None


@dataclass(frozen=True, slots=True)
class RepositorySummary:
    """A repository with where it looks further; ``upstreams`` are names, in the order in which they are asked."""

    id: int
    domain: str
    name: str
    description: str
    upstreams: tuple[str, ...]
    connections: tuple[ConnectionSummary, ...]
    package_count: int
    anonymous_read: bool

    @property
    def path(self) -> str:
        """``domain/repository``, as scopes name it."""
        return f"{self.domain}/{self.name}"


@dataclass(frozen=True, slots=True)
class PackageSummary:
    """A package in a list.

    ``latest_version``, ``published_by`` and ``summary`` are of its highest finished version that is not yanked.
    """

    format: str
    namespace: str
    name: str
    display_name: str
    latest_version: str
    version_count: int
    origin: str
    updated_at: datetime
    summary: str
    published_by: str

    @property
    def key(self) -> PackageKey:
        """Which package it is."""
        return PackageKey(self.format, self.namespace, PackageName(self.name))

    @property
    def cursor(self) -> str:
        """The place behind this package in the list: what ``packages(after=…)`` takes."""
        return f"{self.format}:{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A version of a package; ``yanked_reason`` is None while not yanked, ``promoted_from`` a repository's name.

    ``status`` is CodeArtifact's word (``registry.repos.states``); ``deprecated`` a warning, empty while there is none.
    ``revision`` names this set of files and metadata.
    """

    version: str
    display_version: str
    summary: str
    published_at: datetime
    published_by: str
    origin: str
    promoted_from: str | None
    yanked_reason: str | None
    status: str
    deprecated: str
    asset_count: int
    size_bytes: int
    revision: str


@dataclass(frozen=True, slots=True)
class PackageDetail:
    """A package with its versions, newest first.

    ``status`` is ``active``, ``archived``, ``deprecated`` or ``quarantined``, and ``status_reason`` may be empty.
    """

    format: str
    namespace: str
    name: str
    display_name: str
    origin: str
    status: str
    status_reason: str
    versions: tuple[VersionSummary, ...]


@dataclass(frozen=True, slots=True)
class AssetSummary:
    """A file of a version; ``hashes`` holds further digests (hex) by algorithm."""

    filename: str
    size_bytes: int
    sha256: str
    hashes: dict[str, str]
    published_at: datetime
    published_by: str


@dataclass(frozen=True, slots=True)
class VersionDetail:
    """A version with its files. ``held_by`` names all repositories of the domain that hold the same version.

    ``description`` is the long text for people, ``description_type`` its media type; empty where there is none.
    ``built_by`` are the builds that published its files.
    """

    format: str
    namespace: str
    name: str
    display_name: str
    version: str
    display_version: str
    summary: str
    published_at: datetime
    published_by: str
    origin: str
    promoted_from: str | None
    yanked_reason: str | None
    status: str
    deprecated: str
    metadata: dict[str, Any]
    description: str
    description_type: str
    assets: tuple[AssetSummary, ...]
    held_by: tuple[str, ...]
    revision: str
    built_by: tuple[built.BuiltBy, ...] = ()


def repositories(session: Session) -> list[RepositorySummary]:
    """All repositories by domain and name; the caller keeps those that may be seen."""
    return _repositories(session, _REPOSITORY_ROWS.order_by(Domain.name, Repository.name))


def repository(session: Session, repository_id: int) -> RepositorySummary:
    """One repository. Raises NotFound."""
    found = _repositories(session, _REPOSITORY_ROWS.where(Repository.id == repository_id))
    if not found:
        raise NotFound("repository", str(repository_id))
    return found[0]


# A version counts once it has a file. One that somebody has withheld counts without any.
_COUNTS = or_(exists().where(Asset.version_id == PackageVersion.id), PackageVersion.status.in_(states.WITHHELD))
_PACKAGE_COUNTS = or_(
    exists().where(Asset.package_id == Package.id),
    exists().where(PackageVersion.package_id == Package.id, PackageVersion.status.in_(states.WITHHELD)),
)
_PACKAGE_COUNT = (
    select(func.count())
    .select_from(Package)
    .where(Package.repository_id == Repository.id, _PACKAGE_COUNTS)
    .scalar_subquery()
)
_REPOSITORY_ROWS = select(
    Repository.id, Domain.name, Repository.name, Repository.description, _PACKAGE_COUNT, Repository.anonymous_read
).join(Domain, Domain.id == Repository.domain_id)


def _repositories(session: Session, statement: Any) -> list[RepositorySummary]:
    upstreams = _upstream_names(session)
    connections = _connections(session)
    return [
        RepositorySummary(
            id_, domain, name, description, upstreams.get(id_, ()), connections.get(id_, ()), count, anonymous_read
        )
        for id_, domain, name, description, count, anonymous_read in session.execute(statement)
    ]


def _upstream_names(session: Session) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for repository_id, name in session.execute(
        select(RepositoryUpstream.repository_id, Repository.name)
        .join(Repository, Repository.id == RepositoryUpstream.upstream_id)
        .order_by(RepositoryUpstream.repository_id, RepositoryUpstream.position)
    ):
        found[repository_id] = (*found.get(repository_id, ()), name)
    return found


def _connections(session: Session) -> dict[int, tuple[ConnectionSummary, ...]]:
    found: dict[int, tuple[ConnectionSummary, ...]] = {}
    for repository_id, format_name, name, url in session.execute(
        select(
            ExternalConnection.repository_id, ExternalConnection.format, ExternalConnection.name, ExternalConnection.url
        ).order_by(ExternalConnection.position, ExternalConnection.id)
    ):
        found[repository_id] = (*found.get(repository_id, ()), ConnectionSummary(format_name, name, url))
    return found


def packages(
    session: Session,
    repository_id: int,
    *,
    format_name: str | None = None,
    search: str = "",
    after: str | None = None,
    limit: int = 50,
    sort_keys: Mapping[str, SortKey] | None = None,
) -> list[PackageSummary]:
    """A page of a repository's own packages by format, namespace and name: at most ``limit`` (1 to 200).

    ``after`` is the last seen package's ``cursor``; ``search`` a part of the name; ``sort_keys`` gives each format's
    order of versions (without it the version published last counts as latest). Raises Invalid for a bad cursor.
    """
    statement = (
        select(Package.id, Package.format, Package.namespace, Package.name, Package.display_name, Package.origin)
        .where(Package.repository_id == repository_id, _PACKAGE_COUNTS)
        .order_by(Package.format, Package.namespace, Package.name)
        .limit(max(1, min(limit, LARGEST_PAGE)))
    )
    if format_name is not None:
        statement = statement.where(Package.format == format_name)
    if search:
        statement = statement.where(_name_contains(search))
    if after is not None:
        place = tuple(after.split(":", 2))
        if len(place) != 3:
            raise Invalid("the place to go on after is not one this list gave; start again without it")
        statement = statement.where(tuple_(Package.format, Package.namespace, Package.name) > place)
    rows = session.execute(statement).all()
    versions = _recent_versions(session, [row.id for row in rows])
    return [_summary(row, versions[row.id], (sort_keys or {}).get(row.format)) for row in rows if row.id in versions]


def _name_contains(search: str) -> ColumnElement[bool]:
    # autoescape: a search for "%" or "_" means the character; unescaped they would match (and cost) everything.
    wanted = search.lower()
    return or_(
        Package.name.contains(wanted, autoescape=True),
        func.lower(Package.display_name).contains(wanted, autoescape=True),
        Package.namespace.contains(wanted, autoescape=True),
    )


def _recent_versions(session: Session, package_ids: Sequence[int]) -> dict[int, list[Any]]:
    ranked = (
        select(
            PackageVersion.package_id,
            PackageVersion.version,
            PackageVersion.display_version,
            PackageVersion.summary,
            PackageVersion.yanked_reason,
            PackageVersion.status,
            PackageVersion.published_at,
            PackageVersion.published_by,
            func.count().over(partition_by=PackageVersion.package_id).label("version_count"),
            func.row_number()
            .over(
                partition_by=PackageVersion.package_id,
                order_by=(PackageVersion.published_at.desc(), PackageVersion.id.desc()),
            )
            .label("place"),
        )
        .where(PackageVersion.package_id.in_(package_ids), _COUNTS)
        .subquery()
    )
    found: dict[int, list[Any]] = {}
    for row in session.execute(select(ranked).where(ranked.c.place <= VERSIONS_LOOKED_AT).order_by(ranked.c.place)):
        found.setdefault(row.package_id, []).append(row)
    return found


def _summary(package_row: Any, versions: list[Any], sort_key: SortKey | None) -> PackageSummary:
    finished = [row for row in versions if row.status == shelf.FINISHED]
    candidates = [row for row in finished if row.yanked_reason is None] or finished or versions
    latest = max(candidates, key=lambda row: sort_key(row.version)) if sort_key is not None else candidates[0]
    return PackageSummary(
        format=package_row.format,
        namespace=package_row.namespace,
        name=package_row.name,
        display_name=package_row.display_name,
        latest_version=latest.display_version,
        version_count=versions[0].version_count,
        origin=package_row.origin,
        updated_at=versions[0].published_at,
        summary=latest.summary,
        published_by=latest.published_by,
    )


def package(
    session: Session, repository_id: int, format_name: str, namespace: str, name: str, *, sort_key: SortKey
) -> PackageDetail:
    """A package (by canonical name) with all its versions, newest first by ``sort_key``. Raises NotFound."""
    found = session.execute(
        select(Package.id, Package.display_name, Package.origin, Package.status, Package.status_reason).where(
            Package.repository_id == repository_id,
            Package.format == format_name,
            Package.namespace == namespace,
            Package.name == name,
        )
    ).first()
    versions = _version_summaries(session, found.id) if found is not None else []
    if found is None or not versions:
        raise NotFound("package", name)
    versions.sort(key=lambda entry: sort_key(entry.version), reverse=True)
    return PackageDetail(
        format_name,
        namespace,
        name,
        found.display_name,
        found.origin,
        found.status,
        found.status_reason,
        tuple(versions),
    )


# PostgreSQL sums BIGINT into NUMERIC, which would arrive as a Decimal.
_TOTAL_BYTES = cast(func.sum(Asset.size_bytes), BigInteger)


def _version_summaries(session: Session, package_id: int) -> list[VersionSummary]:
    sizes = (
        select(Asset.version_id, func.count().label("asset_count"), _TOTAL_BYTES.label("size_bytes"))
        .where(Asset.package_id == package_id)
        .group_by(Asset.version_id)
        .subquery()
    )
    rows: Any = session.execute(
        select(
            PackageVersion.version,
            PackageVersion.display_version,
            PackageVersion.summary,
            PackageVersion.published_at,
            PackageVersion.published_by,
            PackageVersion.origin,
            PackageVersion.promoted_from,
            PackageVersion.yanked_reason,
            PackageVersion.status,
            PackageVersion.deprecated,
            func.coalesce(sizes.c.asset_count, 0),
            cast(func.coalesce(sizes.c.size_bytes, 0), BigInteger),
            PackageVersion.revision,
        )
        .outerjoin(sizes, sizes.c.version_id == PackageVersion.id)
        .where(PackageVersion.package_id == package_id, _COUNTS)
    )
    return [VersionSummary(*row) for row in rows]


_VERSION_COLUMNS = (
    PackageVersion.id,
    Package.display_name,
    PackageVersion.display_version,
    PackageVersion.summary,
    PackageVersion.published_at,
    PackageVersion.published_by,
    PackageVersion.origin,
    PackageVersion.promoted_from,
    PackageVersion.yanked_reason,
    PackageVersion.status,
    PackageVersion.deprecated,
    PackageVersion.revision,
    PackageVersion.metadata_.label("facts"),
    PackageVersion.description,
    PackageVersion.description_type,
)


def version(
    session: Session,
    repository_id: int,
    format_name: str,
    namespace: str,
    name: str,
    version_text: str,
    *,
    keyring: Callable[[int], Keyring],
) -> VersionDetail:
    """A version (canonical names) with its assets and every repository of the domain that holds it.

    ``keyring(domain_id)`` opens its description. Raises NotFound, KeyUnavailable or Damaged.
    """
    found = session.execute(
        _same_version(format_name, namespace, name, version_text)
        .add_columns(*_VERSION_COLUMNS)
        .where(Repository.id == repository_id)
    ).first()
    assets = _assets(session, found.id) if found is not None else ()
    if found is None:
        raise NotFound("version", f"{name} {version_text}")
    key = PackageKey(format_name, namespace, PackageName(name))
    description, metadata = descriptions.opened(
        keyring(found.domain_id), key, version_text, found.description, found.facts
    )
    return VersionDetail(
        format=format_name,
        namespace=namespace,
        name=name,
        display_name=found.display_name,
        version=version_text,
        display_version=found.display_version,
        summary=found.summary,
        published_at=found.published_at,
        published_by=found.published_by,
        origin=found.origin,
        promoted_from=found.promoted_from,
        yanked_reason=found.yanked_reason,
        status=found.status,
        deprecated=found.deprecated,
        metadata=metadata,
        description=description,
        description_type=found.description_type or str(metadata.get("description_content_type", "")),
        assets=assets,
        held_by=_held_by(session, found.domain_id, (format_name, namespace, name, version_text)),
        revision=found.revision,
        built_by=built.of_version(session, found.id),
    )


def canonical_version(
    session: Session,
    repository_id: int,
    format_name: str,
    namespace: str,
    name: str,
    spelling: str,
    *,
    sort_key: SortKey,
) -> str:
    """The canonical form of a version the repository holds, found by any spelling of it. Raises NotFound.

    Spellings are one version when the format puts them at the same place (``1.0`` and ``1.0.0``, where it says so).
    """
    rows = session.execute(
        select(PackageVersion.version, PackageVersion.display_version)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(
            Package.repository_id == repository_id,
            Package.format == format_name,
            Package.namespace == namespace,
            Package.name == name,
            _COUNTS,
        )
    ).all()
    for matches in (
        [kept for kept, _ in rows if kept == spelling],
        [kept for kept, displayed in rows if displayed == spelling],
        [kept for kept, _ in rows if sort_key(kept) == sort_key(spelling)],
    ):
        if len(matches) == 1:
            return str(matches[0])
    raise NotFound("version", f"{name} {spelling}")


def _same_version(format_name: str, namespace: str, name: str, version_text: str) -> Any:
    return (
        select(Repository.domain_id.label("domain_id"), Repository.name.label("repository"))
        .select_from(PackageVersion)
        .join(Package, Package.id == PackageVersion.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .where(
            Package.format == format_name,
            Package.namespace == namespace,
            Package.name == name,
            PackageVersion.version == version_text,
            _COUNTS,
        )
    )


def _assets(session: Session, version_id: int) -> tuple[AssetSummary, ...]:
    rows = session.execute(
        select(Asset.filename, Asset.size_bytes, Asset.sha256, Asset.hashes, Asset.published_at, Asset.published_by)
        .where(Asset.version_id == version_id)
        .order_by(Asset.filename)
    )
    return tuple(AssetSummary(*row) for row in rows)


def _held_by(session: Session, domain_id: int, coordinate: tuple[str, str, str, str]) -> tuple[str, ...]:
    rows = session.execute(
        _same_version(*coordinate).where(Repository.domain_id == domain_id).order_by(Repository.name)
    )
    return tuple(row.repository for row in rows)
