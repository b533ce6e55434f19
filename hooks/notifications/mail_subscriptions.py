"""What accounts want to be told of by e-mail, and the mails made of it: one for each subscription in five minutes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hooks.models.notification import MailAddress, MailItem, MailSubscription, WebhookEndpoint
from hooks.notifications import mail_addresses, mail_outbox, telling
from hooks.notifications.audience import Audience
from hooks.notifications.filters import Filter, Place, checked, is_entitled, place_of
from registry import audit, events
from registry.access import Identity
from registry.db import Database
from registry.errors import Conflict, NotFound
from registry.models import Account, Event

MOST_SUBSCRIPTIONS = 20
QUIET = timedelta(minutes=5)
_MOST_LINES = 100
_LONGEST_LINE = 1000


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """One of one's own subscriptions."""

    id: int
    kinds: tuple[str, ...]
    domain: str | None
    repository: str | None
    format: str | None
    package: str | None
    created_at: datetime


def subscribe(session: Session, who: Identity, wanted: Filter, now: datetime) -> SubscriptionView:
    """Add a subscription. What one may not read is not told, whatever the filter says. Raises Invalid, Conflict."""
    chosen = checked(wanted)
    held = session.scalar(
        select(func.count()).select_from(MailSubscription).where(MailSubscription.account_id == who.account_id)
    )
    if (held or 0) >= MOST_SUBSCRIPTIONS:
        raise Conflict(f"{who.name} has {MOST_SUBSCRIPTIONS} subscriptions already; remove one first")
    row = MailSubscription(
        account_id=who.account_id,
        kinds=list(chosen.kinds),
        domain=chosen.domain,
        repository=chosen.repository,
        format=chosen.format,
        package=chosen.package,
        quiet_until=now,
        created_at=now,
    )
    session.add(row)
    session.flush()
    audit.record(
        session, now, who.name, "subscription.create", f"user/{who.name}/subscription/{row.id}", kinds=row.kinds
    )
    return _view(row)


def unsubscribe(session: Session, who: Identity, subscription_id: int, now: datetime) -> None:
    """Remove one of one's own. Raises NotFound."""
    row = session.get(MailSubscription, subscription_id)
    if row is None or row.account_id != who.account_id:
        raise NotFound("subscription", str(subscription_id))
    session.delete(row)
    audit.record(session, now, who.name, "subscription.delete", f"user/{who.name}/subscription/{subscription_id}")


def listed(session: Session, who: Identity) -> list[SubscriptionView]:
    """One's own, oldest first."""
    rows = session.scalars(
        select(MailSubscription).where(MailSubscription.account_id == who.account_id).order_by(MailSubscription.id)
    )
    return [_view(row) for row in rows]


def consume(audience: Audience, session: Session, rows: Sequence[Event], now: datetime) -> None:
    """Note what subscribers are to be told of ``rows``; in the transaction that marks them as handled."""
    subscribers = session.execute(
        select(MailSubscription, Account)
        .join(Account, Account.id == MailSubscription.account_id)
        .join(MailAddress, MailAddress.account_id == Account.id)
        .where(MailAddress.confirmed_at.is_not(None), ~Account.is_disabled)
    ).all()
    known = [row for row in rows if row.kind in events.CATALOGUE] if subscribers else []
    revision = audience.revision(session) if known else None
    for subscription, account in subscribers if known else ():
        wanted, who = filter_of(subscription), audience.member(session, account, now, at=revision)
        for row in known:
            place = place_of(row.payload)
            if wanted.matches(row.kind, place) and is_entitled(who, place):
                session.add(
                    MailItem(
                        subscription_id=subscription.id,
                        kind=row.kind,
                        domain=place.domain,
                        repository=place.repository,
                        line=telling.line(row.kind, row.payload),
                        path=telling.page(row.payload)[:_LONGEST_LINE],
                        occurred_at=row.occurred_at,
                    )
                )


def make_mails(db: Database, audience: Audience, base_url: str, now: datetime) -> None:
    """One mail for each subscription with something to tell that has been quiet long enough. Only reads if none has."""
    with db.read() as session:
        due = session.scalars(
            select(MailSubscription.id)
            .where(
                MailSubscription.quiet_until <= now,
                select(MailItem.id).where(MailItem.subscription_id == MailSubscription.id).exists(),
            )
            .order_by(MailSubscription.id)
        ).all()
    for subscription_id in due:
        db.retry(functools.partial(_make_mail, subscription_id, audience, base_url, now))


def tell_owner(base_url: str, session: Session, endpoint: WebhookEndpoint, reason: str, now: datetime) -> None:
    """Tell the owner of a webhook that it was disabled, if there is an address to do it."""
    address = mail_addresses.confirmed(session, endpoint.owner_id)
    if address is not None:
        body = (
            f"Webhook {endpoint.id} was disabled: {reason}.\n\n"
            f"Nothing is sent to it until somebody enables it again; what failed can then be delivered again:\n\n"
            f"{base_url}/webhooks/{endpoint.id}\n"
        )
        mail_outbox.queue(session, endpoint.owner_id, address, f"Webhook {endpoint.id} was disabled", body, now)


def _make_mail(subscription_id: int, audience: Audience, base_url: str, now: datetime, session: Session) -> None:
    row = session.get(MailSubscription, subscription_id, with_for_update=True)
    if row is None or row.quiet_until > now:
        return  # another process made it
    items = session.scalars(select(MailItem).where(MailItem.subscription_id == row.id).order_by(MailItem.id)).all()
    session.execute(delete(MailItem).where(MailItem.subscription_id == row.id))
    account = session.get_one(Account, row.account_id)
    address = mail_addresses.confirmed(session, account.id)
    who = audience.member(session, account, now)
    told = [item for item in items if is_entitled(who, Place(item.domain, item.repository))]
    if address is None or account.is_disabled or not told:
        return
    row.quiet_until = now + QUIET
    subject = told[0].line if len(told) == 1 else f"{len(told)} events"
    mail_outbox.queue(session, account.id, address, subject, _body(told, base_url), now)


def _body(items: Sequence[MailItem], base_url: str) -> str:
    parts = []
    for item in items[:_MOST_LINES]:
        parts.append(f"{item.occurred_at:%Y-%m-%d %H:%M:%S} UTC  {item.line}")
        if item.path:
            parts.append(f"    {base_url}{item.path}")
    if len(items) > _MOST_LINES:
        parts.append(f"and {len(items) - _MOST_LINES} more")
    return "\n".join([*parts, "", f"What you are told of: {base_url}/account/notifications", ""])


def filter_of(row: MailSubscription) -> Filter:
    """What a subscription is about."""
    return Filter(row.kinds, row.domain, row.repository, row.format, row.package)


def _view(row: MailSubscription) -> SubscriptionView:
    return SubscriptionView(
        row.id, tuple(row.kinds), row.domain, row.repository, row.format, row.package, row.created_at
    )
