"""Webhook endpoints: made, changed, switched off and on, and their secrets. All in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.models.notification import WebhookDelivery, WebhookEndpoint
from hooks.notifications import signing
from hooks.notifications.filters import Filter, check_may_own, checked, may_own
from hooks.notifications.payloads import CLOUD_EVENTS, PAYLOADS
from hooks.notifications.sending import Rules
from registry import audit, events
from registry.access import Action, Identity
from registry.db import table_of
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Account, Domain
from registry.repos.sealed_fields import SealedField

MOST_ENDPOINTS = 50
"""So many may one account have."""
OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=7)
LONGEST_DESCRIPTION = 200
PENDING, SUCCEEDED, FAILED, DISCARDED = "Pending", "Succeeded", "Failed", "Discarded"

_SHAPE = "-/webhook"
events.audited("webhook.create", "webhook.created", _SHAPE, tells="A webhook endpoint was made.")
events.audited("webhook.change", "webhook.changed", _SHAPE, tells="A webhook endpoint was changed.")
events.audited("webhook.delete", "webhook.deleted", _SHAPE, tells="A webhook endpoint was removed.")
events.audited("webhook.enable", "webhook.enabled", _SHAPE, tells="A webhook endpoint was switched on.")
events.audited("webhook.disable", "webhook.disabled", _SHAPE, "reason", tells="A webhook endpoint was switched off.")
events.audited("webhook.rotate", "webhook.secret-rotated", _SHAPE, tells="A webhook endpoint got a new secret.")


class Sealer(Protocol):
    """Encrypts small things at rest, bound to ``context``."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as its owner and administrators see it. The secret is told by its fingerprint only."""

    id: int
    url: str
    payload: str
    description: str
    owner: str
    domain: str | None
    kinds: tuple[str, ...]
    repository: str | None
    format: str | None
    package: str | None
    is_enabled: bool
    disabled_reason: str
    secret_fingerprint: str
    previous_secret_until: datetime | None
    quiet_until: datetime | None
    created_at: datetime


