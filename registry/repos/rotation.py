"""Rotation of keys while everything runs: what an old key wraps is wrapped anew, in small transactions; bodies stay.

A rotation can be killed at any point and begun again: a new key is made only when nothing is left under an old one, each
row is changed only if it still is what was read, and an old key opens what it wraps for as long as there is any.

1. A new key is added. Other processes encrypt under it within ``FRESH_SECONDS``, without being told.
2. What the old keys wrap is wrapped anew, batch after batch.
3. When all processes must have seen the new key, the old ones are retired: no transaction keeps a new body under them.
4. What came under them meanwhile is wrapped anew. Now nothing uses them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, bindparam, select, tuple_, update
from sqlalchemy.orm import Session

from registry import audit
from registry.clock import Clock
from registry.db import Database, table_of
from registry.errors import Conflict
from registry.models import Blob, Domain, DomainKey
from registry.repos.key_use import Owner, count_blobs, count_fields
from registry.repos.sealed_fields import SealedField, sealed_under
from registry.stores import DomainStores, add_key, current_key, keys_of
from storage.blobs import BlobHandle, Digest, Locator
from storage.encrypted import ENVELOPE_BOX_AT
from storage.errors import Damaged, KeyDestroyed
from storage.keyring import FRESH_SECONDS

BATCH = 250
SETTLE_SECONDS = FRESH_SECONDS + 3.0
"""How long after a new key all processes that run surely know of it."""

_BLOB = table_of(Blob)
# Only if it still is what was read: the row may be gone, or another one's by now.
_CHANGE_BLOB = (
    update(_BLOB)
    .where(_BLOB.c.id == bindparam("at"), _BLOB.c.envelope == bindparam("before"))
    .values(envelope=bindparam("after"))
)


def _go_on(_seconds: float) -> bool:
    time.sleep(_seconds)
    return False


@dataclass(frozen=True, slots=True)
class Work:
    """What the callers of a rotation hand it. ``told`` hears the owner and how many rows were wrapped anew so far.

    ``wait`` sleeps for some seconds (0: not at all) and says whether to stop; what was stopped is resumed by the next.
    """

    actor: str
    told: Callable[[Owner, int], None] = lambda _owner, _count: None
    wait: Callable[[float], bool] = _go_on


@dataclass(slots=True)
class Rotated:
    """How far an owner's rotation came: rows wrapped anew by this run, and those that do not open, with the reason."""

    owner: Owner
    key_id: str
    is_resumed: bool
    moved: int = 0
    failed: list[str] = field(default_factory=list)
    is_finished: bool = False


