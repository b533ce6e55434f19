"""What a chain of repositories holds of a format, by namespaces, for listings: finished versions and open packages only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from registry.models import Package, PackageVersion
from registry.repos import shelf


class HeldVersion(NamedTuple):
    """A version that somebody published here, with what its file says of it in one line."""

    namespace: str
    name: str
    version: str
    summary: str


def namespaces(session: Session, repository_ids: Collection[int], format_name: str) -> list[str]:
    """The namespaces in which something is held."""
    held = _held(repository_ids, format_name)
    return list(session.scalars(select(Package.namespace).where(*held).distinct()))


def names(session: Session, repository_ids: Collection[int], format_name: str, namespace: str) -> list[str]:
    """The packages of a namespace of which something is held."""
    held = (*_held(repository_ids, format_name), Package.namespace == namespace)
    return list(session.scalars(select(Package.name).where(*held).distinct()))


def versions_with(
    session: Session, repository_ids: Collection[int], format_name: str, field: str, value: str
) -> Sequence[HeldVersion]:
    """The published versions whose metadata has ``value`` in ``field``."""
    rows = session.execute(
        select(Package.namespace, Package.name, PackageVersion.version, PackageVersion.summary)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .where(
            *_held(repository_ids, format_name),
            Package.origin == shelf.PUBLISHED,
            PackageVersion.status == shelf.FINISHED,
            PackageVersion.metadata_[field].as_string() == value,
        )
    )
    return [HeldVersion(*row) for row in rows]


def _held(repository_ids: Collection[int], format_name: str) -> tuple[ColumnElement[bool], ...]:
    return (
        Package.repository_id.in_(repository_ids),
        Package.format == format_name,
        Package.status != shelf.QUARANTINED,
        exists()
        .where(PackageVersion.package_id == Package.id, PackageVersion.status == shelf.FINISHED)
        .correlate(Package),
    )
