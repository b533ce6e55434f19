"""Batch builds: one row for each, and one for each build that it consists of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildBatch(Base):
    """A batch build. What the project said is copied when it starts, as a build's.

    ``status`` is that of a build (``hooks.builds.phases.BuildStatus``); ``ending`` is STOPPED or TIMED_OUT as soon as
    that is how it is going to end. ``phases`` has the shape of CodeBuild's ``phases`` of a build batch, ``phase`` is the
    one entered last. ``config`` is the ``buildBatchConfig`` that holds. ``resolved_versions`` is source identifier →
    commit, found by the batch's first build and the same for all. ``attempt`` counts the retries, 1 first.
    ``auto_retry_number`` are those since somebody asked that came by themselves. ``job_id`` is the job that combines the
    artifacts. ``publish_to`` is where its builds may publish, as a build's. With ``debug_session`` each of its builds stands
    at breakpoints.
    """

    __tablename__ = "build_batch"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index("ix_build_batch_submitted", "submitted_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    phase: Mapped[str] = mapped_column(String(32))
    phases: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    ending: Mapped[str | None] = mapped_column(String(16))
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    buildspec: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[dict[str, Any]] = mapped_column(JSON)
    variables: Mapped[dict[str, Any]] = mapped_column(JSON)
    webhook: Mapped[dict[str, str]] = mapped_column(JSON)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    fast_fail: Mapped[bool] = mapped_column(Boolean)
    build_timeout_minutes: Mapped[int]
    queued_timeout_minutes: Mapped[int]
    priority: Mapped[int]
    request_token: Mapped[str | None] = mapped_column(String(64))
    resolved_versions: Mapped[dict[str, str]] = mapped_column(JSON)
    attempt: Mapped[int]
    auto_retry_limit: Mapped[int] = mapped_column(default=0)
    auto_retry_number: Mapped[int] = mapped_column(default=0)
    initiator: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str | None] = mapped_column(String(255))
    publish_to: Mapped[str | None] = mapped_column(String(151))
    debug_session: Mapped[bool] = mapped_column(Boolean, default=False)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BuildBatchGroup(Base):
    """A build group of a batch (CodeBuild's word): the builds of one identifier, of which ``build_id`` is the current one.

    ``status`` is a ``hooks.builds.batch_plan.TaskStatus``; ``is_stopping`` says that its build was told to stop.
    ``environment``, ``buildspec`` and ``debug_session`` are what its builds get; ``chosen`` is what a matrix chose for it,
    for people.
    """

    __tablename__ = "build_batch_group"
    __table_args__ = (UniqueConstraint("batch_id", "identifier"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("build_batch.id", ondelete="CASCADE"))
    position: Mapped[int]
    identifier: Mapped[str] = mapped_column(String(128))
    depends_on: Mapped[list[str]] = mapped_column(JSON)
    ignore_failure: Mapped[bool] = mapped_column(Boolean)
    buildspec: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[dict[str, Any]] = mapped_column(JSON)
    shard: Mapped[list[int]] = mapped_column(JSON)
    chosen: Mapped[dict[str, str]] = mapped_column(JSON)
    debug_session: Mapped[bool] = mapped_column(Boolean, default=False)
    status: Mapped[str] = mapped_column(String(16))
    is_stopping: Mapped[bool] = mapped_column(Boolean)
    build_id: Mapped[str | None] = mapped_column(String(36))
