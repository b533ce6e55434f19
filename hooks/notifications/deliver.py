"""The job that delivers what is due to one endpoint.

Attempts are made by some threads at a time; whatever has ended meanwhile is recorded in one transaction. An answer and
its record are two things: a worker killed between them leaves the delivery due, and it is sent again under the same
``webhook-id``: at least once.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.context import JobContext
from hooks.models.job import JobState
from hooks.models.notification import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from hooks.notifications import endpoints, schedule, signing
from hooks.notifications.audience import Audience
from hooks.notifications.fanout import PING
from hooks.notifications.filters import is_entitled, place_of
from hooks.notifications.payloads import render
from hooks.notifications.sending import Answer, Post, Sender
from registry.clock import Clock
from registry.db import Database
from registry.models import Account

TURN_SECONDS = 20.0
"""An endpoint with much to be sent gives others their turn after so long."""
SYSTEM = "system"

Told = Callable[[Session, WebhookEndpoint, str, datetime], None]
"""Tells an endpoint's owner that it was disabled, and why, in the transaction that does it."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A delivery to be attempted, as it was read; ``secrets`` sign it."""

    id: str
    url: str
    media_type: str
    body: bytes = field(repr=False)
    secrets: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Tried:
    id: str
    at: datetime
    answer: Answer


