"""Old releases stay as they are: a version takes further files only for a while after its first.

So nobody who gets hold of a token that may publish can slip a file into a release that everybody pins already. An
administrator can open a version again for some hours; that is in the audit log.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import Denied
from registry.models import Asset, PackageVersion
from registry.names import PackageKey
from registry.repos import shelf, states
from registry.repos.admission import Admission


def check_state(version: PackageVersion, place: str) -> None:
    """Raise Denied for a version whose state lets no file come; ``place`` names its repository."""
    if not states.takes_files(version.status):
        raise Denied(
            f"{version.display_version} is {version.status} in {place}: no file of that version can be published there"
        )


def check_addition(
    session: Session, version: PackageVersion, file_at: datetime, now: datetime, frozen_after: timedelta, place: str
) -> None:
    """Raise Denied when a file of ``file_at`` may not come to the version any more; ``place`` names its repository."""
    check_state(version, place)
    if is_frozen(session, version, file_at, now, frozen_after):
        raise Denied(
            f"{version.display_version} in {place} had its first file more than {_written(frozen_after)} ago and takes "
            "no further ones; publish another version, or have an administrator reopen this one"
        )


def is_frozen(
    session: Session, version: PackageVersion, file_at: datetime, now: datetime, frozen_after: timedelta
) -> bool:
    """Whether a file that was published at ``file_at`` comes too late for the version."""
    if not frozen_after or (version.open_until is not None and now < version.open_until):
        return False
    first_at = session.scalar(select(func.min(Asset.published_at)).where(Asset.version_id == version.id))
    return first_at is not None and states.is_frozen(first_at, file_at, frozen_after)


def reopen(
    session: Session,
    admission: Admission,
    key: PackageKey,
    version: str,
    hours: int,
    reason: str,
    now: datetime,
) -> datetime:
    """Let files be added to a version for so many hours, whatever its age; gives the end. Raises NotFound, Denied."""
    row = shelf.find_version(session, admission.repository_id, key, version, locked=True)
    check_state(row, admission.path)
    until = now + timedelta(hours=hours)
    row.open_until = until
    shelf.keep_revision(row)
    place = f"{admission.path}/{key.format}/{key.path}/{row.version}"
    audit.record(session, now, admission.actor, "version.reopen", place, until=until.isoformat(), reason=reason)
    return until


def _written(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"
