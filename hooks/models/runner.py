"""Runners: programs on other machines that run builds for this server, and the attempts they hold or held."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildRunner(Base):
    """A runner. ``id`` is the ``owner`` of the jobs it holds.

    ``projects`` and ``domains`` are whose builds it may have; an empty list is no limit. Of the one-use token it registers
    with, and of its own credential, there are digests only. ``host``, ``version``, ``environments`` (types of builds it
    can run) and ``slots`` are what it says of itself. Revoked, it stays for the record.
    """

    __tablename__ = "build_runner"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    projects: Mapped[list[str]] = mapped_column(JSON)
    domains: Mapped[list[str]] = mapped_column(JSON)
    registration_digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    registration_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    credential_digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    host: Mapped[str] = mapped_column(String(255), default="")
    version: Mapped[str] = mapped_column(String(50), default="")
    environments: Mapped[list[str]] = mapped_column(JSON, default=list)
    slots: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    registered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BuildLease(Base):
    """One attempt at a build, held by one runner: the job under one fence.

    ``token_digest`` is of what the runner shows with each request about it. ``token_id`` is the build's own token for the
    registry while it lives. ``log_bytes`` is how much of the log the runner has sent. ``sealed_state`` holds what has to
    be masked, and what the masking holds back; null once the attempt is over.
    """

    __tablename__ = "build_lease"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), index=True)
    runner_id: Mapped[str] = mapped_column(ForeignKey("build_runner.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    token_digest: Mapped[str] = mapped_column(String(64))
    token_id: Mapped[int | None]
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    sealed_state: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
