"""The audit log, for administrators: who did what, from where, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from flask import Response

from registry import audit_chain
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.audit_chain import Link, moment
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires
from registry.repos import audit_log, checkpoints

JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """``object`` is what the object's path begins with; ``since`` and ``until`` are ISO 8601 moments, UTC if unsaid."""

    actor: Annotated[str, Length(0, 100)] = ""
    action: Annotated[str, Length(0, 64)] = ""
    object: Annotated[str, Length(0, 500)] = ""
    since: Annotated[str, Length(0, 64)] = ""
    until: Annotated[str, Length(0, 64)] = ""


@dataclass(frozen=True, slots=True)
class AuditQuery(AuditFilter):
    """``object`` is what the object's path begins with; ``since`` and ``until`` are ISO 8601 moments, UTC if unsaid."""

    after: Annotated[int, Between(1, 10**18)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class AuditEntryView:
    """An act. ``via`` is how the actor proved who they are; it, ``address`` and ``requestId`` are null outside requests.

    ``hash`` covers the entry and ``previousHash``, the hash of the entry before.
    """

    seq: int
    at: str
    actor: str
    action: str
    object: str
    details: dict[str, Any]
    via: str | None
    address: str | None
    request_id: str | None
    hash: str
    previous_hash: str


@dataclass(frozen=True, slots=True)
class AuditEntryList:
    """Entries, newest first; ``next`` goes into ``after`` for the older ones, null at the end."""

    items: tuple[AuditEntryView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """``firstSeq`` to ``lastSeq`` are sound (0 when nothing is); ``fault`` says what is wrong behind them, null for nothing.

    ``checkpoint`` is the newest one that the server made itself; null before the first.
    """

    is_sound: bool
    first_seq: int
    last_seq: int
    fault: str | None
    checkpoint: checkpoints.Made | None


def list_audit_entries(query: AuditQuery) -> AuditEntryList:
    """Who did what: entries of the audit log, newest first."""
    wanted = _wanted(query)
    with context.services().db.read() as session:
        found = audit_log.page(session, wanted, before=query.after, limit=query.limit + 1)
    shown = found[: query.limit]
    return AuditEntryList(tuple(_view(link) for link in shown), shown[-1].seq if len(found) > len(shown) else None)


def export_audit_log(query: AuditFilter) -> Response:
    """Entries as JSON lines, oldest first, each with its hashes: what `entrepot audit verify --file` checks."""
    wanted = _wanted(query)
    db = context.services().db

    def lines() -> Iterator[str]:
        for link in audit_log.export(db, wanted):
            yield audit_chain.line(link) + "\n"

    return Response(lines(), content_type=JSON_LINES, headers={"Cache-Control": "no-store"})


def verify_audit_log() -> AuditVerification:
    """Whether the newest entries still are what was written, and what the server's own checkpoints vouch for.

    The whole log, and checkpoints that are kept elsewhere, are verified by `entrepot audit verify`.
    """
    services = context.services()
    with services.db.read() as session:
        vouched, newest = [each.vouched for each in checkpoints.kept(session)], checkpoints.newest(session)
    found = audit_log.check_newest(services.db, vouched, most=audit_log.LOOKED_AT)
    return AuditVerification(found.fault is None, found.first, found.last, found.fault, newest)


def _wanted(query: AuditFilter) -> audit_log.Wanted:
    return audit_log.Wanted(
        actor=query.actor,
        action=query.action,
        object_prefix=query.object,
        since=_moment("since", query.since),
        until=_moment("until", query.until),
    )


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        # A plus sign that was not escaped arrives as a space.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"parameter {name!r} must be a moment, as 2026-01-31T12:00:00Z is one") from None


def _view(link: Link) -> AuditEntryView:
    return AuditEntryView(
        seq=link.seq,
        at=moment(link.at),
        actor=link.actor,
        action=link.action,
        object=link.object,
        details=dict(link.details),
        via=link.via,
        address=link.address,
        request_id=link.request_id,
        hash=link.hash,
        previous_hash=link.previous_hash,
    )


_read = requires(Action.ADMIN, permission="entrepot:ReadAuditLog")
ROUTES = (
    Route("GET", "/audit", _read, list_audit_entries, query=AuditQuery, answer=AuditEntryList),
    Route("GET", "/audit/export", _read, export_audit_log, query=AuditFilter, media_type=JSON_LINES),
    Route("GET", "/audit/verification", _read, verify_audit_log, answer=AuditVerification),
)
