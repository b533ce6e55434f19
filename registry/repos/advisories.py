"""Advisories as rows: brought in by an administrator, and found for a version. Nothing outside is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import NotFound
from registry.format import Format
from registry.models import Advisory, AdvisoryPackage
from registry.names import PackageKey
from registry.repos import osv
from registry.repos.osv import SEVERITIES, UNKNOWN

__all__ = [
    "SEVERITIES",
    "AdvisoryView",
    "Imported",
    "import_documents",
    "of_package",
    "of_version",
    "reaches",
    "remove",
]


@dataclass(frozen=True, slots=True)
class AdvisoryView:
    """An advisory as it concerns a package. ``fixed`` are the versions that mend it. ``severity`` may be unknown."""

    id: str
    summary: str
    severity: str
    aliases: tuple[str, ...]
    url: str
    fixed: tuple[str, ...]
    published_at: datetime | None
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the documents that were sent: new, newer than what was here, or not (``unchanged``).

    ``foreign`` are about no package of a format that this server knows, and were not kept.
    """

    created: int
    updated: int
    unchanged: int
    foreign: int


def import_documents(
    session: Session, formats: Mapping[str, Format], documents: Sequence[Any], *, actor: str, now: datetime
) -> Imported:
    """Keep OSV documents, each unless a copy of it that is as new is here. All of them or, with Invalid, none."""
    read = {each.id: each for each in (osv.read(document, formats) for document in documents)}
    known = {
        row.id: row
        for row in session.scalars(
            select(Advisory).where(Advisory.id.in_(read)).order_by(Advisory.id).with_for_update()
        )
    }
    counts = {"created": 0, "updated": 0, "unchanged": 0, "foreign": 0}
    for name in sorted(read):
        document, row = read[name], known.get(name)
        if row is None and not document.affected:
            counts["foreign"] += 1
        elif row is not None and row.modified_at >= document.modified_at:
            counts["unchanged"] += 1
        else:
            counts["created" if row is None else "updated"] += 1
            _keep(session, row, document, actor, now)
    if counts["created"] or counts["updated"]:
        audit.record(session, now, actor, "advisory.import", "advisory", **counts)
    return Imported(**counts)


def _keep(session: Session, row: Advisory | None, document: osv.Document, actor: str, now: datetime) -> None:
    if row is None:
        row = Advisory(id=document.id)
        session.add(row)
    else:
        session.execute(delete(AdvisoryPackage).where(AdvisoryPackage.advisory_id == row.id))
    row.summary, row.severity, row.aliases = document.summary, document.severity, list(document.aliases)
    row.url, row.published_at, row.modified_at = document.url, document.published_at, document.modified_at
    row.withdrawn_at, row.imported_at, row.imported_by = document.withdrawn_at, now, actor
    session.flush()
    if document.withdrawn_at is None:
        session.add_all(
            AdvisoryPackage(
                advisory_id=row.id,
                format=each.key.format,
                namespace=each.key.namespace,
                name=each.key.name,
                versions=list(each.versions),
                ranges=[[dict(event) for event in events] for events in each.ranges],
                fixed=list(each.fixed),
            )
            for each in document.affected
        )


def of_package(session: Session, key: PackageKey) -> list[tuple[Advisory, AdvisoryPackage]]:
    """The advisories about a package, the worst first."""
    rows = session.execute(
        select(Advisory, AdvisoryPackage)
        .join(AdvisoryPackage, AdvisoryPackage.advisory_id == Advisory.id)
        .where(
            AdvisoryPackage.format == key.format,
            AdvisoryPackage.namespace == key.namespace,
            AdvisoryPackage.name == key.name,
        )
    ).all()
    return sorted(((row[0], row[1]) for row in rows), key=lambda pair: (-rank(pair[0].severity), pair[0].id))


def of_version(session: Session, formats: Mapping[str, Format], key: PackageKey, version: str) -> list[AdvisoryView]:
    """The advisories about a version, the worst first."""
    known = formats.get(key.format)
    if known is None:
        return []
    found: dict[str, AdvisoryView] = {}
    for row, package in of_package(session, key):
        if osv.is_affected(version, package.versions, package.ranges, known.sort_key):
            found.setdefault(row.id, view(row, package))
    return list(found.values())


def view(row: Advisory, package: AdvisoryPackage) -> AdvisoryView:
    """An advisory to be shown."""
    return AdvisoryView(
        row.id, row.summary, row.severity, tuple(row.aliases), row.url, tuple(package.fixed), row.published_at,
        row.modified_at,
    )  # fmt: skip


def count(session: Session) -> int:
    """How many are here, withdrawn ones left out."""
    return session.scalar(select(func.count()).select_from(Advisory).where(Advisory.withdrawn_at.is_(None))) or 0


def remove(session: Session, name: str, *, actor: str, now: datetime) -> None:
    """Forget an advisory. Raises NotFound."""
    row = session.get(Advisory, name)
    if row is None:
        raise NotFound("advisory", name)
    session.execute(delete(AdvisoryPackage).where(AdvisoryPackage.advisory_id == name))
    session.delete(row)
    audit.record(session, now, actor, "advisory.delete", f"advisory/{name}")


def rank(severity: str) -> int:
    """How bad; what nobody has rated counts as the worst, since nobody has said that it is not."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def reaches(severity: str, threshold: str) -> bool:
    """Whether a severity is as bad as a threshold, or unknown."""
    return severity == UNKNOWN or rank(severity) >= rank(threshold)
