"""Where actions of the provider Webhook send their jobs: by name, with address and secret sealed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionWebhook
from hooks.secret_store.store import Sealer
from registry import audit, events
from registry.db import table_of
from registry.errors import Conflict, Invalid, NotFound
from registry.repos.sealed_fields import SealedField

NAME = re.compile(r"[A-Za-z0-9@_-]{1,80}\Z")
MOST_WEBHOOKS = 200
LONGEST_DESCRIPTION = 200

_SHAPE = "-/action-webhook"
events.audited("action_webhook.put", "action-webhook.changed", _SHAPE, tells="An action webhook was made or changed.")
events.audited("action_webhook.delete", "action-webhook.deleted", _SHAPE, tells="An action webhook was removed.")


@dataclass(frozen=True, slots=True)
class Target:
    """An address, and the secret that signs what goes there (Standard Webhooks)."""

    url: str = field(repr=False)
    secret: str = field(repr=False)


def put(
    session: Session,
    sealer: Sealer,
    name: str,
    target: Target,
    *,
    description: str | None,
    fingerprint: str,
    actor: str,
    now: datetime,
) -> ActionWebhook:
    """Make a webhook, or give it another address and secret. ``target`` was checked. Raises Invalid, Conflict."""
    if not NAME.match(name):
        raise Invalid("a name has 1 to 80 letters, digits, '@', '_' and '-'")
    if description is not None and len(description) > LONGEST_DESCRIPTION:
        raise Invalid(f"the description has at most {LONGEST_DESCRIPTION} characters")
    row = session.scalar(select(ActionWebhook).where(ActionWebhook.name == name).with_for_update())
    if row is None:
        if len(list_webhooks(session)) >= MOST_WEBHOOKS:
            raise Conflict(f"there are {MOST_WEBHOOKS} action webhooks already; delete one first")
        row = ActionWebhook(name=name, sealed=b"", fingerprint="", created_by=actor, created_at=now, updated_at=now)
        session.add(row)
        try:
            session.flush()
        except IntegrityError as error:
            raise Conflict(f"action webhook {name} was made meanwhile; try again") from error
    row.description = row.description if description is None else description
    row.sealed = sealer.seal(json.dumps({"url": target.url, "secret": target.secret}).encode(), _context(row.id))
    row.fingerprint, row.updated_at = fingerprint, now
    audit.record(session, now, actor, "action_webhook.put", f"action-webhook/{name}", fingerprint=fingerprint)
    session.flush()
    return row


def list_webhooks(session: Session) -> Sequence[ActionWebhook]:
    """All of them by name."""
    return sorted(session.scalars(select(ActionWebhook)), key=lambda row: row.name)


def find(session: Session, name: str) -> ActionWebhook:
    """The webhook of that name. Raises NotFound."""
    row = session.scalar(select(ActionWebhook).where(ActionWebhook.name == name))
    if row is None:
        raise NotFound("action webhook", name[:100])
    return row


def delete(session: Session, name: str, *, actor: str, now: datetime) -> None:
    """Remove a webhook: actions that name it fail from here on. Raises NotFound."""
    session.delete(find(session, name))
    audit.record(session, now, actor, "action_webhook.delete", f"action-webhook/{name}")


def opened(sealer: Sealer, row: ActionWebhook) -> Target:
    """Address and secret. Raises storage.errors.Damaged or KeyUnavailable."""
    held = json.loads(sealer.unseal(row.sealed, _context(row.id)))
    return Target(held["url"], held["secret"])


def sealed_targets() -> SealedField:
    """Where they lie, for whoever rotates the server's keys."""
    table = table_of(ActionWebhook)
    rows = select(table.c.id, table.c.sealed)
    return SealedField("targets of action webhooks", table, "sealed", rows, lambda row: _context(row.id))


def _context(webhook_id: int) -> str:
    return f"action-webhook:{webhook_id}"
