"""Versions whose clients never say that they are done: published once no file has come for a while.

Only formats that know when a version can do without more files take part (``Format.is_whole``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from registry.access import Identity
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict, NotFound
from registry.format import Format
from registry.models import Asset, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName
from registry.repos import shelf
from registry.repos.admission import Admission
from registry.repos.publish import Publisher

log = logging.getLogger("entrepot.publish")

MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class _Waiting:
    admission: Admission
    key: PackageKey
    version: str
    version_id: int
    last_file_at: datetime


class IdleVersions:
    """Finishes versions that have come to rest. Safe for many threads and processes."""

    def __init__(
        self, db: Database, publisher: Publisher, formats: Mapping[str, Format], clock: Clock, rest: timedelta
    ) -> None:
        """``rest`` is how long no file may have come."""
        self._db = db
        self._publisher = publisher
        self._formats = formats
        self._clock = clock
        self._rest = rest

    def finish(self, repository_ids: Sequence[int] | None = None, key: PackageKey | None = None) -> datetime | None:
        """Finish what has come to rest: everywhere, or of one package in some repositories.

        Gives the moment at which the next of them may have, None when none is waiting.
        """
        due = self._clock() - self._rest
        following: datetime | None = None
        for waiting in self._waiting(repository_ids, key):
            if waiting.last_file_at > due:
                at = waiting.last_file_at + self._rest
                following = at if following is None else min(following, at)
            elif self._is_whole(waiting):
                self._finish(waiting)
        return following

    def _finish(self, waiting: _Waiting) -> None:
        try:
            self._publisher.finish(waiting.admission, waiting.key, waiting.version)
        except NotFound:
            return  # deleted meanwhile
        except Conflict as error:
            log.info("%s %s stays Unfinished: %s", waiting.key.path, waiting.version, error)

    def _is_whole(self, waiting: _Waiting) -> bool:
        with self._db.read() as session:
            filenames = session.scalars(select(Asset.filename).where(Asset.version_id == waiting.version_id)).all()
        return self._formats[waiting.key.format].is_whole(filenames)

    def _waiting(self, repository_ids: Sequence[int] | None, key: PackageKey | None) -> list[_Waiting]:
        statement = (
            select(
                Domain.id.label("domain_id"),
                Domain.name.label("domain"),
                Repository.id.label("repository_id"),
                Repository.name.label("repository"),
                Package.format,
                Package.namespace,
                Package.name,
                PackageVersion.version,
                PackageVersion.published_by,
                PackageVersion.id.label("version_id"),
                func.max(Asset.published_at).label("last_file_at"),
            )
            .join(Repository, Repository.domain_id == Domain.id)
            .join(Package, Package.repository_id == Repository.id)
            .join(PackageVersion, PackageVersion.package_id == Package.id)
            .join(Asset, Asset.version_id == PackageVersion.id)
            .where(PackageVersion.status == shelf.UNFINISHED, Package.format.in_(self._formats))
            .group_by(Domain.id, Repository.id, Package.id, PackageVersion.id)
            .order_by(PackageVersion.id)
            .limit(MOST_AT_ONCE)
        )
        if repository_ids is not None:
            statement = statement.where(Repository.id.in_(repository_ids))
        if key is not None:
            names = (Package.format == key.format, Package.namespace == key.namespace, Package.name == key.name)
            statement = statement.where(*names)
        with self._db.read() as session:
            rows = session.execute(statement).all()
        return [_as_waiting(row) for row in rows]


def _as_waiting(row: Any) -> _Waiting:
    # In the name of who sent the files: the audit entry and the event's author are theirs.
    author = Identity(row.published_by, 0, (), "internal")
    admission = Admission(author, row.domain_id, row.domain, row.repository_id, row.repository, 0, 0)
    key = PackageKey(row.format, row.namespace, PackageName(row.name))
    return _Waiting(admission, key, row.version, row.version_id, row.last_file_at)
