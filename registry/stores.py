"""The blob store of each domain: one body store for all, one key ring for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.db import Database
from registry.models import Blob, Domain, DomainKey
from storage.blobs import BlobHandle, BlobStore, Digest, Locator
from storage.encrypted import EncryptedStore
from storage.errors import KeyUnavailable
from storage.keyring import KeyProvider, Keyring, WrappedKey


class DomainStores:
    """Gives the encrypted store of a domain. Safe for many threads."""

    def __init__(self, db: Database, bodies: BlobStore, provider: KeyProvider) -> None:
        self._db = db
        self._provider = provider
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Keyring, EncryptedStore]] = {}
        self.bodies = bodies

    def of(self, domain_id: int) -> EncryptedStore:
        """The store that reads and writes this domain's blobs."""
        return self._entry(domain_id)[1]

    def keyring(self, domain_id: int) -> Keyring:
        """The domain's keys, for small sealed fields."""
        return self._entry(domain_id)[0]

    def server_keyring(self) -> Keyring:
        """The keys for small sealed fields that belong to the server as a whole: those of its first domain.

        Raises KeyUnavailable on a server without a domain.
        """
        with self._db.read() as session:
            first = session.scalar(select(func.min(Domain.id)))
        if first is None:
            raise KeyUnavailable("there is no domain yet, and so no key")
        return self.keyring(first)

    def _entry(self, domain_id: int) -> tuple[Keyring, EncryptedStore]:
        with self._lock:
            entry = self._open.get(domain_id)
        if entry is not None:
            return entry
        keyring = Keyring(self._provider, f"domain/{domain_id}", load=self._loader(domain_id))
        with self._db.read() as session:
            rows = session.scalars(
                select(DomainKey).where(DomainKey.domain_id == domain_id).order_by(DomainKey.created_at, DomainKey.id)
            ).all()
        for row in rows:
            keyring.add(WrappedKey(row.id, row.wrapped))
        entry = (keyring, EncryptedStore(self.bodies, keyring))
        with self._lock:
            return self._open.setdefault(domain_id, entry)

    def _loader(self, domain_id: int) -> Callable[[str], WrappedKey | None]:
        def load(key_id: str) -> WrappedKey | None:
            with self._db.read() as session:
                row = session.get(DomainKey, key_id)
            return WrappedKey(row.id, row.wrapped) if row is not None and row.domain_id == domain_id else None

        return load

    def new_key(self, session: Session, domain_id: int, now: datetime) -> None:
        """Give a domain a new key, in the transaction that makes the domain or rotates."""
        wrapped = Keyring(self._provider, f"domain/{domain_id}").new_key()
        session.add(DomainKey(id=wrapped.id, domain_id=domain_id, wrapped=wrapped.wrapped, created_at=now))


def handle_of(blob: Blob) -> BlobHandle:
    """What the store needs to read a blob row's body."""
    return BlobHandle(Locator(blob.locator), Digest(blob.sha256), blob.size_bytes, blob.envelope)
