"""The master key changes: domain keys are wrapped anew, nothing else is touched. So also to move to another provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.models import DomainKey
from registry.stores import DomainStores, context_of
from storage.errors import KeyUnavailable
from storage.keyring import Keyring, WrappedKey


@dataclass(frozen=True, slots=True)
class MasterRotated:
    """``master_key`` wraps all keys now; ``is_new`` when it was made by this run; ``moved`` keys were wrapped anew."""

    provider: str
    master_key: str
    is_new: bool
    moved: int


def rotate_master(
    db: Database,
    stores: DomainStores,
    clock: Clock,
    actor: str,
    told: Callable[[str], None] = lambda _key_id: None,
) -> MasterRotated:
    """Have every domain key wrapped by the provider's current master key, a new one if they all are already.

    Can be killed at any point and run again. Raises KeyUnavailable or ProviderAway; what was done stays done.
    """
    provider = stores.provider
    provider.check()
    master = provider.current_id()
    with db.read() as session:
        rows = session.scalars(select(DomainKey).where(DomainKey.destroyed_at.is_(None))).all()
    waiting = [row for row in rows if provider.master_of(row.wrapped) != master]
    is_new = False
    if not waiting:
        before, master = master, provider.rotate()
        is_new, waiting = master != before, [row for row in rows if provider.master_of(row.wrapped) != master]
    for row in waiting:
        _wrap_anew(db, stores, row)
        told(row.id)
    now = clock()
    with db.write() as session:
        audit.record(
            session,
            now,
            actor,
            "keys.rotate_master",
            provider.name,
            master_key=master,
            keys=[row.id for row in waiting],
        )
    return MasterRotated(provider.name, master, is_new, len(waiting))


def _wrap_anew(db: Database, stores: DomainStores, row: DomainKey) -> None:
    ring = Keyring(stores.provider, context_of(row.domain_id))
    wrapped = ring.rewrap(WrappedKey(row.id, row.wrapped)).wrapped
    # A key that its new master does not give back would be lost with the old one.
    again = Keyring(stores.provider, context_of(row.domain_id))
    again.add(WrappedKey(row.id, wrapped))
    again.require_current()
    before = row.wrapped

    def unit(session: Session) -> None:
        session.execute(
            update(DomainKey).where(DomainKey.id == row.id, DomainKey.wrapped == before).values(wrapped=wrapped)
        )

    db.retry(unit)


def masters_in_use(db: Database, stores: DomainStores) -> set[str]:
    """The master keys that wrap a key. Raises KeyUnavailable when a provider that does is not in the settings."""
    with db.read() as session:
        rows = session.scalars(select(DomainKey).where(DomainKey.destroyed_at.is_(None))).all()
    found = {stores.provider.master_of(row.wrapped) for row in rows}
    if None in found:
        raise KeyUnavailable("a key is wrapped by a provider that the settings do not name")
    return {master for master in found if master is not None}
