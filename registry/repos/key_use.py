"""The keys of a domain or of the server: which there are, what state they are in, and what still uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Executable, func, select
from sqlalchemy.orm import Session

from registry.db import Database, table_of
from registry.errors import NotFound
from registry.models import Blob, Domain, DomainKey
from registry.repos.sealed_fields import SealedField, key_id_in
from registry.stores import DomainStores, context_of, current_key, handle_of, keys_of
from storage.encrypted import ENVELOPE_BOX_AT
from storage.errors import StorageError

CURRENT, RETIRING, RETIRED, DESTROYED = "current", "retiring", "retired", "destroyed"
SERVER_NAME = "(server)"
"""How the server's own keys are listed, beside names of domains; no domain can be called so."""

_BLOB = table_of(Blob)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys: a domain's, or the server's own (``domain_id`` None)."""

    domain_id: int | None
    name: str


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key and how many bodies and sealed fields it still wraps.

    ``state`` is ``current`` (it encrypts), ``retiring`` (another does, and what it wraps is being wrapped anew),
    ``retired`` (nothing uses it) or ``destroyed``. ``master_key`` is the master key that wraps it, null where the
    settings name no provider that did, and once it is destroyed.
    """

    domain: str
    id: str
    state: str
    created_at: datetime
    retired_at: datetime | None
    destroyed_at: datetime | None
    master_key: str | None
    blobs: int
    fields: int


def owners(session: Session) -> list[Owner]:
    """The server, where it has keys of its own, and all domains by name."""
    has_own = session.scalar(select(DomainKey.id).where(DomainKey.domain_id.is_(None)).limit(1)) is not None
    domains = [Owner(row.id, row.name) for row in session.scalars(select(Domain).order_by(Domain.name))]
    return ([Owner(None, SERVER_NAME)] if has_own else []) + domains


def owner_named(session: Session, name: str) -> Owner:
    """A domain, or the server by SERVER_NAME. Raises NotFound."""
    for owner in owners(session):
        if owner.name == name:
            return owner
    raise NotFound("domain", name)


def key_uses(session: Session, stores: DomainStores, fields: Sequence[SealedField], owner: Owner) -> list[KeyUse]:
    """The keys of an owner, oldest first, and what uses each."""
    rows = keys_of(session, owner.domain_id)
    current = current_key(rows)
    blobs, boxes = count_blobs(session, owner), count_fields(session, fields, owner)
    return [
        KeyUse(
            owner.name,
            row.id,
            _state(row, is_current=row is current, is_used=bool(blobs[row.id] + boxes[row.id])),
            row.created_at,
            row.retired_at,
            row.destroyed_at,
            stores.provider.master_of(row.wrapped) if row.wrapped else None,
            blobs[row.id],
            boxes[row.id],
        )
        for row in rows
    ]


def count_blobs(session: Session, owner: Owner) -> Counter[str]:
    """How many bodies each key wraps."""
    if owner.domain_id is None:
        return Counter()
    key_id = key_id_in(_BLOB.c.envelope, ENVELOPE_BOX_AT)
    return _counted(session, select(key_id, func.count()).where(_BLOB.c.domain_id == owner.domain_id).group_by(key_id))


def count_fields(session: Session, fields: Sequence[SealedField], owner: Owner) -> Counter[str]:
    """How many sealed fields each key seals: the owner's own, and the server's, which a domain's key may seal as well."""
    total: Counter[str] = Counter()
    for field in fields:
        if field.domain is None or owner.domain_id is not None:
            key_id = key_id_in(field.column)
            counting = field.of(owner.domain_id).with_only_columns(key_id, func.count()).group_by(key_id)
            total += _counted(session, counting)
    return total


def verify(
    db: Database,
    stores: DomainStores,
    fields: Sequence[SealedField],
    owner: Owner,
    *,
    sample: int | None,
    most_fields: int | None = None,
) -> Iterator[str]:
    """What does not open, one line each: keys, data keys of bodies (all, or ``sample`` of them), sealed fields.

    Of each column of sealed fields all are opened, or ``most_fields``.

    Nothing is looked at of an owner whose keys were destroyed. Raises KeyUnavailable or ProviderAway where the current
    key does not open.
    """
    with db.read() as session:
        if current_key(keys_of(session, owner.domain_id)) is None:
            return
    ring = stores.keyring(owner.domain_id)
    ring.refresh()
    for key_id, reason in ring.check().items():
        yield f"key {key_id} of {context_of(owner.domain_id)}: {reason}"
    if owner.domain_id is not None:
        yield from _verify_blobs(db, stores, owner.domain_id, sample)
    for field in fields:
        if (field.domain is None) == (owner.domain_id is None):
            yield from _verify_field(db, stores, field, owner, most_fields)


def _verify_blobs(db: Database, stores: DomainStores, domain_id: int, sample: int | None) -> Iterator[str]:
    store, last, batch = stores.of(domain_id), 0, 500
    while True:
        query = select(Blob).where(Blob.domain_id == domain_id)
        if sample is None:
            query = query.where(Blob.id > last).order_by(Blob.id).limit(batch)
        else:
            query = query.order_by(func.random()).limit(sample)
        with db.read() as session:
            blobs = session.scalars(query).all()
        for blob in blobs:
            try:
                store.check_envelope(handle_of(blob))
            except StorageError as error:
                yield f"blob {blob.sha256}: {error}"
        if sample is not None or not blobs:
            return
        last = blobs[-1].id


def _verify_field(
    db: Database, stores: DomainStores, field: SealedField, owner: Owner, most: int | None
) -> Iterator[str]:
    ring = stores.keyring(owner.domain_id)
    query = field.of(owner.domain_id)
    if most is not None:
        query = query.order_by(func.random()).limit(most)
    with db.read() as session:
        for row in session.execute(query).yield_per(200):
            try:
                ring.unseal(getattr(row, field.box), field.context(row))
            except StorageError as error:
                place = "/".join(str(getattr(row, column.name)) for column in field.table.primary_key.columns)
                yield f"{field.what}, row {place}: {error}"


def _state(row: DomainKey, *, is_current: bool, is_used: bool) -> str:
    if row.destroyed_at is not None:
        return DESTROYED
    if is_current:
        return CURRENT
    return RETIRED if row.retired_at is not None and not is_used else RETIRING


def _counted(session: Session, query: Executable) -> Counter[str]:
    # Rows of before the sealing, and of plain stores, name no key.
    named = {bytes(key).decode("ascii", "replace"): count for key, count in session.execute(query) if key}
    return Counter(named)
