"""Reading the audit log: pages of it for people, all of it for exports, and whether it is still what was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry.audit_chain import Link, Verdict, Vouched, verify
from registry.db import Database
from registry.models import AuditEntry

LOOKED_AT = 20_000
"""How many of the newest entries are followed where somebody waits for the answer: about a second's work."""
_AT_ONCE = 500
_BELOW_ALL = -(2**62)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: an empty text or None leaves a condition out. ``since`` is included, ``until`` is not."""

    actor: str = ""
    action: str = ""
    object_prefix: str = ""
    since: datetime | None = None
    until: datetime | None = None


class Unreadable(Exception):
    """An entry holds a value that no entry can have."""


def page(session: Session, wanted: Wanted, *, before: int | None, limit: int) -> list[Link]:
    """The newest ``limit`` entries with a sequence number below ``before``."""
    query = _matching(wanted).order_by(AuditEntry.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return [_link(row) for row in session.scalars(query)]


def actions(session: Session) -> list[str]:
    """Every action that has an entry, in order."""
    return list(session.scalars(select(AuditEntry.action).distinct().order_by(AuditEntry.action)))


def export(db: Database, wanted: Wanted = Wanted(), *, after: int = _BELOW_ALL) -> Iterator[Link]:
    """All entries behind ``after`` that are wanted, oldest first, in constant memory and short transactions.

    Raises Unreadable.
    """
    last, at_once = after, _AT_ONCE
    while True:
        query = _matching(wanted).where(AuditEntry.seq > last).order_by(AuditEntry.seq).limit(at_once)
        try:
            with db.read() as session:
                found = [_link(row) for row in session.scalars(query)]
        except (ValueError, TypeError, AttributeError) as error:
            # A value that somebody else wrote: the entries before it are given out before it is told.
            if at_once == 1:
                raise Unreadable(f"the entry after {last} cannot be read") from error
            at_once = 1
            continue
        if not found:
            return
        yield from found
        last = found[-1].seq


def check(db: Database, vouched: Iterable[Vouched] = ()) -> Verdict:
    """Follow the whole log, and compare it with what checkpoints vouch for."""
    return _followed(db, vouched, behind=0)


def check_newest(db: Database, vouched: Iterable[Vouched], *, most: int) -> Verdict:
    """Follow the newest ``most`` entries, the whole log where it has no more; what they begin with is believed.

    A log that ends before a checkpoint is found out as well: such a checkpoint is never left aside.
    """
    with db.read() as session:
        head = session.scalar(select(func.max(AuditEntry.seq))) or 0
    behind = max(0, head - most)
    return _followed(db, (point for point in vouched if point.seq > behind), behind=behind)


def _followed(db: Database, vouched: Iterable[Vouched], *, behind: int) -> Verdict:
    progress = [behind]

    def links() -> Iterator[Link]:
        for link in export(db, after=behind or _BELOW_ALL):
            yield link
            progress[0] = link.seq

    points = list(vouched)
    try:
        found = verify(links(), points, is_part=behind > 0)
    except Unreadable:
        seq = progress[0] + 1
        first = behind + 1 if progress[0] > behind else 0
        return Verdict(first, progress[0], "", bad_seq=seq, fault=f"entry {seq} holds what no entry can hold")
    beyond = max((point.seq for point in points), default=0)
    if found.fault is None and found.last < beyond:
        return replace(
            found,
            bad_seq=found.last + 1,
            fault=f"the log ends with entry {found.last}, but a checkpoint vouches for entry {beyond}",
        )
    return found


def _matching(wanted: Wanted) -> Select[AuditEntry]:
    query = select(AuditEntry)
    if wanted.actor:
        query = query.where(AuditEntry.actor == wanted.actor)
    if wanted.action:
        query = query.where(AuditEntry.action == wanted.action)
    if wanted.object_prefix:
        # Not LIKE, which is blind to case on one of the databases.
        query = query.where(func.substr(AuditEntry.object, 1, len(wanted.object_prefix)) == wanted.object_prefix)
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    return query


def _link(row: AuditEntry) -> Link:
    return Link(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        object=row.object,
        details=row.details,
        via=row.via,
        address=row.address,
        request_id=row.request_id,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