class Rotator:
    """Rotates keys. Several may run at once, on any machines: none undoes what another did."""

    def __init__(self, db: Database, stores: DomainStores, fields: Sequence[SealedField], clock: Clock) -> None:
        self._db = db
        self._stores = stores
        self._fields = fields
        self._clock = clock

    def rotate(self, owners: Sequence[Owner], work: Work) -> list[Rotated]:
        """Rotate, or finish what an earlier run began. Raises Conflict for a domain whose keys were destroyed.

        Raises KeyUnavailable or ProviderAway when a key cannot be unwrapped; what was done stays done.
        """
        began, all_of_them = time.monotonic(), [self.begin(owner, work) for owner in owners]
        for one in all_of_them:
            self._move(one, work)
        if work.wait(max(0.0, began + SETTLE_SECONDS - time.monotonic())):
            return all_of_them
        for one in all_of_them:
            self._retire(one, work)
            before = -1
            while before != one.moved and not work.wait(0):
                before = one.moved
                one.failed.clear()
                self._move(one, work)
            one.is_finished = before == one.moved and not one.failed
        return all_of_them

    def begin(self, owner: Owner, work: Work) -> Rotated:
        """Add a new key, unless an earlier rotation is not finished: then that one goes on."""
        made = self._stores.made_key(owner.domain_id)  # asks the provider, and so comes before the transaction
        # What a run left under retired keys that was killed at its very end; what does not open holds nothing up.
        stragglers = self._move_stragglers(owner, work) if self._has_stragglers(owner) else 0

        def unit(session: Session) -> Rotated:
            _alone(session, owner)
            keys = keys_of(session, owner.domain_id)
            current = current_key(keys)
            if current is None:
                raise Conflict(f"the keys of {owner.name} were destroyed: it cannot be given others")
            older = [key for key in keys if key is not current and key.destroyed_at is None]
            if stragglers or any(key.retired_at is None for key in older):
                return Rotated(owner, current.id, is_resumed=True, moved=stragglers)
            # Later than the older ones, whatever the clock says: the newest encrypts.
            now = max(self._clock(), keys[-1].created_at + timedelta(microseconds=1))
            add_key(session, made, owner.domain_id, now)
            audit.record(session, now, work.actor, "keys.rotate", owner.name, key=made.id)
            return Rotated(owner, made.id, is_resumed=False, moved=stragglers)

        begun = self._db.retry(unit)
        self._stores.keyring(owner.domain_id).refresh()
        return begun

    def move_server_fields(self, keys: Collection[str], work: Work) -> int:
        """Seal anew, under the server's own key, what ``keys`` of a domain seal of the server's fields."""
        rotated = Rotated(Owner(None, "server"), "", is_resumed=False)
        for each in self._fields:
            if each.domain is None:
                self._move_field(each, rotated, keys, work)
        return rotated.moved

    def _move_stragglers(self, owner: Owner, work: Work) -> int:
        found = Rotated(owner, "", is_resumed=True)
        self._move(found, work)
        return found.moved

    def _has_stragglers(self, owner: Owner) -> bool:
        with self._db.read() as session:
            keys = keys_of(session, owner.domain_id)
            current = current_key(keys)
            old = {key.id for key in keys if key is not current and key.destroyed_at is None}
            if current is None or not old:
                return False
            used = count_blobs(session, owner) + count_fields(session, self._fields, owner)
            return any(used[key_id] for key_id in old)

    def _move(self, one: Rotated, work: Work) -> None:
        """Wrap anew what any but the current key wraps, until there is nothing or somebody says to stop."""
        with self._db.read() as session:
            keys = keys_of(session, one.owner.domain_id)
        current = current_key(keys)
        if current is None:
            raise KeyDestroyed(f"the keys of {one.owner.name} were destroyed while they were rotated")
        old = {key.id for key in keys if key is not current and key.destroyed_at is None}
        if not old:
            return
        if one.owner.domain_id is not None:
            self._move_blobs(one.owner.domain_id, one, old, work)
        for each in self._fields:
            if each.domain is None or one.owner.domain_id is not None:
                self._move_field(each, one, old, work)

    def _move_blobs(self, domain_id: int, one: Rotated, old: Collection[str], work: Work) -> None:
        store, last = self._stores.of(domain_id), 0
        while not work.wait(0):
            with self._db.read() as session:
                rows = session.execute(
                    select(_BLOB.c.id, _BLOB.c.locator, _BLOB.c.sha256, _BLOB.c.size_bytes, _BLOB.c.envelope)
                    .where(_BLOB.c.domain_id == domain_id, _BLOB.c.id > last)
                    .where(sealed_under(_BLOB.c.envelope, old, ENVELOPE_BOX_AT))
                    .order_by(_BLOB.c.id)
                    .limit(BATCH)
                ).all()
            if not rows:
                return
            last = rows[-1].id
            changes = []
            for row in rows:
                handle = BlobHandle(Locator(row.locator), Digest(row.sha256), row.size_bytes, row.envelope)
                try:
                    changes.append({"at": row.id, "before": row.envelope, "after": store.rewrap(handle).envelope})
                except Damaged as error:
                    one.failed.append(f"blob {row.sha256}: {error}")
            if changes:
                self._db.retry(partial(_change_blobs, changes))
            one.moved += len(changes)
            work.told(one.owner, one.moved)

    def _move_field(self, each: SealedField, one: Rotated, old: Collection[str], work: Work) -> None:
        domain_id = one.owner.domain_id if each.domain is not None else None
        ring = self._stores.keyring(domain_id) if domain_id is not None else self._stores.server_keyring()
        key, after = [column.name for column in each.key], None
        while not work.wait(0):
            query = each.of(domain_id).where(sealed_under(each.column, old)).order_by(*each.key).limit(BATCH)
            if after is not None:
                query = query.where(tuple_(*each.key) > tuple_(*after))
            with self._db.read() as session:
                rows = session.execute(query).all()
            if not rows:
                return
            after = [getattr(rows[-1], name) for name in key]
            changes = []
            for row in rows:
                try:
                    plain = ring.unseal(getattr(row, each.box), each.context(row))
                except Damaged as error:
                    one.failed.append(f"{each.what}, row {'/'.join(str(getattr(row, name)) for name in key)}: {error}")
                else:
                    changes.append((row, ring.seal(plain, each.context(row))))
            self._db.retry(partial(_change_field, each, changes, domain_id))
            one.moved += len(changes)
            work.told(one.owner, one.moved)

    def _retire(self, one: Rotated, work: Work) -> None:
        def unit(session: Session) -> None:
            _alone(session, one.owner)
            keys = keys_of(session, one.owner.domain_id)
            current = current_key(keys)
            for key in keys:
                if key is not current and key.retired_at is None and key.destroyed_at is None:
                    key.retired_at = self._clock()
                    audit.record(session, self._clock(), work.actor, "keys.retire", one.owner.name, key=key.id)

        self._db.retry(unit)


def _change_blobs(changes: Sequence[dict[str, Any]], session: Session) -> None:
    session.connection().execute(_CHANGE_BLOB, changes)


def _change_field(
    each: SealedField, changes: Sequence[tuple[Row[Any], bytes]], domain_id: int | None, session: Session
) -> None:
    # What a table renews with each change (a version's revision) stays: the same is kept, under another key.
    same = {column.name: column for column in each.table.columns if column.onupdate is not None}
    for row, box in changes:
        here = [column == getattr(row, column.name) for column in each.key]
        before = getattr(row, each.box)
        session.execute(update(each.table).where(*here, each.column == before).values({**same, each.box: box}))
    if changes and domain_id is not None and each.changed is not None:
        each.changed(session, domain_id)


def _alone(session: Session, owner: Owner) -> None:
    """Have other rotations of this owner wait (SQLite's writers do in any case)."""
    if owner.domain_id is not None:
        session.execute(select(Domain.id).where(Domain.id == owner.domain_id).with_for_update())
    else:
        session.execute(select(DomainKey.id).where(DomainKey.domain_id.is_(None)).with_for_update())
