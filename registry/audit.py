"""The audit log's one door: an entry is written in the transaction of the change it tells of.

Entries are chained as late as possible: ``record`` keeps them with the session, and just before the commit they get
their numbers and hashes under a lock that ends with the transaction. Writers therefore wait for each other only while
one of them commits, the numbers have no gaps, and a transaction that is rolled back or tried again leaves none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import event, insert, select, text
from sqlalchemy.orm import Session, SessionTransaction

from registry import events
from registry.audit_chain import START, Link, canonical, hash_of
from registry.db import table_of
from registry.models.audit import AuditEntry

_PENDING = "entrepot_audit"
_TABLE = table_of(AuditEntry)
_HEAD = select(_TABLE.c.seq, _TABLE.c.hash).order_by(_TABLE.c.seq.desc()).limit(1)
_INSERT = insert(_TABLE)
# Any number that nothing else in the database uses as a lock; held until the transaction has ended.
_LOCK = text("SELECT pg_advisory_xact_lock(7310579420113501)")


@dataclass(frozen=True, slots=True)
class Origin:
    """The request behind an entry: how the caller proved who they are, its peer's address, and an id of its own."""

    via: str | None
    address: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _Pending:
    """An entry that waits for the commit, and the (nested) transaction it was made in."""

    link: Link
    transaction: SessionTransaction | None


_NOWHERE = Origin(None, None, None)
_origin: ContextVar[Origin] = ContextVar("entrepot_audit_origin", default=_NOWHERE)


def comes_from(origin: Origin | None) -> None:
    """Say for this thread what request the entries to come are made in; None: in no request."""
    _origin.set(origin or _NOWHERE)


def proved_by(via: str) -> None:
    """Say how the caller of this request proved who they are, where a form, a body or a link does and no credential."""
    _origin.set(replace(_origin.get(), via=via[:32]))


def record(session: Session, now: datetime, actor: str, action: str, obj: str, **details: Any) -> None:
    """Add an entry: ``actor`` did ``action`` (dotted word) to ``obj`` (a path); ``details`` hold no secret.

    Written at the commit of ``session``, or not at all. Those that ``events.audited`` names become events as well.
    """
    origin = _origin.get()
    link = Link(
        seq=0,
        at=now,
        actor=_one_line(actor, 100),
        action=action,
        object=_one_line(obj, 500),
        # As they will be read again: what is hashed must not depend on tuples, or on keys that are no texts.
        details=json.loads(canonical(details)),
        via=origin.via,
        address=origin.address and _one_line(origin.address, 100),
        request_id=origin.request_id,
    )
    inner = session.get_nested_transaction() or session.get_transaction()
    session.info.setdefault(_PENDING, []).append(_Pending(link, inner))
    events.follow(session, now, actor, action, obj, details)


def _one_line(value: str, limit: int) -> str:
    """``value`` without what a terminal or a database would stumble over, cut to ``limit`` characters."""
    if value.isprintable():
        return value[:limit]
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in value[:limit]
    )[:limit]


@event.listens_for(Session, "before_commit")
def _chain(session: Session) -> None:
    if _PENDING not in session.info or session.in_nested_transaction():
        return
    # Everything else goes first: what comes after the lock makes others wait.
    session.flush()
    waiting: list[_Pending] = session.info.pop(_PENDING)
    if waiting:
        append(session, (entry.link for entry in waiting))


def append(session: Session, links: Iterable[Link]) -> None:
    """Write ``links`` behind the head of the log; nothing else is to be done in the transaction after it."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)
    head = connection.execute(_HEAD).first()
    seq, previous = (head.seq, head.hash) if head is not None else (0, START)
    rows = []
    for link in links:
        seq += 1
        chained = replace(link, seq=seq, previous_hash=previous)
        previous = hash_of(chained)
        rows.append(
            {
                "seq": seq,
                "at": link.at,
                "actor": link.actor,
                "action": link.action,
                "object": link.object,
                "details": link.details,
                "via": link.via,
                "address": link.address,
                "request_id": link.request_id,
                "previous_hash": chained.previous_hash,
                "hash": previous,
            }
        )
    connection.execute(_INSERT, rows)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, ended: SessionTransaction) -> None:
    waiting: list[_Pending] = session.info.get(_PENDING, [])
    if waiting:
        session.info[_PENDING] = [entry for entry in waiting if not _is_within(entry.transaction, ended)]


def _is_within(transaction: SessionTransaction | None, ended: SessionTransaction) -> bool:
    while transaction is not None and transaction is not ended:
        transaction = transaction.parent
    return transaction is ended
