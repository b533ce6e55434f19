"""The outbox: what happened, written in the transaction in which it happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class Event(Base):
    """A fact for consumers. ``handled_at`` is null until the one dispatcher has turned it into jobs.

    Read by "not yet handled", never by "greater than the last id": ids commit out of order.
    """

    __tablename__ = "event"
    __table_args__ = (
        Index(
            "ix_event_unhandled",
            "id",
            sqlite_where=text("handled_at IS NULL"),
            postgresql_where=text("handled_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    handled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
