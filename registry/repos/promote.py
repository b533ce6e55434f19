"""Promotion: a version's rows are copied to another repository of the domain; its bytes are not touched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.errors import Conflict, Denied, FileExists, Invalid, NotFound
from registry.models import Asset, Blob, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName
from registry.repos import quotas, shelf
from registry.repos.origins import Ask, Controls, Facts, Place, Source, decide
from registry.repos.topology import find_repository, load_groups


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
) -> None:
    """Copy ``assets`` (file name → SHA-256) of a version from repository ``source`` to ``target``, in one transaction.

    Only files whose digest is the one named are copied: what was approved is what goes out. Files the target holds
    with the same digest are left alone, so that repeating a promotion is harmless.

    Raises NotFound when the source lacks the version or a file, Conflict when a file has another digest in the source,
    or origin controls keep it out of the target, Denied when the package is quarantined, or closed in the target,
    and FileExists when the target holds other bytes under a name.
    """
    if source == target:
        raise Invalid("a version is promoted to another repository, not to its own")
    source_domain, source_row = find_repository(session, domain, source)
    _, target_row = find_repository(session, domain, target)
    package, row = _source_version(session, source_row, format, namespace, name, version)
    chosen = _chosen_assets(session, package, row, assets)
    goal = _target_version(session, package, row, source_row, target_row, actor, now)
    promoted = [asset for asset in chosen if _copy(session, goal, asset, actor)]
    if not promoted:
        return
    shelf.bump(session, source_domain.id, format, namespace, name)
    place = {"domain": domain, "repository": target, "format": format, "namespace": namespace, "name": name}
    for asset in promoted:
        event = events.AssetPublished(
            **place,
            version=version,
            filename=asset.filename,
            sha256=asset.sha256,
            published_by=actor,
            promoted_from=source,
        )
        events.record(session, event, now)
    quotas.check(session, target_row.id)
    audit.record(
        session,
        now,
        actor,
        "version.promote",
        f"{domain}/{target}/{format}/{PackageKey(format, namespace, PackageName(name)).path}/{version}",
        source=source,
        assets={asset.filename: asset.sha256 for asset in promoted},
    )


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
    if row.status == shelf.UNFINISHED:
        raise Conflict(f"{name} {version} is Unfinished: files of it are still missing")
    if package.status == shelf.QUARANTINED:
        raise Denied(f"{name} is quarantined in {repository.name}: nothing of it goes anywhere")
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


def _target_version(
    session: Session,
    package: Package,
    version: PackageVersion,
    source: Repository,
    target: Repository,
    actor: str,
    now: datetime,
) -> PackageVersion:
    _check_origin(session, package, version, target)
    goal = shelf.ensure_package(
        session,
        target.id,
        package.format,
        package.namespace,
        package.name,
        display_name=package.display_name,
        origin=version.origin,
        now=now,
    )
    shelf.check_open(goal, target.name)
    return shelf.ensure_version(
        session,
        goal,
        version.version,
        display_version=version.display_version,
        summary=version.summary,
        metadata_=version.metadata_,
        description=version.description,  # sealed for the domain, not for the repository
        description_type=version.description_type,
        origin=version.origin,
        promoted_from=source.name,
        yanked_reason=version.yanked_reason,
        deprecated=version.deprecated,
        published_at=now,
        published_by=actor,
    )


def _check_origin(session: Session, package: Package, version: PackageVersion, target: Repository) -> None:
    """Raise Conflict where origin controls keep a version of this origin out of the target."""
    key = PackageKey(package.format, package.namespace, PackageName(package.name))
    there = shelf.find_package(session, target.id, *key)
    groups = load_groups(session, target.domain_id)
    controls = Controls(there.publish, there.upstream, there.origin) if there is not None else None
    facts = Facts(key, (Place(target.id, target.name, controls=controls),), groups.ruling(key))
    came = Source.KEPT if version.origin == shelf.UPSTREAM else Source.PUBLISHED
    decision = decide(facts, Ask.COPY, came)
    if not decision.allowed:
        raise Conflict(decision.text)


def _copy(session: Session, goal: PackageVersion, asset: Asset, actor: str) -> bool:
    there = shelf.find_asset(session, goal.package_id, asset.filename)
    if there is not None:
        if there.sha256 != asset.sha256:
            raise FileExists(asset.filename)
        return False
    retired = shelf.retired_digest(session, goal.package_id, asset.filename)
    if retired is not None and retired != asset.sha256:
        raise FileExists(asset.filename)
    metadata_blob, provenance_blob = (
        session.get(Blob, blob_id) if blob_id is not None else None
        for blob_id in (asset.metadata_blob_id, asset.provenance_blob_id)
    )
    shelf.add_asset(
        session,
        goal,
        asset.filename,
        session.get_one(Blob, asset.blob_id),
        hashes=asset.hashes,
        extra=asset.extra,
        metadata_blob=metadata_blob,
        provenance_blob=provenance_blob,
        # The file's age counts from its first publishing: "younger than" rules of clients look at it.
        published_at=asset.published_at,
        published_by=actor,
    )
    return True
