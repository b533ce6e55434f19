"""CopyPackageVersions: a version as it is in one repository, in another one of the domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import FileExists, Invalid, NotFound
from registry.models import Asset, Package, PackageVersion, Repository, RetiredFilename
from registry.names import PackageKey
from registry.repos import browse, copies, shelf, states
from registry.repos.batches import ALREADY_EXISTS, NOT_ALLOWED, SuccessfulVersion, VersionRefused, check_revision
from registry.repos.topology import find_repository, load


@dataclass(frozen=True, slots=True)
class Copying:
    """What is asked for. Repositories are names in ``domain``.

    With ``allow_overwrite`` a version that is otherwise in the target becomes as it is in the source. With
    ``include_from_upstream`` a version counts that the source finds in a repository behind it; what lies outside of the
    domain is fetched before (``from_upstream``).
    """

    domain: str
    source: str
    target: str
    actor: str
    now: datetime
    allow_overwrite: bool = False
    include_from_upstream: bool = False
    frozen_after: timedelta = states.FROZEN_AFTER


def copy_version(
    session: Session,
    copying: Copying,
    key: PackageKey,
    spelling: str,
    revision: str | None,
    sort_key: Callable[[str], Any],
) -> SuccessfulVersion:
    """Copy one version, in one transaction; ``revision`` is what it has to be at, None for any.

    An identical version in the target is success, and nothing changes. Raises VersionRefused, and what
    ``copies.bring`` raises.
    """
    if copying.source == copying.target:
        raise Invalid("a version is copied to another repository, not to its own")
    domain, source = find_repository(session, copying.domain, copying.source)
    _, target = find_repository(session, copying.domain, copying.target)
    holders = [source]
    if copying.include_from_upstream:
        ids = [node.id for node in load(session, domain.id).chain(source.id)]
        found = {row.id: row for row in session.scalars(select(Repository).where(Repository.id.in_(ids)))}
        holders = [found[each] for each in ids]
    holder, package, row = _find(session, holders, key, spelling, sort_key)
    check_revision(row.revision, revision)
    copies.check_source(package, row, holder.name)
    if holder.id == target.id:
        return SuccessfulVersion(row.revision, row.status)  # the source finds it there
    route = copies.Route(domain.name, holder, target, copying.actor, copying.now, copying.frozen_after)
    there = _there(session, target, key, row.version)
    files = copies.held_assets(session, row)
    if there is not None and _is_same(session, row, files, there):
        return SuccessfulVersion(there.revision, there.status)
    if there is not None:
        return _overwrite(session, copying, route, (package, row), files, there)
    goal, _ = copies.bring(session, route, package, row, list(files.values()))
    session.flush()
    return SuccessfulVersion(goal.revision, goal.status)


def _find(
    session: Session,
    holders: Sequence[Repository],
    key: PackageKey,
    spelling: str,
    sort_key: Callable[[str], Any],
) -> tuple[Repository, Package, PackageVersion]:
    """The first of the repositories that has the version; once one has the name as published, upstream ones count no more."""
    found = [(holder, shelf.find_package(session, holder.id, *key)) for holder in holders]
    packages = [(holder, package) for holder, package in found if package is not None]
    if any(package.origin == shelf.PUBLISHED for _, package in packages):
        packages = [(holder, package) for holder, package in packages if package.origin == shelf.PUBLISHED]
    for holder, package in packages:
        try:
            version = browse.canonical_version(session, holder.id, *key, spelling, sort_key=sort_key)
        except NotFound:
            continue
        return holder, package, shelf.find_version(session, holder.id, key, version)
    raise NotFound("version", f"{key.path} {spelling}")


def _there(session: Session, target: Repository, key: PackageKey, version: str) -> PackageVersion | None:
    try:
        return shelf.find_version(session, target.id, key, version, locked=True)
    except NotFound:
        return None


def _is_same(session: Session, row: PackageVersion, files: dict[str, Asset], there: PackageVersion) -> bool:
    held = {name: asset.sha256 for name, asset in copies.held_assets(session, there).items()}
    said = (row.status, row.yanked_reason, row.deprecated)
    return held == {name: asset.sha256 for name, asset in files.items()} and said == (
        there.status,
        there.yanked_reason,
        there.deprecated,
    )


def _overwrite(
    session: Session,
    copying: Copying,
    route: copies.Route,
    of: tuple[Package, PackageVersion],
    files: dict[str, Asset],
    there: PackageVersion,
) -> SuccessfulVersion:
    """Make the target's version as the source's, as far as what is published never changes."""
    package, row = of
    if not copying.allow_overwrite:
        raise VersionRefused(ALREADY_EXISTS, f"{row.version} is {there.status} in {copying.target}, and not the same")
    if there.status == states.DISPOSED:
        raise VersionRefused(NOT_ALLOWED, f"{row.version} was disposed of in {copying.target}: nothing brings it back")
    before = there.status
    try:
        gone = _take_out(session, route, there, set(files))
        there.status = row.status
        _, came = copies.bring(session, route, package, row, list(files.values()))
    except FileExists as error:
        raise VersionRefused(NOT_ALLOWED, str(error)) from error
    there.yanked_reason, there.deprecated = row.yanked_reason, row.deprecated
    there.metadata_, there.summary = dict(row.metadata_), row.summary
    there.description, there.description_type = row.description, row.description_type
    there.promoted_from = route.source.name
    there.revision = row.revision
    shelf.keep_revision(there)
    shelf.bump(session, route.target.domain_id, package.format, package.namespace, package.name)
    path = f"{package.namespace}/{package.name}" if package.namespace else package.name
    place = f"{route.domain}/{route.target.name}/{package.format}/{path}/{there.version}"
    told = {"source": route.source.name, "removed": gone, "added": [asset.filename for asset in came]}
    audit.record(
        session, route.now, route.actor, "version.overwrite", place, previous=before, status=row.status, **told
    )
    session.flush()
    return SuccessfulVersion(there.revision, there.status)


def _take_out(session: Session, route: copies.Route, there: PackageVersion, staying: set[str]) -> list[str]:
    gone = [asset for name, asset in copies.held_assets(session, there).items() if name not in staying]
    for asset in gone:
        session.merge(
            RetiredFilename(
                package_id=there.package_id, filename=asset.filename, sha256=asset.sha256, retired_at=route.now
            )
        )
    session.execute(delete(Asset).where(Asset.id.in_([asset.id for asset in gone])))
    return [asset.filename for asset in gone]
