"""What external connections answered, kept so that a stale answer can stand in for a missing one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class UpstreamPage(Base):
    """The last good answer for one document of an external connection, or the sure knowledge that there is none.

    ``body`` is the upstream's document, zlib-compressed; empty with ``is_missing``. Only a sure "missing" is kept as one.
    """

    __tablename__ = "upstream_page"

    connection_id: Mapped[int] = mapped_column(
        ForeignKey("external_connection.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(String(2000), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    content_type: Mapped[str] = mapped_column(String(200))
    final_url: Mapped[str] = mapped_column(String(2000))
    etag: Mapped[str | None] = mapped_column(String(500))
    last_modified: Mapped[str | None] = mapped_column(String(100))
    is_missing: Mapped[bool] = mapped_column(Boolean)
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    fresh_until: Mapped[datetime] = mapped_column(UtcDateTime)
