"""Registries elsewhere that versions may be published to."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class PublishDestination(Base):
    """A registry elsewhere, by a name that pipelines use. ``repositories`` (``domain/name`` patterns) may publish to it.

    ``url`` is where things are sent, ``index_url`` where it is looked up what is there. ``sealed_credential`` (JSON) is
    sealed under the server's keys and bound to the row and to the origin of ``url``. ``ca_pem`` replaces the usual
    certificates.
    """

    __tablename__ = "publish_destination"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    format: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(String(2000))
    index_url: Mapped[str] = mapped_column(String(2000))
    repositories: Mapped[list[str]] = mapped_column(JSON)
    sealed_credential: Mapped[bytes | None] = mapped_column(LargeBinary)
    ca_pem: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by: Mapped[str] = mapped_column(String(100))
