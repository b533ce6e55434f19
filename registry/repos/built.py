"""What is known of the builds that published files: written with the file, copied with it, gone with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from registry.access import Identity
from registry.errors import Conflict
from registry.models import Asset, BuiltAsset, Domain, Package, PackageVersion, Repository

MOST_FILES = 10_000
"""So many files of one build are promoted at once."""


@dataclass(frozen=True, slots=True)
class BuiltSource:
    """What a build was made from.

    ``uri`` is a package URL or the address of a git repository, "" where there is none to name. ``version`` is what was
    found: a commit, or a package's version. ``digest`` is "sha1:…" of a commit, "sha256:…" of the files of a package or an
    upload.
    """

    type: str
    uri: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Built:
    """Who made a file: the build, and the runner that carried it out. ``attempt`` counts from 1."""

    build_id: str
    project: str
    number: int
    attempt: int
    runner: str
    initiator: str
    source: BuiltSource

    def as_details(self) -> dict[str, Any]:
        """For an audit entry."""
        return {"build": self.build_id, "project": self.project, "attempt": self.attempt, "runner": self.runner,
                "source": self.source.version}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BuiltBy:
    """A build that published files of a version, and which."""

    build_id: str
    project: str
    number: int
    attempt: int
    runner: str
    initiator: str
    source: BuiltSource
    published_at: datetime
    assets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuiltVersion:
    """A version with files that a build published. ``is_copy``: it came to this repository afterwards, by a promotion."""

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    is_copy: bool
    published_at: datetime
    assets: dict[str, str]


Witness = Callable[[Session, Identity | None], Built | None]
"""Asked in the transaction that publishes a file: which build publishes, None for a person. Raises Denied when the
credential is a build's that may publish no more."""


def nobody(_session: Session, _who: Identity | None) -> Built | None:
    """Where there are no builds."""
    return None


def keep(session: Session, asset: Asset, built: Built, now: datetime) -> None:
    """Write down by what a file was made."""
    session.add(
        BuiltAsset(
            asset_id=asset.id,
            build_id=built.build_id,
            project=built.project,
            number=built.number,
            attempt=built.attempt,
            runner=built.runner,
            initiator=built.initiator,
            source=asdict(built.source),
            published_at=now,
        )
    )


def carry(session: Session, asset: Asset, copy: Asset) -> None:
    """A copy of a file was made by what made the file."""
    row = session.get(BuiltAsset, asset.id)
    if row is not None:
        kept = ("build_id", "project", "number", "attempt", "runner", "initiator", "source", "published_at")
        same = {name: getattr(row, name) for name in kept}
        session.add(BuiltAsset(asset_id=copy.id, is_copy=True, **same))


def of_version(session: Session, version_id: int) -> tuple[BuiltBy, ...]:
    """The builds that published a version's files, the first one first; usually one, or none."""
    rows = session.execute(
        select(BuiltAsset, Asset.filename)
        .join(Asset, Asset.id == BuiltAsset.asset_id)
        .where(Asset.version_id == version_id)
        .order_by(BuiltAsset.published_at, Asset.filename)
    ).all()
    files: dict[tuple[str, int], list[str]] = {}
    first: dict[tuple[str, int], BuiltAsset] = {}
    for row, filename in rows:
        files.setdefault((row.build_id, row.attempt), []).append(filename)
        first.setdefault((row.build_id, row.attempt), row)
    return tuple(
        BuiltBy(
            row.build_id,
            row.project,
            row.number,
            row.attempt,
            row.runner,
            row.initiator,
            BuiltSource(**row.source),
            row.published_at,
            tuple(files[which]),
        )
        for which, row in first.items()
    )


def all_by_build(session: Session, build_id: str, repository: str = "") -> list[BuiltVersion]:
    """The versions with all files that a build published: where it published them, or with ``repository`` there.

    Raises Conflict for a build that published more than ``MOST_FILES``.
    """
    place = Repository.name == repository if repository else BuiltAsset.is_copy.is_(False)
    rows = session.execute(_published_by(build_id).where(place).limit(MOST_FILES + 1)).all()
    if len(rows) > MOST_FILES:
        raise Conflict(f"build {build_id} has published more than {MOST_FILES} files")
    return _versions(rows)


def by_build(session: Session, build_id: str, *, limit: int = 1000) -> list[BuiltVersion]:
    """The versions with files that a build published, where they are now; at most ``limit`` files are looked at."""
    return _versions(session.execute(_published_by(build_id).limit(limit)))


def _published_by(build_id: str) -> Select[*tuple[Any, ...]]:
    return (
        select(Domain.name, Repository.name, Package, PackageVersion.version, BuiltAsset, Asset)
        .join(Asset, Asset.id == BuiltAsset.asset_id)
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .join(Package, Package.id == Asset.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(BuiltAsset.build_id == build_id)
        .order_by(BuiltAsset.is_copy, BuiltAsset.published_at, Asset.id)
    )


def _versions(rows: Iterable[Any]) -> list[BuiltVersion]:
    found: dict[tuple[str, ...], BuiltVersion] = {}
    for domain, repository, package, version, built, asset in rows:
        place = (domain, repository, package.format, package.namespace, package.name, version)
        known = found.setdefault(place, BuiltVersion(*place, built.is_copy, built.published_at, {}))
        known.assets[asset.filename] = asset.sha256
    return list(found.values())


def details(built: Built | None) -> Mapping[str, Any]:
    """What an audit entry says of who made a file."""
    return built.as_details() if built is not None else {}