class Deliverer:
    """The handler. ``concurrency`` attempts are under way to one endpoint at a time; ``base_url`` is where links lead."""

    def __init__(
        self,
        db: Database,
        sender: Sender,
        sealer: Callable[[], endpoints.Sealer],
        clock: Clock,
        *,
        audience: Audience,
        concurrency: int,
        tell_owner: Told,
        base_url: str = "",
    ) -> None:
        self._db = db
        self._sender = sender
        self._sealer = sealer
        self._clock = clock
        self._audience = audience
        self._base_url = base_url
        self._concurrency = concurrency
        # So many are handed to the threads at a time: they go on while what has ended is being recorded.
        self._ahead = 4 * concurrency
        self._tell_owner = tell_owner

    def __call__(self, context: JobContext) -> None:
        """Deliver what is due to an endpoint, and end when nothing is or its turn is over.

        Running twice is harmless: what was sent and not recorded is sent again under the same id.
        """
        post = self._sender.open()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="deliver")
        try:
            self._take_turn(context, int(context.payload["endpoint_id"]), pool, post)
        finally:
            # Who lost the job must not send what its next holder sends.
            pool.shutdown(cancel_futures=True)
            post.close()
        context.finish(JobState.SUCCEEDED)

    def _take_turn(self, context: JobContext, endpoint_id: int, pool: ThreadPoolExecutor, post: Post) -> None:
        end = time.monotonic() + TURN_SECONDS
        running: dict[Future[_Tried], str] = {}
        goes_on = True
        while True:
            goes_on = goes_on and time.monotonic() < end and not context.should_stop()
            if not goes_on:
                running = {future: name for future, name in running.items() if not future.cancel()}
            elif len(running) <= self._ahead // 2:
                for due in self._due(context, endpoint_id, set(running.values())):
                    running[pool.submit(self._attempt, post, due)] = due.id
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            tried = [future.result() for future in done]
            goes_on = context.step(functools.partial(self._record, endpoint_id, tried)) and goes_on
            for future in done:
                del running[future]

    def _attempt(self, post: Post, due: _Due) -> _Tried:
        at = self._clock()
        headers = {
            "Content-Type": due.media_type,
            **signing.headers(due.id, int(at.timestamp()), due.body, due.secrets),
        }
        return _Tried(due.id, at, post.send(due.url, headers, due.body))

    def _due(self, context: JobContext, endpoint_id: int, busy: set[str]) -> list[_Due]:
        """The next deliveries, oldest first. What the owner may not see any more is discarded (J4)."""
        now = self._clock()
        with self._db.read() as session:
            endpoint = session.get(WebhookEndpoint, endpoint_id)
            if endpoint is None or not endpoint.is_enabled or (endpoint.quiet_until and endpoint.quiet_until > now):
                return []
            owner = session.get_one(Account, endpoint.owner_id)
            rows = session.scalars(
                select(WebhookDelivery)
                .where(
                    WebhookDelivery.endpoint_id == endpoint_id,
                    WebhookDelivery.state == endpoints.PENDING,
                    WebhookDelivery.due_at <= now,
                    WebhookDelivery.id.not_in(busy),
                )
                .order_by(WebhookDelivery.due_at, WebhookDelivery.created_at)
                .limit(self._ahead - len(busy))
            ).all()
            if not rows:
                return []
            who = self._audience.member(session, owner, now)
        secrets = endpoints.secrets_of(self._sealer(), endpoint, now)
        allowed = [
            row
            for row in rows
            if not owner.is_disabled and (row.kind == PING or is_entitled(who, place_of(json.loads(row.body)["data"])))
        ]
        if len(allowed) < len(rows):
            kept = {row.id for row in allowed}
            context.step(lambda session: _discard(session, [row.id for row in rows if row.id not in kept], now))
        return [
            _Due(row.id, endpoint.url, *render(endpoint.payload, row.body, self._base_url), secrets) for row in allowed
        ]

    def _record(self, endpoint_id: int, tried: Sequence[_Tried], session: Session) -> bool:
        """Write down how attempts went, and what follows; False when nothing more is to be sent now."""
        endpoint = session.get(WebhookEndpoint, endpoint_id)
        if endpoint is None:
            return False  # it was deleted with all its records
        now = self._clock()
        for attempt in tried:
            row = session.get(WebhookDelivery, attempt.id)
            if row is not None:
                self._record_one(session, endpoint, row, attempt, now)
        return endpoint.is_enabled and not (endpoint.quiet_until and endpoint.quiet_until > now)

    def _record_one(
        self, session: Session, endpoint: WebhookEndpoint, row: WebhookDelivery, tried: _Tried, now: datetime
    ) -> None:
        answer = tried.answer
        is_good = answer.status is not None and 200 <= answer.status < 300
        error = answer.error or _complaint(answer.status, is_good=is_good)
        row.attempts += 1
        row.step += 1
        session.add(
            WebhookAttempt(
                delivery_id=row.id,
                number=row.attempts,
                at=tried.at,
                took_ms=answer.took_ms,
                status=answer.status,
                error=error,
                answer=answer.body,
            )
        )
        if is_good:
            row.state, row.reason, row.ended_at = endpoints.SUCCEEDED, "", now
            return
        if row.state != endpoints.PENDING:
            return  # the endpoint was disabled meanwhile
        row.reason = error
        wait_seconds = schedule.wait_seconds(row.step, random.random())  # noqa: S311  (spreads retries, hides nothing)
        if answer.status == 410 or wait_seconds is None:
            row.state, row.ended_at = endpoints.FAILED, now
            session.flush()
            self._switch_off(session, endpoint, row, now)
            return
        if answer.status in {429, 503}:
            asked_seconds = schedule.retry_after_seconds(answer.retry_after, now)
            if asked_seconds:
                endpoint.quiet_until = now + timedelta(seconds=asked_seconds)
                wait_seconds = max(wait_seconds, asked_seconds)
        row.due_at = now + timedelta(seconds=wait_seconds)

    def _switch_off(self, session: Session, endpoint: WebhookEndpoint, row: WebhookDelivery, now: datetime) -> None:
        gone = row.step < len(schedule.DELAYS_SECONDS)
        reason = (
            "it answered 410 Gone" if gone else f"{row.step} attempts of one delivery failed; the last: {row.reason}"
        )
        if endpoints.disable(session, SYSTEM, endpoint, reason, now):
            self._tell_owner(session, endpoint, reason, now)


def _discard(session: Session, ids: Sequence[str], now: datetime) -> None:
    for row in session.scalars(select(WebhookDelivery).where(WebhookDelivery.id.in_(ids))):
        row.state, row.ended_at = endpoints.DISCARDED, now
        row.reason = "the endpoint's owner may not see this event"


def _complaint(status: int | None, *, is_good: bool) -> str:
    if is_good or status is None:
        return ""
    if 300 <= status < 400:
        return f"it answered {status}: redirects are not followed"
    return f"it answered {status}"
