"""Domains and repositories, and where a repository looks when it does not have a package itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class Domain(Base):
    """Where bytes are shared (one blob per digest), keyed and governed.

    ``topology_revision`` grows with each change of its repositories, upstreams and external connections; a rendered
    document is valid only for the revision it was made under. ``quota_bytes`` bounds what is published in all of its
    repositories together, null for no bound.
    """

    __tablename__ = "domain"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    topology_revision: Mapped[int] = mapped_column(default=1)
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DomainKey(Base):
    """A key-encryption key, wrapped by the master key: a domain's, or the server's own (``domain_id`` null).

    The newest that is not retired encrypts. Under a retired one nothing new is kept; it still opens what is. Of a
    destroyed one ``wrapped`` is empty, and what it encrypted is unreadable for good.
    """

    __tablename__ = "domain_key"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    domain_id: Mapped[int | None] = mapped_column(ForeignKey("domain.id"), index=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    destroyed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Repository(Base):
    """Holds package versions of every format, and has an ordered list of upstreams.

    ``quota_bytes`` bounds what is published in it, null for no bound.
    """

    __tablename__ = "repository"
    __table_args__ = (UniqueConstraint("domain_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id"))
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(String(500), default="")
    anonymous_read: Mapped[bool] = mapped_column(Boolean, default=False)
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RepositoryUpstream(Base):
    """``upstream_id`` is asked when ``repository_id`` does not hold a package; lower ``position`` first. No cycles."""

    __tablename__ = "repository_upstream"
    __table_args__ = (UniqueConstraint("repository_id", "position"),)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    upstream_id: Mapped[int] = mapped_column(ForeignKey("repository.id"), primary_key=True)
    position: Mapped[int]


class ExternalConnection(Base):
    """An index outside. ``url`` null means: whatever the ecosystem's own tools point at on this machine.

    ``sealed_credential`` is under the domain's key and bound to the URL's origin (``registry.repos.connections``).
    ``ca_bundle`` is PEM text that replaces the certificate authorities otherwise trusted. Lower ``position`` first.
    """

    __tablename__ = "external_connection"
    __table_args__ = (UniqueConstraint("repository_id", "format", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    format: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(100))
    url: Mapped[str | None] = mapped_column(String(2000))
    sealed_credential: Mapped[bytes | None] = mapped_column(LargeBinary)
    ca_bundle: Mapped[str | None] = mapped_column(Text)
    position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ConnectionHealth(Base):
    """How asking an external connection went lately, told by whichever process asked; written a few times a minute.

    ``last_failure`` is the reason in words, without URLs' queries and credentials. ``left_alone_until`` is when its
    breaker lets the next question through, null while it is closed.
    """

    __tablename__ = "connection_health"

    connection_id: Mapped[int] = mapped_column(
        ForeignKey("external_connection.id", ondelete="CASCADE"), primary_key=True
    )
    last_success_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_failure_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_failure: Mapped[str] = mapped_column(String(500), default="")
    left_alone_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
