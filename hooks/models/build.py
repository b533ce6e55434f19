"""Build projects, builds and their logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildProject(Base):
    """How something is built. ``buildspec`` null: the ``buildspec.yml`` in the source.

    ``environment``: ``{"type": "process", "network": "registry" | "none", "variables": {…}}``. ``max_concurrent`` null:
    no limit but the workers'; ``on_limit`` is ``queue`` or ``reject``. ``last_number`` is the number of the newest build,
    ``last_batch_number`` that of the newest batch.
    ``domain`` and ``repository`` are where it belongs: null for one that builds whatever version it is given.
    ``document`` is CodeBuild's project document as it was understood, without what has a column of its own; it holds
    ``source`` and ``secondarySources`` in the shape of ``hooks.builds.project.SourceSettings``. It holds no secret.
    A deleted project stays for the builds that it had.
    """

    __tablename__ = "build_project"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    buildspec: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[dict[str, Any]] = mapped_column(JSON)
    timeout_minutes: Mapped[int]
    max_concurrent: Mapped[int | None]
    on_limit: Mapped[str] = mapped_column(String(8), default="queue")
    queued_timeout_minutes: Mapped[int] = mapped_column(default=480)
    auto_retry_limit: Mapped[int] = mapped_column(default=0)
    domain: Mapped[str | None] = mapped_column(String(50))
    repository: Mapped[str | None] = mapped_column(String(100))
    document: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    last_number: Mapped[int] = mapped_column(default=0)
    last_batch_number: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


_IS_OPEN = text("ended_at IS NULL")


class Build(Base):
    """One build. What the project said is copied when it starts, so that a later edit changes no build.

    ``status`` is IN_PROGRESS, then exactly one of the others (``hooks.builds.phases.BuildStatus``). ``phases`` has the
    shape of CodeBuild's; ``phase`` is the one entered last. ``source`` is a ``hooks.builds.source.PackageSource``.
    ``variables`` are those of the start, ``webhook`` the CODEBUILD_WEBHOOK_* ones of a hook that started it.
    ``resolved_versions`` is source identifier ("" for the primary source) → commit, as soon as it is known.
    With ``debug_session`` it stands at breakpoints, ``paused_at`` since when. ``retry_of`` is the build this one repeats;
    ``auto_retry_number`` counts those that came by themselves. ``subject`` names what it was started for
    (``execution:12``). ``job_id`` may outlive its job. ``log_bytes`` is the length of the log; a restarted attempt adds to
    it. ``batch_id`` and ``batch_group`` are the batch it belongs to, and its group there.
    ``publish_to`` (``domain/repository``) is where it was let publish when it was started; null: nowhere.
    """

    __tablename__ = "build"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index("ix_build_submitted", "submitted_at"),
        Index("ix_build_open", "project_id", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    phase: Mapped[str] = mapped_column(String(32))
    phases: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    buildspec: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[dict[str, Any]] = mapped_column(JSON)
    timeout_minutes: Mapped[int]
    queued_timeout_minutes: Mapped[int] = mapped_column(default=480)
    auto_retry_limit: Mapped[int] = mapped_column(default=0)
    auto_retry_number: Mapped[int] = mapped_column(default=0)
    retry_of: Mapped[str | None] = mapped_column(String(36), index=True)
    debug_session: Mapped[bool] = mapped_column(Boolean, default=False)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    priority: Mapped[int] = mapped_column(default=0)
    request_token: Mapped[str | None] = mapped_column(String(64))
    resolved_versions: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    webhook: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    variables: Mapped[dict[str, Any]] = mapped_column(JSON)
    exported_variables: Mapped[dict[str, str]] = mapped_column(JSON)
    initiator: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str | None] = mapped_column(String(255), index=True)
    batch_id: Mapped[str | None] = mapped_column(String(36), index=True)
    batch_group: Mapped[str | None] = mapped_column(String(128))
    publish_to: Mapped[str | None] = mapped_column(String(151))
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(Text, default="")
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BuildTally(Base):
    """The ended builds of a project by status, counted in the transactions that end them. Sums of seconds.

    ``begun`` are those that had begun: only these have waited and taken their time.
    """

    __tablename__ = "build_tally"

    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), primary_key=True)
    builds: Mapped[int] = mapped_column(BigInteger)
    begun: Mapped[int] = mapped_column(BigInteger)
    queue_seconds: Mapped[float]
    duration_seconds: Mapped[float]


class BuildLogChunk(Base):
    """A piece of a build's log, sealed. ``offset`` is where its plain bytes start, ``size_bytes`` how many they are."""

    __tablename__ = "build_log_chunk"

    build_id: Mapped[str] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size_bytes: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
