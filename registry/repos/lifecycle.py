"""Changing the state of versions that are here: listed or not, archived, disposed of, deleted. Each act is for one version.

All of them take the version's row before they look at it, as publishing does, so that of two acts at once one comes
after the other and sees what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from registry import audit, events
from registry.errors import Invalid, NotFound
from registry.models import Package, PackageVersion
from registry.names import PackageKey
from registry.repos import publish, shelf, states, withdraw
from registry.repos.admission import Admission
from registry.repos.batches import (
    NOT_ALLOWED,
    SuccessfulVersion,
    VersionRefused,
    check_revision,
    check_status,
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a version has to be for a change to be made; None where anything will do."""

    status: str | None = None
    revision: str | None = None

    def check(self, row: PackageVersion) -> None:
        """Raise VersionRefused for a version that is another one."""
        check_revision(row.revision, self.revision)
        check_status(row.status, self.status)


def check_word(status: str, words: tuple[str, ...] = states.ALL) -> str:
    """The state, if it is one of ``words``. Raises Invalid."""
    if status not in words:
        raise Invalid(f"a version's status is {', '.join(words[:-1])} or {words[-1]}, not {status[:40]!a}")
    return status


def change_status(
    session: Session,
    admission: Admission,
    key: PackageKey,
    version: str,
    target: str,
    expected: Expected,
    now: datetime,
) -> SuccessfulVersion:
    """Set a version to one of ``states.SETTABLE``. Raises VersionRefused, NotFound, or Conflict as ``publish.finish``."""
    row = _taken(session, admission, key, version, expected)
    _check_step(row, target)
    if row.status == states.UNFINISHED:
        publish.finish(session, admission, key, row, now)
    elif row.status != target:
        _set(session, admission, key, row, target, now)
    session.flush()
    return SuccessfulVersion(row.revision, row.status)


def dispose(
    session: Session, admission: Admission, key: PackageKey, version: str, expected: Expected, now: datetime
) -> SuccessfulVersion:
    """Give up a version's files for good; bytes that nothing else refers to go with the sweep. Raises as above."""
    row = _taken(session, admission, key, version, expected)
    _check_step(row, states.DISPOSED)
    if row.status != states.DISPOSED:
        removed = withdraw.retire_files(session, row, now)
        _set(session, admission, key, row, states.DISPOSED, now, assets=removed)
        shelf.touch_version(row)
    session.flush()
    return SuccessfulVersion(row.revision, row.status)


def delete(
    session: Session, admission: Admission, key: PackageKey, version: str, expected: Expected, now: datetime
) -> SuccessfulVersion:
    """Take a version out. Raises as above."""
    row = _taken(session, admission, key, version, expected)
    revision = row.revision
    withdraw.delete_version(session, admission, key, version, now)
    return SuccessfulVersion(revision, states.DELETED)


def delete_package(session: Session, admission: Admission, key: PackageKey, now: datetime) -> list[str]:
    """Take all versions of a package out; gives them. Raises NotFound where there are none."""
    versions = sorted(row.version for row in withdraw.versions(session, admission.repository_id, key))
    if not versions:
        raise NotFound("package", key.path)
    for version in versions:
        withdraw.delete_version(session, admission, key, version, now)
    place = f"{admission.path}/{key.format}/{key.path}"
    audit.record(session, now, admission.actor, "package.delete", place, versions=versions[:1000])
    return versions


def _taken(session: Session, admission: Admission, key: PackageKey, version: str, expected: Expected) -> PackageVersion:
    row = shelf.find_version(session, admission.repository_id, key, version, locked=True)
    withdraw.check_not_quarantined(session, admission, row)
    expected.check(row)
    return row


def _check_step(row: PackageVersion, target: str) -> None:
    if not states.may_become(row.status, target):
        raise VersionRefused(NOT_ALLOWED, f"a version that is {row.status} cannot become {target}")


def _set(
    session: Session,
    admission: Admission,
    key: PackageKey,
    row: PackageVersion,
    status: str,
    now: datetime,
    **details: object,
) -> None:
    previous, row.status = row.status, status
    shelf.keep_revision(row)
    if status in states.WITHHELD:
        session.get_one(Package, row.package_id).has_states = True
    shelf.bump(session, admission.domain_id, *key)
    events.record(
        session,
        events.VersionStatusChanged(
            domain=admission.domain,
            repository=admission.repository,
            format=key.format,
            namespace=key.namespace,
            name=key.name,
            version=row.version,
            previous=previous,
            status=status,
            by=admission.actor,
        ),
        now,
    )
    place = f"{admission.path}/{key.format}/{key.path}/{row.version}"
    audit.record(session, now, admission.actor, "version.status", place, previous=previous, status=status, **details)
