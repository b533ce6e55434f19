"""Conditions of stages with their rules as they were judged, freeze windows, and holds that a manual rollback leaves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime

_IN_FORCE = text("is_current")


class ConditionExecution(Base):
    """One judgement of a stage's condition. Those that a retry replaced stay, with ``is_current`` false.

    ``slot`` is CodePipeline's condition type (``BEFORE_ENTRY``, ``ON_SUCCESS``, ``ON_FAILURE``), ``result`` what the
    definition makes of it. ``decided_by`` and ``reason`` are of an override.
    """

    __tablename__ = "condition_execution"
    __table_args__ = (
        # The arbiter of a condition that is asked twice at once: one judgement counts.
        Index(
            "uq_condition_execution_current",
            "stage_execution_id",
            "slot",
            unique=True,
            sqlite_where=_IN_FORCE,
            postgresql_where=_IN_FORCE,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"), index=True)
    stage_execution_id: Mapped[int] = mapped_column(ForeignKey("stage_execution.id"))
    slot: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=1)
    is_current: Mapped[bool] = mapped_column(Boolean, default=True)
    result: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    summary: Mapped[str] = mapped_column(Text, default="")
    decided_by: Mapped[str | None] = mapped_column(String(100))
    reason: Mapped[str | None] = mapped_column(String(300))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RuleExecution(Base):
    """A rule of a condition. ``look_at`` is when it is looked at again while it waits, ``expires_at`` when it has failed.

    ``build_id`` has no foreign key: builds are cleared away in time, the history here is not.
    """

    __tablename__ = "rule_execution"
    __table_args__ = (UniqueConstraint("condition_execution_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    condition_execution_id: Mapped[int] = mapped_column(ForeignKey("condition_execution.id"))
    name: Mapped[str] = mapped_column(String(100))
    provider: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(16))
    summary: Mapped[str] = mapped_column(Text, default="")
    configuration: Mapped[dict[str, str]] = mapped_column(JSON)
    resolved_configuration: Mapped[dict[str, str]] = mapped_column(JSON)
    build_id: Mapped[str | None] = mapped_column(String(36), index=True)
    look_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PipelineFreeze(Base):
    """A time in which nothing enters stages: from ``starts_at`` to ``ends_at``, or ``minutes`` from each moment of ``cron``.

    ``pipeline_id`` None: of all pipelines; ``stages`` None: all stages but the first. ``cron`` is Quartz's, in ``timezone``.
    """

    __tablename__ = "pipeline_freeze"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    pipeline_id: Mapped[int | None] = mapped_column(ForeignKey("pipeline.id"))
    stages: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    starts_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cron: Mapped[str | None] = mapped_column(String(200))
    timezone: Mapped[str | None] = mapped_column(String(64))
    minutes: Mapped[int | None]
    reason: Mapped[str] = mapped_column(String(300))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StageHold(Base):
    """What a manual rollback leaves behind: nothing of the package enters the stage until somebody releases it.

    ``rollback_id`` is the execution that rolled back, ``from_id`` the one whose version was in the stage before.
    """

    __tablename__ = "stage_hold"
    __table_args__ = (Index("ix_stage_hold_stage", "pipeline_id", "stage"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    stage: Mapped[str] = mapped_column(String(100))
    domain: Mapped[str] = mapped_column(String(50))
    repository: Mapped[str] = mapped_column(String(100))
    format: Mapped[str] = mapped_column(String(32))
    namespace: Mapped[str] = mapped_column(String(255), default="")
    name: Mapped[str] = mapped_column(String(255))
    rollback_id: Mapped[int] = mapped_column(ForeignKey("execution.id"))
    from_id: Mapped[int | None] = mapped_column(ForeignKey("execution.id"))
    held_by: Mapped[str] = mapped_column(String(100))
    held_at: Mapped[datetime] = mapped_column(UtcDateTime)