def create(
    session: Session,
    sealer: Sealer,
    rules: Rules,
    who: Identity,
    *,
    url: str,
    wanted: Filter,
    description: str,
    now: datetime,
    payload: str = CLOUD_EVENTS,
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint of ``who``'s; gives it and its secret, which is told this once.

    Raises Invalid (BlockedAddress for the URL), Denied, NotFound for the domain, and Conflict for one too many.
    """
    chosen = checked(wanted)
    check_may_own(who, chosen)
    rules.check(url)
    _check_domain(session, chosen.domain)
    held = session.scalars(select(WebhookEndpoint.id).where(WebhookEndpoint.owner_id == who.account_id)).all()
    if len(held) >= MOST_ENDPOINTS:
        raise Conflict(f"{who.name} has {MOST_ENDPOINTS} webhooks already; delete one first")
    secret = signing.new_secret()
    row = WebhookEndpoint(
        owner_id=who.account_id,
        description=_description(description),
        url=url,
        payload=_payload(payload),
        sealed_secret=b"",
        fingerprint=signing.fingerprint(secret),
        is_enabled=True,
        created_at=now,
        kinds=list(chosen.kinds),
        domain=chosen.domain,
        repository=chosen.repository,
        format=chosen.format,
        package=chosen.package,
    )
    session.add(row)
    session.flush()
    row.sealed_secret = sealer.seal(secret.encode(), _context(row.id))
    audit.record(
        session, now, who.name, "webhook.create", path(row), kinds=row.kinds, host=rules.check(url).origin.host
    )
    return row, secret


def change(
    session: Session,
    rules: Rules,
    who: Identity,
    row: WebhookEndpoint,
    *,
    url: str | None,
    wanted: Filter | None,
    description: str | None,
    now: datetime,
    payload: str | None = None,
) -> None:
    """Change what is not None. Raises as ``create`` does."""
    changed: dict[str, object] = {}
    if url is not None and url != row.url:
        changed["host"] = rules.check(url).origin.host
        row.url = url
    if payload is not None and payload != row.payload:
        row.payload = changed["payload"] = _payload(payload)
    if wanted is not None:
        chosen = checked(wanted)
        check_may_own(who, chosen)
        _check_domain(session, chosen.domain)
        row.kinds, row.domain = list(chosen.kinds), chosen.domain
        row.repository, row.format, row.package = chosen.repository, chosen.format, chosen.package
        changed["kinds"] = row.kinds
    if description is not None:
        row.description = changed["description"] = _description(description)
    if changed:
        audit.record(session, now, who.name, "webhook.change", path(row), **changed)


def delete(session: Session, who: Identity, row: WebhookEndpoint, now: datetime) -> None:
    """Remove an endpoint with the records of its deliveries."""
    audit.record(session, now, who.name, "webhook.delete", path(row))
    session.delete(row)


def enable(session: Session, who: Identity, row: WebhookEndpoint, now: datetime) -> None:
    """Switch on again; what failed meanwhile can be delivered again. Harmless when it is on."""
    if row.is_enabled:
        return
    row.is_enabled, row.disabled_reason, row.quiet_until = True, "", None
    audit.record(session, now, who.name, "webhook.enable", path(row))


def disable(session: Session, actor: str, row: WebhookEndpoint, reason: str, now: datetime) -> bool:
    """Switch off: nothing more is sent, and what waits has failed. False when it was off already."""
    if not row.is_enabled:
        return False
    row.is_enabled, row.disabled_reason = False, reason[:500]
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == row.id, WebhookDelivery.state == PENDING)
        .values(state=FAILED, reason="the endpoint was disabled", ended_at=now)
    )
    audit.record(session, now, actor, "webhook.disable", path(row), reason=reason)
    return True


def rotate(
    session: Session, sealer: Sealer, who: Identity, row: WebhookEndpoint, overlap: timedelta, now: datetime
) -> str:
    """A new secret; the one before signs as well for ``overlap`` (0: it ends now). Told this once. Raises Invalid."""
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise Invalid("the old secret can go on for 0 to 168 hours")
    secret = signing.new_secret()
    row.sealed_previous = row.sealed_secret if overlap else None
    row.previous_until = now + overlap if overlap else None
    row.sealed_secret = sealer.seal(secret.encode(), _context(row.id))
    row.fingerprint = signing.fingerprint(secret)
    audit.record(session, now, who.name, "webhook.rotate", path(row), overlap_seconds=overlap.total_seconds())
    return secret


def secrets_of(sealer: Sealer, row: WebhookEndpoint, now: datetime) -> list[str]:
    """The secrets that sign now, the newest first. Raises storage.errors.Damaged or KeyUnavailable."""
    boxes = [row.sealed_secret]
    if row.sealed_previous is not None and row.previous_until is not None and now < row.previous_until:
        boxes.append(row.sealed_previous)
    return [sealer.unseal(box, _context(row.id)).decode() for box in boxes]


def find(session: Session, who: Identity, endpoint_id: int) -> WebhookEndpoint:
    """An endpoint that ``who`` may see and change: the owner's own, or anybody's for the server's administrators.

    Either way only while they administer what it hears of. Raises NotFound.
    """
    row = session.get(WebhookEndpoint, endpoint_id)
    if row is None or not _is_visible(row, who):
        raise NotFound("webhook", str(endpoint_id))
    return row


def visible(session: Session, who: Identity) -> list[EndpointView]:
    """All endpoints that ``who`` may see, oldest first."""
    rows = session.execute(
        select(WebhookEndpoint, Account.name)
        .join(Account, Account.id == WebhookEndpoint.owner_id)
        .order_by(WebhookEndpoint.id)
    )
    return [_view(row, owner) for row, owner in rows if _is_visible(row, who)]


def view(session: Session, row: WebhookEndpoint) -> EndpointView:
    """An endpoint to be shown."""
    return _view(row, session.get_one(Account, row.owner_id).name)


def filter_of(row: WebhookEndpoint) -> Filter:
    """What an endpoint hears of."""
    return Filter(row.kinds, row.domain, row.repository, row.format, row.package)


def path(row: WebhookEndpoint) -> str:
    """How audit entries name it."""
    return f"webhook/{row.id}"


def _view(row: WebhookEndpoint, owner: str) -> EndpointView:
    return EndpointView(
        id=row.id,
        url=row.url,
        payload=row.payload,
        description=row.description,
        owner=owner,
        domain=row.domain,
        kinds=tuple(row.kinds),
        repository=row.repository,
        format=row.format,
        package=row.package,
        is_enabled=row.is_enabled,
        disabled_reason=row.disabled_reason,
        secret_fingerprint=row.fingerprint,
        previous_secret_until=row.previous_until,
        quiet_until=row.quiet_until,
        created_at=row.created_at,
    )


def _is_visible(row: WebhookEndpoint, who: Identity) -> bool:
    return (row.owner_id == who.account_id or who.may(Action.ADMIN)) and may_own(who, row.domain, row.repository)


def _check_domain(session: Session, name: str | None) -> None:
    if name is not None and session.scalar(select(Domain.id).where(Domain.name == name)) is None:
        raise NotFound("domain", name)


def _payload(word: str) -> str:
    if word not in PAYLOADS:
        raise Invalid(f"a payload is one of {', '.join(PAYLOADS)}")
    return word


def _description(text: str) -> str:
    cleaned = " ".join(text.split())
    if len(cleaned) > LONGEST_DESCRIPTION:
        raise Invalid(f"the description has at most {LONGEST_DESCRIPTION} characters")
    return cleaned


def _context(endpoint_id: int) -> str:
    return f"webhook:{endpoint_id}:secret"


def recipients(session: Session) -> Sequence[tuple[WebhookEndpoint, Account]]:
    """The endpoints that are on, each with its owner; those of disabled accounts are left out."""
    rows = session.execute(
        select(WebhookEndpoint, Account)
        .join(Account, Account.id == WebhookEndpoint.owner_id)
        .where(WebhookEndpoint.is_enabled, ~Account.is_disabled)
        .order_by(WebhookEndpoint.id)
    )
    return [(row, owner) for row, owner in rows]


def sealed_secrets() -> Sequence[SealedField]:
    """Where the secrets lie, for whoever rotates the server's keys."""
    table = table_of(WebhookEndpoint)
    return [
        SealedField(what, table, box, select(table.c.id, table.c[box]), lambda row: _context(row.id))
        for what, box in (("secrets of webhooks", "sealed_secret"), ("previous secrets of webhooks", "sealed_previous"))
    ]
