"""What is sent to one webhook because somebody has named it: the calls of deployments' hooks. In the caller's transaction.

The endpoint's filter does not matter, and no other endpoint is told. Address, signature, attempts and record are those of
every delivery.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.models.notification import WebhookDelivery, WebhookEndpoint
from hooks.notifications import endpoints
from hooks.notifications.audience import Audience
from hooks.notifications.envelope import compose
from hooks.notifications.fanout import wake
from hooks.notifications.filters import is_entitled, place_of
from registry import events
from registry.errors import Conflict, NotFound
from registry.models import Account

HOOK_CALLED = events.declare(
    "deployment-hook.called",
    "A lifecycle event's hook is asked for: of the webhook that the group names, and of no other.",
)


class HookCaller:
    """Tells webhooks of hooks. ``source`` is the server's address."""

    def __init__(self, source: str, audience: Audience) -> None:
        self._source = source
        self._audience = audience

    def __call__(self, session: Session, webhook: int, data: Mapping[str, Any], now: datetime) -> None:
        """Send ``data`` to a webhook. Its ``domain`` has to be one that the webhook's owner administers.

        Raises NotFound for a webhook that is not there, or is another domain's, Conflict for one that is switched off.
        """
        row, place = session.get(WebhookEndpoint, webhook), place_of(data)
        owner = None if row is None else session.get(Account, row.owner_id)
        if row is None or owner is None or row.domain not in {None, place.domain}:
            raise NotFound("webhook", str(webhook))
        if owner.is_disabled or not is_entitled(self._audience.member(session, owner, now), place):
            raise NotFound("webhook", str(webhook))
        if not row.is_enabled:
            raise Conflict(f"webhook {webhook} is disabled; enable it first")
        event_id = f"hook-{uuid.uuid4().hex}"
        body = compose(
            event_id=event_id, kind=HOOK_CALLED, source=self._source, subject=place.path, occurred_at=now, data=data
        )
        session.add(
            WebhookDelivery(
                id=f"msg_{uuid.uuid4().hex}",
                endpoint_id=row.id,
                kind=HOOK_CALLED,
                domain=place.domain,
                body=body,
                state=endpoints.PENDING,
                due_at=now,
                created_at=now,
            )
        )
        session.flush()
        wake(session, row.id)
