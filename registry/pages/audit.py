"""The audit log, for administrators: who did what, from where, newest first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, render_template, request

from registry import audit_chain
from registry.access import Action, check
from registry.audit_chain import Link, Verdict
from registry.http import context
from registry.http.auth import page
from registry.pages.administration import READ_AUDIT
from registry.repos import audit_log, checkpoints

PAGE_OF_ENTRIES = 50
_LARGEST_SEQ = 2**62


@dataclass(frozen=True, slots=True)
class Filter:
    """What stands in the form; ``since`` and ``until`` are days (``2026-01-31``), both of them included."""

    actor: str
    action: str
    object: str
    since: str
    until: str

    @property
    def is_empty(self) -> bool:
        """Whether everything is shown."""
        return not any((self.actor, self.action, self.object, self.since, self.until))


def routes(pages: Blueprint) -> None:
    """Add the route."""
    pages.add_url_rule("/audit", "audit", _audit)
    pages.add_url_rule("/audit/verify", "verify_audit", _verify, methods=["POST"])
    pages.add_url_rule("/audit/export.jsonl", "export_audit", _export)


def _check() -> None:
    check(context.caller(), Action.ADMIN, permission=READ_AUDIT)


def _chosen() -> Filter:
    return Filter(
        actor=_text("actor", 100),
        action=_text("action", 64),
        object=_text("object", 500),
        since=_day("since"),
        until=_day("until"),
    )


@page
def _audit() -> str:
    _check()
    return _shown(None)


@page
def _verify() -> str:
    """Follow the newest entries. Changes nothing; asked for with a form, because it takes a second."""
    _check()
    services = context.services()
    with services.db.read() as session:
        vouched = [each.vouched for each in checkpoints.kept(session)]
    return _shown(audit_log.check_newest(services.db, vouched, most=audit_log.LOOKED_AT))


@page
def _export() -> Response:
    """What the filter lets through as JSON lines, oldest first."""
    _check()
    db, wanted = context.services().db, _wanted(_chosen())

    def lines() -> Iterator[str]:
        for link in audit_log.export(db, wanted):
            yield audit_chain.line(link) + "\n"

    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"', "Cache-Control": "no-store"}
    return Response(lines(), content_type="application/x-ndjson", headers=headers)


def _shown(verdict: Verdict | None) -> str:
    chosen = _chosen()
    before = _before(request.args.get("before", ""))
    with context.services().db.read() as session:
        found = audit_log.page(session, _wanted(chosen), before=before, limit=PAGE_OF_ENTRIES + 1)
        checkpoint = checkpoints.newest(session)
    shown = found[:PAGE_OF_ENTRIES]
    return render_template(
        "audit.html",
        entries=[(link, _details(link)) for link in shown],
        chosen=chosen,
        before=before,
        verdict=verdict,
        checkpoint=checkpoint,
        next_before=shown[-1].seq if len(found) > len(shown) else None,
    )


def _text(name: str, limit: int) -> str:
    return request.args.get(name, "").strip()[:limit]


def _day(name: str) -> str:
    text = request.args.get(name, "").strip()
    try:
        return datetime.fromisoformat(text).date().isoformat() if len(text) == len("2026-01-31") else ""
    except ValueError:
        return ""


def _before(text: str) -> int | None:
    return min(int(text), _LARGEST_SEQ) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _wanted(chosen: Filter) -> audit_log.Wanted:
    return audit_log.Wanted(
        actor=chosen.actor,
        action=chosen.action,
        object_prefix=chosen.object,
        since=_midnight(chosen.since) if chosen.since else None,
        until=_midnight(chosen.until) + timedelta(days=1) if chosen.until and chosen.until < "9999" else None,
    )


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _details(link: Link) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(link.details.items())
        if value is not None
    ]
