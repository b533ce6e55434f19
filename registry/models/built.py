"""Which build a file was published by."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuiltAsset(Base):
    """A file that a build published: the build, its project, attempt and runner, and what it was made from.

    Everything is copied here in the publishing transaction, because builds are cleared away in time. A copy of the file
    in another repository has a row of its own with the same facts, and ``is_copy``. ``source`` has the shape of
    ``registry.repos.built.BuiltSource``.
    """

    __tablename__ = "built_asset"

    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True)
    build_id: Mapped[str] = mapped_column(String(36), index=True)
    project: Mapped[str] = mapped_column(String(100))
    number: Mapped[int]
    attempt: Mapped[int]
    runner: Mapped[str] = mapped_column(String(255))
    initiator: Mapped[str] = mapped_column(String(255))
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    is_copy: Mapped[bool] = mapped_column(default=False)
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
