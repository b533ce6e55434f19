"""Requests that clients may repeat: what was answered to each, for a day."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class IdempotencyKey(Base):
    """A key that an account gave to a request. ``digest`` is of the request, hex; ``status`` null while it is being done.

    ``sealed_body`` is the answer, which may hold a secret that is shown once, under the server's key.
    """

    __tablename__ = "idempotency_key"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None] = mapped_column()
    content_type: Mapped[str] = mapped_column(String(100), default="", server_default="")
    sealed_body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
