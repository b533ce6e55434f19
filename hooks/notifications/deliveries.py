"""The records of deliveries: shown, delivered again, and removed in time."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, literal, select, tuple_, update
from sqlalchemy.orm import Session

from hooks.models.notification import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from hooks.notifications import endpoints
from hooks.notifications.fanout import wake
from hooks.notifications.payloads import render
from registry import audit
from registry.access import Identity
from registry.db import Database, UtcDateTime
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Event

_PURGE_BATCH = 500
STATES = (endpoints.PENDING, endpoints.SUCCEEDED, endpoints.FAILED, endpoints.DISCARDED)


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery without its attempts. ``reason`` says why it has not arrived, empty if it has."""

    id: str
    kind: str
    subject: str
    state: str
    reason: str
    attempts: int
    due_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try. ``answer`` is the first KiB of what came back; told to the endpoint's owner only, else null."""

    number: int
    at: datetime
    took_ms: int
    status: int | None
    error: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery with what was sent and how each attempt went."""

    delivery: DeliveryView
    body: str
    attempts: tuple[AttemptView, ...]


def listed(
    session: Session, endpoint: WebhookEndpoint, *, state: str | None, before: str | None, limit: int
) -> list[DeliveryView]:
    """An endpoint's deliveries, newest first, from behind the delivery ``before``.

    Raises Invalid for an unknown state, NotFound for an unknown delivery.
    """
    if state is not None and state not in STATES:
        raise Invalid(f"a delivery is {', '.join(STATES)}")
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    if before is not None:
        last = _find(session, endpoint, before)
        place = tuple_(WebhookDelivery.created_at, WebhookDelivery.id)
        statement = statement.where(place < tuple_(literal(last.created_at, UtcDateTime), last.id))
    newest = statement.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc()).limit(limit)
    return [_view(row) for row in session.scalars(newest)]


def detail(
    session: Session, endpoint: WebhookEndpoint, delivery_id: str, who: Identity, base_url: str
) -> DeliveryDetail:
    """One delivery, with what is sent of it as the endpoint is set now. Raises NotFound."""
    row = _find(session, endpoint, delivery_id)
    attempts = session.scalars(
        select(WebhookAttempt).where(WebhookAttempt.delivery_id == row.id).order_by(WebhookAttempt.number)
    )
    is_owner = endpoint.owner_id == who.account_id
    return DeliveryDetail(
        _view(row),
        render(endpoint.payload, row.body, base_url)[1].decode(),
        tuple(
            AttemptView(
                attempt.number,
                attempt.at,
                attempt.took_ms,
                attempt.status,
                attempt.error,
                attempt.answer if is_owner else None,
            )
            for attempt in attempts
        ),
    )


def redeliver(session: Session, who: Identity, endpoint: WebhookEndpoint, delivery_id: str, now: datetime) -> None:
    """Send again what has ended, under the same id, on a fresh schedule. Raises NotFound, Conflict."""
    row = _find(session, endpoint, delivery_id)
    if row.state == endpoints.PENDING:
        raise Conflict("the delivery is still being tried")
    _again(session, who, endpoint, WebhookDelivery.id == row.id, now)


def redeliver_failed(session: Session, who: Identity, endpoint: WebhookEndpoint, since: datetime, now: datetime) -> int:
    """Send again all that failed and came up since then; how many. Raises Conflict."""
    failed = (WebhookDelivery.state == endpoints.FAILED, WebhookDelivery.created_at >= since)
    return _again(session, who, endpoint, and_(*failed), now)


def purge(db: Database, older_than: datetime) -> None:
    """Remove records of deliveries, and events, that were over before then; in small batches."""
    delivery = select(WebhookDelivery.id).where(
        WebhookDelivery.created_at < older_than, WebhookDelivery.state != endpoints.PENDING
    )
    # The newest event stays: SQLite would give its number, which receivers know it by, to another one.
    newest = select(func.max(Event.id)).scalar_subquery()
    event = select(Event.id).where(Event.handled_at < older_than, Event.id < newest)
    for model, old in ((WebhookDelivery, delivery), (Event, event)):
        deleted = _PURGE_BATCH
        while deleted == _PURGE_BATCH:
            with db.read() as session:
                ids = session.scalars(old.limit(_PURGE_BATCH)).all()
            if ids:
                with db.write() as session:
                    session.execute(delete(model).where(model.id.in_(ids)))
            deleted = len(ids)


def _again(
    session: Session, who: Identity, endpoint: WebhookEndpoint, which: ColumnElement[bool], now: datetime
) -> int:
    if not endpoint.is_enabled:
        raise Conflict("the webhook is disabled; enable it first")
    ids = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint.id, which)
        .values(state=endpoints.PENDING, step=0, due_at=now, ended_at=None)
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    ).all()
    if ids:
        audit.record(session, now, who.name, "webhook.redeliver", endpoints.path(endpoint), deliveries=len(ids))
        wake(session, endpoint.id)
    return len(ids)


def _find(session: Session, endpoint: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    row = session.get(WebhookDelivery, delivery_id)
    if row is None or row.endpoint_id != endpoint.id:
        raise NotFound("delivery", delivery_id[:40])
    return row


def _view(row: WebhookDelivery) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        kind=row.kind,
        subject=_subject(row.body),
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        due_at=row.due_at if row.state == endpoints.PENDING else None,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _subject(body: str) -> str:
    envelope: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        envelope = json.loads(body)
    return str(envelope.get("subject", ""))
