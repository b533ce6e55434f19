"""Mails to those whom an approval asks, beside what they have subscribed to.

Who is named in ``Approvers`` is written to without having asked for it; who has subscribed to ``approval.needed`` and may
answer is told also where he may not read the package's repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.notification import MailAddress, MailSubscription
from hooks.notifications import mail_outbox, telling
from hooks.notifications.audience import Audience
from hooks.notifications.filters import is_entitled, place_of
from hooks.notifications.mail_subscriptions import filter_of
from hooks.pipelines.approvers import is_named
from hooks.pipelines.happenings import APPROVAL_NEEDED
from registry.access import Action, Identity
from registry.models import Account, Event

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]")


def consume(audience: Audience, base_url: str, session: Session, rows: Sequence[Event], now: datetime) -> None:
    """Write to whom the approvals among ``rows`` ask; in the transaction that marks them as handled."""
    asking = [row for row in rows if row.kind == APPROVAL_NEEDED and row.payload.get("approve_on")]
    if not asking:
        return
    reachable = session.execute(
        select(Account, MailAddress.address)
        .join(MailAddress, MailAddress.account_id == Account.id)
        .where(MailAddress.confirmed_at.is_not(None), ~Account.is_disabled)
        .order_by(Account.id)
    ).all()
    revision = audience.revision(session) if reachable else None
    for account, address in reachable:
        who = audience.member(session, account, now, at=revision)
        for row in asking:
            if may_answer(session, who, row.payload) and _is_to_be_told(session, who, row):
                subject = f"Your approval is asked for: {telling.line(row.kind, row.payload)}"
                body = _body(row.payload, base_url)
                mail_outbox.queue(session, account.id, address, subject[:500], body, now)


def may_answer(session: Session, who: Identity, payload: Mapping[str, Any]) -> bool:
    """Whether an approval that was asked for asks ``who``, by the rules of this moment."""
    if not all(who.may(Action.APPROVE, path) for path in payload["approve_on"]):
        return False
    return is_named(session, payload.get("approvers") or (), who.name)


def _is_to_be_told(session: Session, who: Identity, row: Event) -> bool:
    """Not whom his own subscription tells already, and not everybody who has a right somewhere."""
    place = place_of(row.payload)
    subscriptions = session.scalars(select(MailSubscription).where(MailSubscription.account_id == who.account_id))
    wants = any(filter_of(each).matches(row.kind, place) for each in subscriptions)
    if wants and is_entitled(who, place):
        return False
    return wants or bool(row.payload.get("approvers"))


def _body(payload: Mapping[str, Any], base_url: str) -> str:
    through = payload.get("lets_through") or ["nothing further"]
    what, where = f"{payload.get('name')} {payload.get('version')}", f"{payload.get('stage')} / {payload.get('action')}"
    lines = [
        f"{what} waits in {payload.get('pipeline')}, {where}.",
        f"Approvals needed: {payload.get('required', 1)}",
        "",
        "Approving lets through:",
        *(f"  - {told}" for told in through),
        "",
    ]
    return "\n".join(
        [*(_UNPRINTABLE.sub(" ", line) for line in lines), f"{base_url}/executions/{payload['execution']}", ""]
    )
