"""Promotion: a version's rows are copied to another repository of the domain; its bytes are not touched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import Conflict, Invalid, NotFound
from registry.models import Asset, Package, PackageVersion, Repository
from registry.repos import copies, shelf, states
from registry.repos.topology import find_repository


def promote(
    session: Session,
    *,
    domain: str,
    format: str,  # noqa: A002  (the design's word)
    namespace: str,
    name: str,
    version: str,
    assets: Mapping[str, str],
    source: str,
    target: str,
    actor: str,
    now: datetime,
    release_frozen_after: timedelta = states.FROZEN_AFTER,
) -> None:
    """Copy ``assets`` (file name → SHA-256) of a version from repository ``source`` to ``target``, in one transaction.

    Only files whose digest is the one named are copied: what was approved is what goes out. Files the target holds
    with the same digest are left alone, so that repeating a promotion is harmless.

    Raises NotFound when the source lacks the version or a file, Conflict when a file has another digest in the source,
    or the version is not one that may be copied, or origin controls keep it out of the target, Denied when the package
    is quarantined, or closed in the target, or the version there takes no further files, and FileExists when the target
    holds other bytes under a name.
    """
    if source == target:
        raise Invalid("a version is promoted to another repository, not to its own")
    source_domain, source_row = find_repository(session, domain, source)
    _, target_row = find_repository(session, domain, target)
    package, row = _source_version(session, source_row, format, namespace, name, version)
    chosen = _chosen_assets(session, package, row, assets)
    route = copies.Route(source_domain.name, source_row, target_row, actor, now, release_frozen_after)
    copies.bring(session, route, package, row, chosen)


def version_assets(
    session: Session, repository_id: int, format_name: str, namespace: str, name: str, version: str
) -> dict[str, str]:
    """The files (name → SHA-256) of a version as they are now. Raises NotFound."""
    rows = session.execute(
        select(Asset.filename, Asset.sha256)
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .join(Package, Package.id == PackageVersion.package_id)
        .where(
            Package.repository_id == repository_id,
            Package.format == format_name,
            Package.namespace == namespace,
            Package.name == name,
            PackageVersion.version == version,
        )
        .order_by(Asset.filename)
    ).all()
    if not rows:
        raise NotFound("version", f"{name} {version}")
    return {filename: sha256 for filename, sha256 in rows}  # noqa: C416  (rows are not tuples to the type checker)


def _source_version(
    session: Session, repository: Repository, format_name: str, namespace: str, name: str, version: str
) -> tuple[Package, PackageVersion]:
    package = shelf.find_package(session, repository.id, format_name, namespace, name)
    row = None
    if package is not None:
        row = session.scalar(
            select(PackageVersion).where(PackageVersion.package_id == package.id, PackageVersion.version == version)
        )
    if package is None or row is None:
        raise NotFound("version", f"{name} {version} in {repository.name}")
    copies.check_source(package, row, repository.name)
    return package, row


def _chosen_assets(
    session: Session, package: Package, version: PackageVersion, wanted: Mapping[str, str]
) -> list[Asset]:
    held = {asset.filename: asset for asset in session.scalars(select(Asset).where(Asset.version_id == version.id))}
    for filename, sha256 in wanted.items():
        asset = held.get(filename)
        if asset is None:
            raise NotFound("file", f"{filename} of {package.name} {version.version}")
        if asset.sha256 != sha256:
            raise Conflict(f"{filename} has digest {asset.sha256}, and {sha256} was to be promoted")
    return [held[filename] for filename in sorted(wanted)]
