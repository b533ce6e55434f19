"""From events to what is sent: one delivery for each endpoint that wants it, in the transaction that handles the event."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.job import Job, JobState
from hooks.models.notification import WebhookDelivery, WebhookEndpoint
from hooks.notifications import endpoints
from hooks.notifications.audience import Audience
from hooks.notifications.envelope import compose
from hooks.notifications.filters import is_entitled, place_of
from registry import audit, events
from registry.db import Database
from registry.errors import Conflict
from registry.models import Event

QUEUE = "notifications"
JOB_KIND = "deliver_webhooks"
PING = events.declare("webhook.ping", "Somebody tries a webhook endpoint out.")


class Fanout:
    """Makes deliveries. ``source`` is the server's address: the CloudEvents source."""

    def __init__(self, source: str, audience: Audience) -> None:
        self._source = source
        self._audience = audience

    def consume(self, session: Session, rows: Sequence[Event], now: datetime) -> None:
        """What endpoints are to be told of ``rows``; called in the transaction that marks them as handled."""
        known = [row for row in rows if row.kind in events.CATALOGUE]
        recipients = endpoints.recipients(session) if known else ()
        revision = self._audience.revision(session) if recipients else None
        for endpoint, owner in recipients:
            wanted, who = endpoints.filter_of(endpoint), self._audience.member(session, owner, now, at=revision)
            chosen = []
            for row in known:
                place = place_of(row.payload)
                if wanted.matches(row.kind, place) and is_entitled(who, place):
                    chosen.append(row)
            session.add_all([self._delivery(endpoint, row, str(row.id), now) for row in chosen])
            if chosen:
                session.flush()
                wake(session, endpoint.id)

    def ping(self, session: Session, endpoint: WebhookEndpoint, by: str, now: datetime) -> str:
        """Send an event of the kind ``webhook.ping``, whatever the filter; gives the delivery's id. Raises Conflict."""
        if not endpoint.is_enabled:
            raise Conflict("the webhook is disabled; enable it first")
        row = Event(kind=PING, payload={"webhook": str(endpoint.id), "by": by}, occurred_at=now)
        # It is in nobody's outbox, and so has no number of its own there.
        delivery = self._delivery(endpoint, row, f"ping-{uuid.uuid4().hex}", now)
        session.add(delivery)
        session.flush()
        audit.record(session, now, by, "webhook.ping", endpoints.path(endpoint))
        wake(session, endpoint.id)
        return delivery.id

    def _delivery(self, endpoint: WebhookEndpoint, row: Event, event_id: str, now: datetime) -> WebhookDelivery:
        place = place_of(row.payload)
        message_id = f"msg_{uuid.uuid4().hex}"  # no dot: it would end the field in what is signed
        body = compose(
            event_id=event_id,
            kind=row.kind,
            source=self._source,
            subject=place.path,
            occurred_at=row.occurred_at,
            data=row.payload,
        )
        return WebhookDelivery(
            id=message_id,
            endpoint_id=endpoint.id,
            kind=row.kind,
            domain=place.domain,
            repository=place.repository,
            body=body,
            state=endpoints.PENDING,
            due_at=now,
            created_at=now,
        )


def wake(session: Session, endpoint_id: int) -> None:
    """See to a job that delivers what is due to an endpoint; one at a time, however much waits."""
    enqueue(
        session,
        JOB_KIND,
        {"endpoint_id": endpoint_id},
        queue=QUEUE,
        dedupe=_dedupe(endpoint_id),
        subject=f"webhook:{endpoint_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )


def wake_due(db: Database, now: datetime) -> int:
    """Jobs for all endpoints with something due and no job; how many. Only reads when there are none.

    The rows alone say what is to be sent: a job that ended just before a delivery came is made up for here.
    """
    with db.read() as session:
        due = session.scalars(
            select(WebhookDelivery.endpoint_id)
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .where(
                WebhookDelivery.state == endpoints.PENDING,
                WebhookDelivery.due_at <= now,
                WebhookEndpoint.is_enabled,
                or_(WebhookEndpoint.quiet_until.is_(None), WebhookEndpoint.quiet_until <= now),
            )
            .distinct()
        ).all()
        open_jobs = select(Job.dedupe).where(Job.queue == QUEUE, Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
        busy = set(session.scalars(open_jobs)) if due else set()
    waiting = [endpoint_id for endpoint_id in due if _dedupe(endpoint_id) not in busy]
    if waiting:
        with db.write() as session:
            for endpoint_id in waiting:
                wake(session, endpoint_id)
    return len(waiting)


def _dedupe(endpoint_id: int) -> str:
    return f"webhook:{endpoint_id}"
