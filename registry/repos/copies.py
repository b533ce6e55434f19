"""Copying a version to another repository of the domain: rows go, bytes stay where they are. Promotion is such a copy.

What a copy may bring is one rule: nothing that is Unfinished, Archived, disposed of or quarantined; no name to where it
is of another origin; no other bytes under a file name that was ever used; no file that comes too late for its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.errors import Conflict, Denied, FileExists
from registry.models import Asset, Blob, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName
from registry.repos import built, freezing, quotas, shelf, states
from registry.repos.origins import Ask, Controls, Facts, Place, Source, decide
from registry.repos.topology import load_groups


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where, by whom, when, and after what time a version takes no further files."""

    domain: str
    source: Repository
    target: Repository
    actor: str
    now: datetime
    frozen_after: timedelta = states.FROZEN_AFTER


def check_source(package: Package, version: PackageVersion, repository: str) -> None:
    """Raise Conflict or Denied for a version that goes nowhere; ``repository`` is where it is."""
    if not states.may_be_copied(version.status):
        why = ": files of it are still missing" if version.status == states.UNFINISHED else f" in {repository}"
        raise Conflict(f"{package.name} {version.version} is {version.status}{why}")
    if package.status == shelf.QUARANTINED:
        raise Denied(f"{package.name} is quarantined in {repository}: nothing of it goes anywhere")


def bring(
    session: Session, route: Route, package: Package, version: PackageVersion, assets: Sequence[Asset]
) -> tuple[PackageVersion, list[Asset]]:
    """Have these files of a version in the target; gives its row there and those that were not there before.

    Raises Conflict where origin controls keep it out of the target, QuotaExceeded, Denied where the package is closed there
    or the version takes no further files, and FileExists when the target holds, or held, other bytes under a name.
    """
    goal = _target_version(session, route, package, version)
    came = [asset for asset in assets if _copy(session, route, goal, asset)]
    if came:
        if len(came) == _count(session, goal) == _count(session, version):
            goal.revision = version.revision  # the very same set of files and metadata
        quotas.check(session, route.target.id)
        _tell(session, route, package, goal, came)
    return goal, came


def _count(session: Session, version: PackageVersion) -> int:
    return session.scalar(select(func.count()).where(Asset.version_id == version.id)) or 0


def held_assets(session: Session, version: PackageVersion) -> dict[str, Asset]:
    """A version's files by name."""
    rows = session.scalars(select(Asset).where(Asset.version_id == version.id).order_by(Asset.filename))
    return {asset.filename: asset for asset in rows}


def _target_version(session: Session, route: Route, package: Package, version: PackageVersion) -> PackageVersion:
    source, target = route.source, route.target
    known = _check_origin(session, package, version, target)
    goal = shelf.open_package(
        session,
        known,
        target.id,
        package.format,
        package.namespace,
        package.name,
        display_name=package.display_name,
        origin=version.origin,
        now=route.now,
    )
    shelf.check_open(goal, target.name)
    if version.status in states.WITHHELD:
        goal.has_states = True
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
        status=version.status,
        published_at=route.now,
        published_by=route.actor,
    )


def _check_origin(session: Session, package: Package, version: PackageVersion, target: Repository) -> Package | None:
    """The package's row in the target, if any. Raises Conflict where origin controls keep a version of this origin out."""
    key = PackageKey(package.format, package.namespace, PackageName(package.name))
    there = shelf.find_package(session, target.id, *key)
    groups = load_groups(session, target.domain_id)
    controls = Controls(there.publish, there.upstream, there.origin) if there is not None else None
    facts = Facts(key, (Place(target.id, target.name, controls=controls),), groups.ruling(key))
    came = Source.KEPT if version.origin == shelf.UPSTREAM else Source.PUBLISHED
    decision = decide(facts, Ask.COPY, came)
    if not decision.allowed:
        raise Conflict(decision.text)
    return there


def _copy(session: Session, route: Route, goal: PackageVersion, asset: Asset) -> bool:
    there = shelf.find_asset(session, goal.package_id, asset.filename)
    if there is not None:
        if there.sha256 != asset.sha256:
            raise FileExists(asset.filename)
        return False
    retired = shelf.retired_digest(session, goal.package_id, asset.filename)
    if retired is not None and retired != asset.sha256:
        raise FileExists(asset.filename)
    place = f"{route.domain}/{route.target.name}"
    freezing.check_addition(session, goal, asset.published_at, route.now, route.frozen_after, place)
    metadata_blob, provenance_blob = (
        session.get(Blob, blob_id) if blob_id is not None else None
        for blob_id in (asset.metadata_blob_id, asset.provenance_blob_id)
    )
    copy = shelf.add_asset(
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
        published_by=route.actor,
    )
    built.carry(session, asset, copy)
    return True


def _tell(session: Session, route: Route, package: Package, goal: PackageVersion, came: Sequence[Asset]) -> None:
    """The change, its events and its audit entry."""
    key = PackageKey(package.format, package.namespace, PackageName(package.name))
    shelf.bump(session, route.target.domain_id, *key)
    for asset in came:
        event = events.AssetPublished(
            domain=route.domain,
            repository=route.target.name,
            format=key.format,
            namespace=key.namespace,
            name=key.name,
            version=goal.version,
            filename=asset.filename,
            sha256=asset.sha256,
            published_by=route.actor,
            promoted_from=route.source.name,
        )
        events.record(session, event, route.now)
    audit.record(
        session,
        route.now,
        route.actor,
        "version.promote",
        f"{route.domain}/{route.target.name}/{key.format}/{key.path}/{goal.version}",
        source=route.source.name,
        assets={asset.filename: asset.sha256 for asset in came},
    )
