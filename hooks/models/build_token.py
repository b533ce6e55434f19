"""Which credentials are builds' own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildToken(Base):
    """The token that an attempt at a build publishes with. It counts while that attempt runs, whatever its own end is."""

    __tablename__ = "build_token"

    token_id: Mapped[int] = mapped_column(ForeignKey("token.id", ondelete="CASCADE"), primary_key=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
