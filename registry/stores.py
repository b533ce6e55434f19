"""The blob store of each domain: one body store for all, one key ring for each, and one for the server's own fields."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from registry.db import Database, table_of
from registry.errors import Unavailable
from registry.models import Blob, Domain, DomainKey
from storage.blobs import BlobHandle, BlobStore, Digest, Locator
from storage.encrypted import EncryptedStore, wrapped_by
from storage.errors import KeyUnavailable, StorageError
from storage.keyring import KeyProvider, Keyring, KeysNow, WrappedKey

log = logging.getLogger("entrepot.keys")
SERVER = "server"
"""The context of the server's own keys."""

_KEY = table_of(DomainKey)
# The lock makes a writer and whoever retires the key wait for each other; SQLite's writers do in any case.
_RETIRED = select(_KEY.c.retired_at).where(_KEY.c.id == bindparam("key")).with_for_update(read=True)


class DomainStores:
    """Gives the encrypted store of a domain. Safe for many threads."""

    def __init__(self, db: Database, bodies: BlobStore, provider: KeyProvider) -> None:
        self._db = db
        self.provider = provider
        self._lock = threading.Lock()
        self._open: dict[int | None, tuple[Keyring, EncryptedStore]] = {}
        self.bodies = bodies

    def of(self, domain_id: int) -> EncryptedStore:
        """The store that reads and writes this domain's blobs."""
        return self._entry(domain_id)[1]

    def keyring(self, domain_id: int | None) -> Keyring:
        """The domain's keys, for small sealed fields; None: the server's own, which must have been made."""
        return self._entry(domain_id)[0]

    def server_keyring(self) -> Keyring:
        """The keys for small sealed fields that belong to the server as a whole.

        Data of earlier releases has none until its first start: there it is the first domain's. Raises KeyUnavailable
        on a server without either.
        """
        if None not in self._open:
            with self._db.read() as session:
                has_own = session.scalar(select(DomainKey.id).where(DomainKey.domain_id.is_(None)).limit(1)) is not None
                first = first_domain(session)
            if not has_own:
                if first is None:
                    raise KeyUnavailable("there is no domain yet, and so no key")
                return self.keyring(first)
        return self.keyring(None)

    def warm(self) -> None:
        """Unwrap all keys now, so that this process can read and write while the provider is away; logs what fails."""
        with self._db.read() as session:
            owners = set(session.scalars(select(DomainKey.domain_id)))
        for owner in owners:
            try:
                failing = self.keyring(owner).check()
            except StorageError as error:
                log.error("the keys of %s cannot be used: %s", context_of(owner), error)  # noqa: TRY400
            else:
                for key_id, reason in failing.items():
                    log.error("key %s of %s cannot be used: %s", key_id, context_of(owner), reason)

    def _entry(self, domain_id: int | None) -> tuple[Keyring, EncryptedStore]:
        with self._lock:
            entry = self._open.get(domain_id)
        if entry is not None:
            return entry
        keyring = Keyring(
            self.provider, context_of(domain_id), load=self._loader(domain_id), reload=self._reloader(domain_id)
        )
        entry = (keyring, EncryptedStore(self.bodies, keyring))
        with self._lock:
            return self._open.setdefault(domain_id, entry)

    def _reloader(self, domain_id: int | None) -> Callable[[], KeysNow]:
        def reload() -> KeysNow:
            with self._db.read_aside() as session:  # rows are opened within reads
                rows = keys_of(session, domain_id)
            current = current_key(rows)
            keys = [WrappedKey(row.id, row.wrapped) for row in rows]
            return KeysNow(keys, current.id if current is not None else None)

        return reload

    def _loader(self, domain_id: int | None) -> Callable[[str], WrappedKey | None]:
        def load(key_id: str) -> WrappedKey | None:
            with self._db.read_aside() as session:
                row = session.get(DomainKey, key_id)
                if row is None:
                    return None
                if row.domain_id == domain_id:
                    return WrappedKey(row.id, row.wrapped)
                # Earlier releases sealed the server's own fields under the keys of the first domain.
                if domain_id is None and row.domain_id == first_domain(session):
                    return WrappedKey(row.id, row.wrapped, context_of(row.domain_id))
            return None

        return load

    def made_key(self, domain_id: int | None) -> WrappedKey:
        """A fresh key, wrapped: asks the provider, and so is called outside of transactions."""
        return Keyring(self.provider, context_of(domain_id)).new_key()

    def new_key(self, session: Session, domain_id: int | None, now: datetime) -> None:
        """Give a new domain (or the server, None) its first key, in the transaction that makes it.

        A remote provider is asked within it, for at most its time limit: the key is bound to an id that the
        transaction made.
        """
        add_key(session, self.made_key(domain_id), domain_id, now)


def add_key(session: Session, key: WrappedKey, domain_id: int | None, now: datetime) -> None:
    """Keep a made key: it encrypts from now on."""
    session.add(DomainKey(id=key.id, domain_id=domain_id, wrapped=key.wrapped, created_at=now))
    session.flush()


def context_of(domain_id: int | None) -> str:
    """What the keys of a domain (or of the server, None) are bound to."""
    return SERVER if domain_id is None else f"domain/{domain_id}"


def keys_of(session: Session, domain_id: int | None) -> list[DomainKey]:
    """The keys of a domain, or of the server (None), oldest first."""
    owner = DomainKey.domain_id.is_(None) if domain_id is None else DomainKey.domain_id == domain_id
    return list(session.scalars(select(DomainKey).where(owner).order_by(DomainKey.created_at, DomainKey.id)))


def current_key(keys: list[DomainKey]) -> DomainKey | None:
    """The one of ``keys`` (oldest first) that encrypts; None when none does."""
    usable = [key for key in keys if key.retired_at is None and key.destroyed_at is None]
    return usable[-1] if usable else None


def first_domain(session: Session) -> int | None:
    """The server's oldest domain."""
    return session.scalar(select(func.min(Domain.id)))


def require_key_in_use(session: Session, handle: BlobHandle) -> None:
    """Refuse a new body under a key that was retired since it was encrypted: nobody would wrap its data key anew.

    Asked in the transaction that makes the blob's row. Raises Unavailable: sent again, it is encrypted anew.
    """
    key_id = wrapped_by(handle)
    if key_id is not None and session.connection().execute(_RETIRED, {"key": key_id}).scalar() is not None:
        raise Unavailable("the domain's key was rotated while this was received; send it again")


def handle_of(blob: Blob) -> BlobHandle:
    """What the store needs to read a blob row's body."""
    return BlobHandle(Locator(blob.locator), Digest(blob.sha256), blob.size_bytes, blob.envelope)
