"""What stays of builds beside their logs: artifacts and caches. Their bytes are blobs of a domain."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildArtifact(Base):
    """An artifact of a build: a zip. ``identifier`` is ``primary`` or that of a secondary artifact.

    ``name`` may hold slashes. ``files`` is how many are in it. ``packaging`` NONE: its members are what people look at.
    ``sha256`` and ``md5`` are of the bytes that came out of the sandbox.
    """

    __tablename__ = "build_artifact"
    __table_args__ = (UniqueConstraint("build_id", "identifier"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    identifier: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(500))
    packaging: Mapped[str] = mapped_column(String(8))
    files: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    md5: Mapped[str] = mapped_column(String(32))
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class BuildCache(Base):
    """A cache. ``namespace`` is whose it is (``project/7``, or a cacheNamespace that projects share in a domain).

    ``scope`` is who wrote it (``protected``, ``branch/…``, ``pr/…``), at which ``level`` of trust. ``key`` "" is the one
    that each build writes anew; others never change. ``version`` is the digest of the list of paths. ``build_id`` wrote
    it, and may be gone. ``sha256`` is compared before it is restored.
    """

    __tablename__ = "build_cache"
    __table_args__ = (
        UniqueConstraint("domain_id", "namespace", "scope", "version", "key"),
        Index("ix_build_cache_found", "domain_id", "namespace", "version", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id"))
    namespace: Mapped[str] = mapped_column(String(120))
    scope: Mapped[str] = mapped_column(String(255))
    level: Mapped[str] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(500))
    files: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    build_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
