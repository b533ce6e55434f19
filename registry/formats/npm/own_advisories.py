"""Advisories that an administrator has brought in, in the words of npm's bulk advisory endpoint."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select, tuple_

from registry.errors import Invalid
from registry.formats.npm import names
from registry.http import context
from registry.models import Advisory, AdvisoryPackage
from registry.names import PackageKey
from registry.policy.actions import USUAL
from registry.repos import osv
from registry.services import Services

_AT_ONCE = 400
_READ = USUAL["read"]


def of_question(services: Services, question: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Name → what is known here of the versions that are asked about (name → versions), for names one may look into."""
    asked: dict[PackageKey, tuple[str, Sequence[Any]]] = {}
    for written, versions in question.items():
        try:
            key = names.package_key(written)
        except Invalid:
            continue
        if isinstance(versions, list):
            asked[key] = (written, versions)
    found: dict[str, list[dict[str, Any]]] = {}
    for row, package in _rows(services, asked):
        key = names.package_key(f"{package.namespace}/{package.name}" if package.namespace else package.name)
        written, versions = asked[key]
        is_meant = any(
            isinstance(each, str) and osv.is_affected(each, package.versions, package.ranges, names.sort_key)
            for each in versions[:1000]
        )
        if is_meant and context.admission().describes(key, _READ):
            found.setdefault(written, []).append(_told(row, package))
    return found


def _rows(services: Services, keys: Iterable[PackageKey]) -> Iterator[tuple[Advisory, AdvisoryPackage]]:
    with services.db.read() as session:
        for some in _batches(keys):
            yield from (
                (row[0], row[1])
                for row in session.execute(
                    select(Advisory, AdvisoryPackage)
                    .join(AdvisoryPackage, AdvisoryPackage.advisory_id == Advisory.id)
                    .where(
                        AdvisoryPackage.format == names.FORMAT_NAME,
                        tuple_(AdvisoryPackage.namespace, AdvisoryPackage.name).in_(some),
                    )
                    .order_by(Advisory.id)
                )
            )


def _batches(keys: Iterable[PackageKey]) -> Iterator[list[tuple[str, str]]]:
    """Namespaces and names, so many as one statement takes."""
    waiting = [(key.namespace, str(key.name)) for key in keys]
    for start in range(0, len(waiting), _AT_ONCE):
        yield waiting[start : start + _AT_ONCE]


def _told(row: Advisory, package: AdvisoryPackage) -> dict[str, Any]:
    return {
        "id": zlib.crc32(row.id.encode()),  # clients keep a number, and show the address
        "url": row.url or f"urn:advisory:{row.id}",
        "title": f"{row.id}: {row.summary}" if row.summary else row.id,
        "severity": row.severity if row.severity != osv.UNKNOWN else "high",
        "vulnerable_versions": vulnerable_range(package.versions, package.ranges),
    }


def vulnerable_range(versions: Sequence[str], ranges: Sequence[Sequence[Mapping[str, str]]]) -> str:
    """OSV's versions and events as a range that npm reads: ``>=1.0.0 <1.5.0 || =2.0.0``."""
    parts = [f"={version}" for version in versions]
    for events in ranges:
        open_at: str | None = None
        for kind, written in osv.ordered(events, names.sort_key):
            if kind == "introduced":
                open_at = open_at or (">=0.0.0-0" if written == "0" else f">={written}")
            elif open_at is not None:
                parts.append(f"{open_at} {'<' if kind == 'fixed' else '<='}{written}")
                open_at = None
        if open_at is not None:
            parts.append(open_at)
    return " || ".join(parts)
