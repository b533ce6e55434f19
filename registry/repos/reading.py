"""What kept archives say of their versions: read when somebody first looks at one, and stored like a publish's.

An upstream's index tells little of a version, and an install is no time to unpack what it fetches. The archive is here by
then; it is read once, and what it says is sealed in the version's row as if it had been published here.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.db import Database
from registry.errors import Invalid, TooLarge, Unavailable
from registry.format import Description, Format
from registry.models import Asset, Blob, Package, PackageVersion, Repository
from registry.names import PackageKey
from registry.repos import descriptions, shelf
from registry.stores import DomainStores, handle_of
from storage.blobs import BlobHandle
from storage.errors import StorageError
from storage.reader import open_file

log = logging.getLogger("entrepot.reading")

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Unread:
    """A version whose archives nobody has read; ``files`` are (asset id, body) by file name."""

    version_id: int
    domain_id: int
    files: Mapping[str, tuple[int, BlobHandle]]


class Readings:
    """Reads what archives say of their versions. Safe for many threads."""

    def __init__(self, db: Database, stores: DomainStores, formats: Mapping[str, Format]) -> None:
        self._db = db
        self._stores = stores
        self._formats = formats
        self._lock = threading.Lock()
        # Files that say nothing that can be read, so that each look at their version does not try again.
        self._unreadable: OrderedDict[int, None] = OrderedDict()

    def read(self, repository_id: int, key: PackageKey, version: str) -> bool:
        """Read a version's archives unless that was done before. True when there is something to show now.

        Outside any transaction of the caller's. What cannot be read or stored is logged and no error: the rest of what
        is known of the version can be shown.
        """
        unread = self._unread(repository_id, key, version)
        if unread is None:
            return False
        try:
            said = self._describe(self._formats[key.format], unread)
            if said is None:
                return False
            # Before the transaction: it may have to read the domain's keys.
            box = descriptions.sealed(self._stores.keyring(unread.domain_id), key, version, said.text)
            return shelf.settle(self._db, lambda session: _keep(session, unread.version_id, said, box))
        except (StorageError, Unavailable) as error:
            log.warning("what %s %s says of itself could not be read or kept: %s", key.path, version, error)
            return False

    def _unread(self, repository_id: int, key: PackageKey, version: str) -> _Unread | None:
        with self._db.read() as session:
            row = session.execute(
                select(PackageVersion.id, Repository.domain_id, PackageVersion.metadata_)
                .join(Package, Package.id == PackageVersion.package_id)
                .join(Repository, Repository.id == Package.repository_id)
                .where(
                    Package.repository_id == repository_id,
                    Package.format == key.format,
                    Package.namespace == key.namespace,
                    Package.name == key.name,
                    PackageVersion.version == version,
                )
            ).first()
            if row is None or row[2]:
                return None
            files = session.execute(
                select(Asset.filename, Asset.id, Blob)
                .join(Blob, Blob.id == Asset.blob_id)
                .where(Asset.version_id == row[0])
                .order_by(Asset.filename)
            )
            return _Unread(row[0], row[1], {name: (asset_id, handle_of(blob)) for name, asset_id, blob in files})

    def _describe(self, known: Format, unread: _Unread) -> Description | None:
        """What the first file says that says anything; None when none does."""
        store = self._stores.of(unread.domain_id)
        for filename in known.describing(unread.files):
            asset_id, handle = unread.files[filename]
            if self._is_unreadable(asset_id):
                continue
            try:
                with open_file(store, handle) as body:
                    return known.describe(filename, body)
            except (Invalid, TooLarge) as error:
                # An upstream's archive need not keep our rules.
                log.info("nothing is read out of %s: %s", filename, error)
                self._remember(asset_id)
        return None

    def _is_unreadable(self, asset_id: int) -> bool:
        with self._lock:
            return asset_id in self._unreadable

    def _remember(self, asset_id: int) -> None:
        with self._lock:
            self._unreadable[asset_id] = None
            if len(self._unreadable) > _REMEMBERED:
                self._unreadable.popitem(last=False)


def _keep(session: Session, version_id: int, said: Description, box: bytes | None) -> bool:
    row = session.get(PackageVersion, version_id)
    if row is None:
        return False  # deleted meanwhile
    if not row.metadata_:
        # Never empty: that is what tells a version that was read from others.
        row.metadata_ = {**said.metadata, "summary": said.summary}
        row.summary = said.summary or row.summary
        row.description, row.description_type = box, said.media_type
        shelf.keep_revision(row)  # looking at a version does not change it
    return True
