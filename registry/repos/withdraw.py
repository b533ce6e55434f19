"""Changing what is published already: taking versions out for good, warning of them, moving tags, closing packages.

Bytes never change.

What is taken out leaves the names of its files behind (``RetiredFilename``): they never come back with other bytes. The
package's row stays as well, so that a name of ours is not open to the outside once its last version is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import audit, events
from registry.access import Action
from registry.errors import Denied, Invalid, NotFound
from registry.models import Asset, Package, PackageTag, PackageVersion, RetiredFilename
from registry.names import PackageKey
from registry.repos import freezing, shelf, states
from registry.repos.admission import Admission


def delete_version(session: Session, admission: Admission, key: PackageKey, version: str, now: datetime) -> None:
    """Take a version with its files and tags out of a repository. Raises NotFound."""
    row = shelf.find_version(session, admission.repository_id, key, version, locked=True)
    check_not_quarantined(session, admission, row)
    removed = retire_files(session, row, now)
    session.delete(row)
    shelf.bump(session, admission.domain_id, *key)
    events.record(
        session,
        events.VersionDeleted(
            domain=admission.domain,
            repository=admission.repository,
            format=key.format,
            namespace=key.namespace,
            name=key.name,
            version=version,
            by=admission.actor,
        ),
        now,
    )
    audit.record(session, now, admission.actor, "version.delete", _place(admission, key, version), assets=removed)


def check_not_quarantined(session: Session, admission: Admission, row: PackageVersion) -> None:
    """Raise Denied for a version of a quarantined package: it stays as it is, for those who look into it."""
    package = session.get_one(Package, row.package_id)
    if package.status == shelf.QUARANTINED:
        raise Denied(f"{package.display_name} is quarantined in {admission.path}: nothing of it is changed meanwhile")


def retire_files(session: Session, row: PackageVersion, now: datetime) -> dict[str, str]:
    """Take out all files and tags of a version; gives the files (name → SHA-256), whose names are used up now."""
    assets = session.scalars(select(Asset).where(Asset.version_id == row.id)).all()
    for asset in assets:
        session.merge(
            RetiredFilename(package_id=row.package_id, filename=asset.filename, sha256=asset.sha256, retired_at=now)
        )
    session.execute(delete(Asset).where(Asset.version_id == row.id))
    session.execute(
        delete(PackageTag).where(PackageTag.package_id == row.package_id, PackageTag.version == row.version)
    )
    return {asset.filename: asset.sha256 for asset in assets}


def deprecate(
    session: Session, admission: Admission, key: PackageKey, version: str, warning: str, now: datetime
) -> bool:
    """Warn who installs a version (with an empty ``warning``: no more). False when nothing changed. Raises NotFound."""
    row = shelf.find_version(session, admission.repository_id, key, version)
    if row.deprecated == warning:
        return False
    row.deprecated = warning
    shelf.bump(session, admission.domain_id, *key)
    audit.record(session, now, admission.actor, "version.deprecate", _place(admission, key, version), warning=warning)
    return True


def set_status(
    session: Session, admission: Admission, key: PackageKey, status: str, reason: str, now: datetime
) -> bool:
    """Say what state a package is in, here and for those who find it through here. False when nothing changed.

    ``status`` is one of ``shelf.STATUSES``; ``reason`` is for people and may be empty. Raises Invalid, NotFound, or
    Denied for anybody but an administrator who would lift a quarantine.
    """
    if status not in shelf.STATUSES:
        raise Invalid(f"a package is {', '.join(shelf.STATUSES[:-1])} or {shelf.STATUSES[-1]}, not {status[:40]!a}")
    package = shelf.find_package(session, admission.repository_id, *key)
    if package is None:
        raise NotFound("package", key.path)
    if (package.status, package.status_reason) == (status, reason):
        return False
    is_lifted = package.status == shelf.QUARANTINED and status != shelf.QUARANTINED
    if is_lifted and (admission.identity is None or not admission.identity.may(Action.ADMIN)):
        raise Denied(f"{package.display_name} is quarantined in {admission.path}: only an administrator lifts that")
    package.status, package.status_reason = status, reason
    shelf.bump(session, admission.domain_id, *key)
    place = f"{admission.path}/{key.format}/{key.path}"
    audit.record(session, now, admission.actor, "package.status", place, status=status, reason=reason)
    return True


def tags(session: Session, repository_id: int, key: PackageKey) -> Mapping[str, str]:
    """Tag → version of a package in one repository."""
    package = shelf.find_package(session, repository_id, *key)
    if package is None:
        return {}
    rows = session.scalars(select(PackageTag).where(PackageTag.package_id == package.id))
    return {row.tag: row.version for row in rows}


def set_tag(
    session: Session,
    admission: Admission,
    key: PackageKey,
    tag: str,
    version: str | None,
    now: datetime,
    *,
    frozen_after: timedelta = states.FROZEN_AFTER,
) -> bool:
    """Point a tag at a version, or remove it (None). False when nothing changed.

    Who may publish points tags at what is new. To bring an old release (``frozen_after``) before everybody who installs
    by the tag is as good as promoting it, and takes that right. Raises Denied for who has it not, and for a package that
    came from an upstream; NotFound for a version or package that is not here.
    """
    package = _published(session, admission, key)
    held = session.get(PackageTag, (package.id, tag))
    if (held.version if held is not None else None) == version:
        return False
    if version is None:
        session.delete(held)
    else:
        row = shelf.find_version(session, admission.repository_id, key, version)
        if freezing.is_frozen(session, row, now, now, frozen_after):
            _check_may_promote(admission, key, version, tag)
        session.merge(PackageTag(package_id=package.id, tag=tag, version=version))
    shelf.bump(session, admission.domain_id, *key)
    audit.record(
        session,
        now,
        admission.actor,
        "package.tag",
        f"{admission.path}/{key.format}/{key.path}",
        tag=tag,
        version=version,
    )
    return True


def _check_may_promote(admission: Admission, key: PackageKey, version: str, tag: str) -> None:
    who = admission.identity
    if who is None or not who.may(Action.PROMOTE, admission.path, key):
        raise Denied(
            f"{key.path} {version} is an old release of {admission.path}: to point {tag} at it, {admission.actor} needs "
            "the right to promote there"
        )


def versions(session: Session, repository_id: int, key: PackageKey) -> list[PackageVersion]:
    """All versions of a package in one repository, Unfinished ones as well."""
    package = shelf.find_package(session, repository_id, *key)
    if package is None:
        return []
    return list(session.scalars(select(PackageVersion).where(PackageVersion.package_id == package.id)))


def _published(session: Session, admission: Admission, key: PackageKey) -> Package:
    package = shelf.find_package(session, admission.repository_id, *key)
    if package is None:
        raise NotFound("package", key.path)
    if package.origin != shelf.PUBLISHED:
        raise Denied(f"{key.path} came to {admission.path} from an upstream; its tags are the upstream's")
    return package


def _place(admission: Admission, key: PackageKey, version: str) -> str:
    return f"{admission.path}/{key.format}/{key.path}/{version}"
