"""Advisories about packages: what an administrator has brought in, in the shape of OSV."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class Advisory(Base):
    """An advisory by its id. ``severity`` is one of ``registry.repos.advisories.SEVERITIES``, or ``unknown``.

    One that was withdrawn stays, so that an older copy of it does not bring it back; it is about nothing.
    """

    __tablename__ = "advisory"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    summary: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(String(10))
    aliases: Mapped[list[str]] = mapped_column(JSON)
    url: Mapped[str] = mapped_column(String(1000))
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    modified_at: Mapped[datetime] = mapped_column(UtcDateTime)
    withdrawn_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    imported_at: Mapped[datetime] = mapped_column(UtcDateTime)
    imported_by: Mapped[str] = mapped_column(String(100))


class AdvisoryPackage(Base):
    """A package that an advisory is about: ``versions`` by name, and ``ranges``, lists of OSV's events.

    ``fixed`` are the versions that mend it, as far as they are told.
    """

    __tablename__ = "advisory_package"
    __table_args__ = (Index("ix_advisory_package_name", "format", "namespace", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    advisory_id: Mapped[str] = mapped_column(ForeignKey("advisory.id", ondelete="CASCADE"), index=True)
    format: Mapped[str] = mapped_column(String(32))
    namespace: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    versions: Mapped[list[str]] = mapped_column(JSON)
    ranges: Mapped[list[list[dict[str, Any]]]] = mapped_column(JSON)
    fixed: Mapped[list[str]] = mapped_column(JSON)
