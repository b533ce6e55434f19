"""Who is told of events: webhook endpoints with their deliveries, and people's subscriptions by e-mail."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime

_PENDING = text("state = 'Pending'")


class WebhookEndpoint(Base):
    """A URL that is told of events, for the account that owns it.

    ``domain`` null: of the whole server. ``kinds`` are patterns of event kinds; ``repository``, ``format`` and
    ``package`` (behind its namespace) patterns, null for all. ``payload`` is the shape of what is sent
    (``hooks.notifications.payloads``). The secret is sealed under the server's keys and bound to
    the row; the previous one signs as well until ``previous_until``. ``disabled_reason`` is for people. Nothing is sent
    before ``quiet_until``: the receiver asked for that.
    """

    __tablename__ = "webhook_endpoint"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    url: Mapped[str] = mapped_column(String(2000))
    payload: Mapped[str] = mapped_column(String(16), default="CloudEvents", server_default="CloudEvents")
    domain: Mapped[str | None] = mapped_column(String(50))
    kinds: Mapped[list[str]] = mapped_column(JSON)
    repository: Mapped[str | None] = mapped_column(String(100))
    format: Mapped[str | None] = mapped_column(String(32))
    package: Mapped[str | None] = mapped_column(String(255))
    is_enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    disabled_reason: Mapped[str] = mapped_column(String(500), default="")
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[str] = mapped_column(String(16))
    sealed_previous: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    quiet_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebhookDelivery(Base):
    """One event for one endpoint. ``id`` is the ``webhook-id`` of all its attempts; ``body`` what is sent, verbatim.

    ``state``: Pending until it is Succeeded, Failed (no attempt is left) or Discarded (the endpoint was disabled, or its
    owner may not see the event). ``step`` counts the attempts of the schedule it is in, ``attempts`` all of them.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index("ix_webhook_delivery_due", "due_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
        Index("ix_webhook_delivery_endpoint", "endpoint_id", "created_at"),
        Index("ix_webhook_delivery_created", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("webhook_endpoint.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(64))
    domain: Mapped[str | None] = mapped_column(String(50))
    repository: Mapped[str | None] = mapped_column(String(100))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="Pending")
    reason: Mapped[str] = mapped_column(String(200), default="")
    step: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WebhookAttempt(Base):
    """One try to deliver. ``status`` null: no answer, ``error`` says why; ``answer`` is its first KiB, as text."""

    __tablename__ = "webhook_attempt"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_delivery.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    took_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str] = mapped_column(String(300), default="")
    answer: Mapped[str] = mapped_column(Text, default="")


class MailAddress(Base):
    """An account's e-mail address. Nothing but the confirmation goes to it before ``confirmed_at``.

    ``code_digest`` is of the code in that mail, null when there is none to be used any more.
    """

    __tablename__ = "mail_address"

    account_id: Mapped[int] = mapped_column(
        ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    address: Mapped[str] = mapped_column(String(254))
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    code_digest: Mapped[str | None] = mapped_column(String(64))
    code_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MailSubscription(Base):
    """What events an account wants to be told of by e-mail; patterns as those of an endpoint.

    No mail goes out before ``quiet_until``: what comes in meanwhile is one mail then.
    """

    __tablename__ = "mail_subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    domain: Mapped[str | None] = mapped_column(String(50))
    kinds: Mapped[list[str]] = mapped_column(JSON)
    repository: Mapped[str | None] = mapped_column(String(100))
    format: Mapped[str | None] = mapped_column(String(32))
    package: Mapped[str | None] = mapped_column(String(255))
    quiet_until: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MailItem(Base):
    """An event that waits for its subscription's next mail: a line of it."""

    __tablename__ = "mail_item"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("mail_subscription.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(64))
    domain: Mapped[str | None] = mapped_column(String(50))
    repository: Mapped[str | None] = mapped_column(String(100))
    line: Mapped[str] = mapped_column(String(1000))
    path: Mapped[str] = mapped_column(String(1000), default="")
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MailMessage(Base):
    """A mail that waits to be handed to the mail server; the row is removed when that took it.

    ``message_id`` stays over all attempts. ``error`` is what the last one met.
    """

    __tablename__ = "mail_message"

    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(String(100))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    error: Mapped[str] = mapped_column(String(300), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
