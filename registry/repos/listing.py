"""Versions of a package in pages, in CodeArtifact's words: what scripts ask that look for versions in some state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import Invalid, NotFound
from registry.models import Package, PackageVersion, Repository
from registry.names import PackageKey
from registry.repos import shelf, states

PUBLISHED_TIME = "PUBLISHED_TIME"
INTERNAL, EXTERNAL = "INTERNAL", "EXTERNAL"
ORIGIN_TYPES = (INTERNAL, EXTERNAL, "UNKNOWN")


@dataclass(frozen=True, slots=True)
class DomainEntryPoint:
    """Into which repository a version was published, or was copied from; null for one that came from outside."""

    repository_name: str | None


@dataclass(frozen=True, slots=True)
class VersionOrigin:
    """``origin_type`` is INTERNAL (published here) or EXTERNAL (found upstream)."""

    domain_entry_point: DomainEntryPoint
    origin_type: str


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version in a list."""

    version: str
    revision: str
    status: str
    published_time: datetime
    origin: VersionOrigin


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Some versions of a package; ``next_token`` asks for the following ones, null at the end."""

    format: str
    namespace: str
    package: str
    default_display_version: str | None
    versions: tuple[ListedVersion, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which versions: of a state, of an origin, in which order (None: release order, newest first), from where on."""

    status: str | None = None
    origin_type: str | None = None
    sort_by: str | None = None
    after: str | None = None
    most: int = 100


def versions(
    session: Session, repository: Repository, key: PackageKey, wanted: Wanted, sort_key: Callable[[str], Any]
) -> VersionPage:
    """A page of a package's versions in one repository. Raises NotFound, or Invalid for a filter that is none."""
    _check(wanted)
    package = shelf.find_package(session, repository.id, *key)
    rows = _rows(session, package) if package is not None else []
    if not rows:
        raise NotFound("package", key.path)
    chosen = [
        row
        for row in rows
        if wanted.status in (None, row.status) and wanted.origin_type in (None, _origin_type(row.origin))
    ]
    place = _by_time if wanted.sort_by == PUBLISHED_TIME else _by_release(sort_key)
    chosen.sort(key=place, reverse=True)
    if wanted.after is not None:
        last = _last_seen(rows, wanted.after)
        # Those that came meanwhile and sort in front are not seen, and none is seen twice.
        chosen = [row for row in chosen if place(row) < place(last)]
    shown = chosen[: wanted.most]
    return VersionPage(
        *key,
        _default(rows, sort_key),
        tuple(
            ListedVersion(
                row.version,
                row.revision,
                row.status,
                row.published_at,
                _origin(repository, row),
            )
            for row in shown
        ),
        shown[-1].version if len(chosen) > len(shown) else None,
    )


def _check(wanted: Wanted) -> None:
    for word, known, what in (
        (wanted.status, states.ALL, "status"),
        (wanted.origin_type, ORIGIN_TYPES, "originType"),
        (wanted.sort_by, (PUBLISHED_TIME,), "sortBy"),
    ):
        if word is not None and word not in known:
            raise Invalid(f"{what} is {' or '.join(known)}, not {word[:40]!a}")


def _rows(session: Session, package: Package) -> list[Any]:
    columns = (
        PackageVersion.version,
        PackageVersion.revision,
        PackageVersion.status,
        PackageVersion.published_at,
        PackageVersion.origin,
        PackageVersion.yanked_reason,
        PackageVersion.promoted_from,
    )
    return list(session.execute(select(*columns).where(PackageVersion.package_id == package.id)).all())


def _last_seen(rows: Sequence[Any], after: str) -> Any:
    found = next((row for row in rows if row.version == after), None)
    if found is None:
        raise Invalid("nextToken is not one that this list gave, or its version is gone; start again without it")
    return found


def _by_time(row: Any) -> Any:
    return row.published_at, row.version


def _by_release(sort_key: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda row: (sort_key(row.version), row.version)


def _default(rows: Sequence[Any], sort_key: Callable[[str], Any]) -> str | None:
    listed = [row for row in rows if states.is_listed(row.status) and row.yanked_reason is None]
    return max((row.version for row in listed), key=sort_key, default=None)


def _origin_type(origin: str) -> str:
    return INTERNAL if origin == shelf.PUBLISHED else EXTERNAL


def _origin(repository: Repository, row: Any) -> VersionOrigin:
    """Where a version came into the domain; of one that was copied, where the copy came from."""
    is_ours = row.origin == shelf.PUBLISHED
    came_into = row.promoted_from or repository.name
    return VersionOrigin(DomainEntryPoint(came_into if is_ours else None), _origin_type(row.origin))
