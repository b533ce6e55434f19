"""The e-mail address of an account: nothing goes to it before its owner opened the link that was sent there."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.models.notification import MailAddress, MailMessage
from hooks.notifications import mail_outbox
from registry import audit, events
from registry.access import Identity
from registry.errors import Invalid, NotFound, RateLimited

CODE_LIFE = timedelta(hours=24)
ASK_EVERY = timedelta(minutes=5)
"""A confirmation may be asked for so often: strangers' mailboxes are not to be filled from here."""
_ADDRESS = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)
Digest = Callable[[str], str]
"""How a code is kept."""
events.audited("user.mail-address", "user.mail-address-changed", "-/user", tells="An account's e-mail address was set.")


@dataclass(frozen=True, slots=True)
class AddressView:
    """An account's address; ``confirmed_at`` null while it waits for its link to be opened."""

    address: str
    confirmed_at: datetime | None
    asked_at: datetime


def show(session: Session, who: Identity) -> AddressView | None:
    """The own address, if there is one."""
    row = session.get(MailAddress, who.account_id)
    return None if row is None else AddressView(row.address, row.confirmed_at, row.asked_at)


def confirmed(session: Session, account_id: int) -> str | None:
    """Where mails to an account go."""
    return session.scalar(
        select(MailAddress.address).where(MailAddress.account_id == account_id, MailAddress.confirmed_at.is_not(None))
    )


def ask(session: Session, digest: Digest, who: Identity, address: str, link_base: str, now: datetime) -> None:
    """Set the own address, and send the link that confirms it. Raises Invalid, and RateLimited for asking too often.

    An address that was confirmed before counts no more from now on.
    """
    checked = address.strip()
    if not _ADDRESS.match(checked):
        raise Invalid("that is not an e-mail address")
    row = session.get(MailAddress, who.account_id)
    if row is not None and now - row.asked_at < ASK_EVERY:
        left = ASK_EVERY - (now - row.asked_at)
        raise RateLimited("a confirmation was sent just now", int(left.total_seconds()) + 1)
    code = secrets.token_urlsafe(24)
    session.merge(
        MailAddress(
            account_id=who.account_id,
            address=checked,
            confirmed_at=None,
            code_digest=digest(code),
            code_until=now + CODE_LIFE,
            asked_at=now,
        )
    )
    audit.record(session, now, who.name, "user.mail-address", f"user/{who.name}")
    body = (
        f"The account {who.name} of {link_base} wants to be told of events at this address.\n\n"
        f"If that is you, open this link within a day and confirm:\n\n"
        f"{link_base}/account/notifications/confirm?code={code}\n\n"
        f"If it is not, do nothing: no other mail will come.\n"
    )
    mail_outbox.queue(session, who.account_id, checked, "Confirm your e-mail address", body, now)


def confirm(session: Session, digest: Digest, who: Identity, code: str, now: datetime) -> None:
    """Use the code of the link, signed in as who asked for it. Raises NotFound for any other, or a code that is over."""
    row = session.get(MailAddress, who.account_id, with_for_update=True)
    if row is None or row.code_digest is None or row.code_until is None or now >= row.code_until:
        raise NotFound("confirmation", "code")
    if not secrets.compare_digest(row.code_digest, digest(code)):
        raise NotFound("confirmation", "code")
    row.confirmed_at, row.code_digest, row.code_until = now, None, None
    audit.record(session, now, who.name, "user.mail-confirm", f"user/{who.name}")


def remove(session: Session, who: Identity, now: datetime) -> None:
    """Forget the own address, and what waits to be sent to it. The moment of the last asking is kept for five minutes."""
    row = session.get(MailAddress, who.account_id)
    if row is None:
        return
    if now - row.asked_at < ASK_EVERY:
        raise RateLimited(
            "a confirmation was sent just now", int((ASK_EVERY - (now - row.asked_at)).total_seconds()) + 1
        )
    session.delete(row)
    session.execute(delete(MailMessage).where(MailMessage.account_id == who.account_id))
    audit.record(session, now, who.name, "user.mail-address", f"user/{who.name}", removed=True)
