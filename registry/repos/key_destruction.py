"""Destroying keys: retired ones that nothing uses, or all of a domain's, which shreds everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict
from registry.models import Blob, DomainKey
from registry.repos.key_use import Owner, count_blobs, count_fields
from registry.repos.rotation import Rotator, Work
from registry.repos.sealed_fields import SealedField
from registry.stores import DomainStores, first_domain, keys_of

REST = timedelta(hours=24)
"""How long a key is retired before it is destroyed: longer than any process holds what it sealed and did not store."""


def destroy_retired(
    db: Database, stores: DomainStores, fields: Sequence[SealedField], owner: Owner, clock: Clock, *, actor: str,
    rest: timedelta = REST,
) -> list[str]:  # fmt: skip
    """Destroy the owner's keys that were retired at least ``rest`` ago and wrap nothing any more; returns their ids."""

    def unit(session: Session) -> list[str]:
        _erase_what_is_overwritten(session, db)
        now, gone = clock(), []
        candidates = [
            key
            for key in keys_of(session, owner.domain_id)
            if key.retired_at is not None and key.retired_at <= now - rest and key.destroyed_at is None
        ]
        # Counted in the transaction that destroys: what was counted before could be used again by now.
        used = count_blobs(session, owner) + count_fields(session, fields, owner) if candidates else {}
        for key in candidates:
            if not used.get(key.id):
                key.wrapped, key.destroyed_at = b"", now
                audit.record(session, now, actor, "keys.destroy", owner.name, key=key.id)
                gone.append(key.id)
        return gone

    destroyed = db.retry(unit)
    _forget_journal(db)
    stores.keyring(owner.domain_id).refresh()
    return destroyed


def shred(
    db: Database, stores: DomainStores, fields: Sequence[SealedField], owner: Owner, clock: Clock, *, actor: str
) -> int:
    """Destroy all keys of a domain: nothing that is encrypted in it can ever be read again. Returns how many bodies.

    What the server itself had sealed under them is sealed under its own key first. Raises Conflict for the server's own
    keys, and where they have been destroyed already.
    """
    if owner.domain_id is None:
        raise Conflict("the server's own keys cannot be destroyed: rotate them instead")
    with db.read() as session:
        keys = {key.id for key in keys_of(session, owner.domain_id) if key.destroyed_at is None}
        is_first = owner.domain_id == first_domain(session)
        has_own = bool(keys_of(session, None))
    if not keys:
        raise Conflict(f"the keys of {owner.name} have been destroyed already")
    if is_first and not has_own:
        made = stores.made_key(None)
        with db.write() as session:
            session.add(DomainKey(id=made.id, domain_id=None, wrapped=made.wrapped, created_at=clock()))
    if is_first:
        Rotator(db, stores, fields, clock).move_server_fields(keys, Work(actor))

    def unit(session: Session) -> int:
        _erase_what_is_overwritten(session, db)
        now = clock()
        for key in keys_of(session, owner.domain_id):
            if key.destroyed_at is None:
                key.wrapped, key.destroyed_at, key.retired_at = b"", now, key.retired_at or now
        blobs = session.scalar(select(func.count()).select_from(Blob).where(Blob.domain_id == owner.domain_id)) or 0
        audit.record(session, now, actor, "keys.shred", owner.name, keys=sorted(keys), blobs=blobs)
        return blobs

    blobs = db.retry(unit)
    _forget_journal(db)
    stores.keyring(owner.domain_id).refresh()
    return blobs


def _erase_what_is_overwritten(session: Session, db: Database) -> None:
    """Have SQLite write zeros over what this connection replaces, instead of leaving it in free space."""
    if db.is_sqlite:
        session.execute(text("PRAGMA secure_delete=ON"))


def _forget_journal(db: Database) -> None:
    """Have SQLite move its write-ahead log into the database and cut it off: it holds the page of before."""
    if db.is_sqlite:
        connection = db.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
