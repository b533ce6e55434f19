"""Package groups: settings for all packages whose paths match a pattern, in one domain."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class PackageGroup(Base):
    """A pattern and what it says of each way in: ALLOW, ALLOW_SPECIFIC_REPOSITORIES, BLOCK or INHERIT.

    The group ``/*`` has a row only once somebody changed it; until then it allows everything.
    """

    __tablename__ = "package_group"
    __table_args__ = (UniqueConstraint("domain_id", "pattern"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id", ondelete="CASCADE"))
    pattern: Mapped[str] = mapped_column(String(520))
    publish: Mapped[str] = mapped_column(String(32))
    internal_upstream: Mapped[str] = mapped_column(String(32))
    external_upstream: Mapped[str] = mapped_column(String(32))
    description: Mapped[str] = mapped_column(String(1000), default="", server_default="")
    contact_info: Mapped[str] = mapped_column(String(1000), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PackageGroupRepository(Base):
    """A repository in one of a group's lists of allowed repositories (``restriction`` names the list)."""

    __tablename__ = "package_group_repository"

    group_id: Mapped[int] = mapped_column(ForeignKey("package_group.id", ondelete="CASCADE"), primary_key=True)
    restriction: Mapped[str] = mapped_column(String(32), primary_key=True)
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True, index=True
    )
