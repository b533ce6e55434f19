"""What builds get by name: parameters and secrets, their versions, and the projects that may have them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class StoredValue(Base):
    """A parameter or a secret. ``kind`` is ``parameter`` or ``secret``; names are unique within one.

    ``type`` is ``String`` or ``SecureString`` for parameters, empty for secrets. ``policy`` is an IAM document about
    this value alone, null for none. ``last_number`` counts all versions there ever were.
    """

    __tablename__ = "stored_value"
    __table_args__ = (UniqueConstraint("kind", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(512))
    type: Mapped[str] = mapped_column(String(16), default="")
    description: Mapped[str] = mapped_column(String(200), default="")
    policy: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    last_number: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by: Mapped[str] = mapped_column(String(100))


class StoredValueVersion(Base):
    """What a value was at one time, sealed under the server's keys and bound to its place.

    ``stage`` is ``AWSCURRENT`` for the newest, ``AWSPREVIOUS`` for the one before it, else empty.
    """

    __tablename__ = "stored_value_version"
    __table_args__ = (UniqueConstraint("value_id", "version_id"),)

    value_id: Mapped[int] = mapped_column(
        ForeignKey("stored_value.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    version_id: Mapped[str] = mapped_column(String(36))
    stage: Mapped[str] = mapped_column(String(16), default="")
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(100))


class StoredValueProject(Base):
    """A build project that a value's plain list or its policy names; bound to the row: a later namesake is another.

    ``may_read``: it is on the plain list.
    """

    __tablename__ = "stored_value_project"

    value_id: Mapped[int] = mapped_column(
        ForeignKey("stored_value.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    project_id: Mapped[int] = mapped_column(
        ForeignKey("build_project.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )
    may_read: Mapped[bool] = mapped_column(Boolean)
