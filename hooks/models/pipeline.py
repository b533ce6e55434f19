"""Pipelines as rows: nothing of an execution lives in memory, so that any process can take it up at any moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime

_IN_FORCE = text("is_current")
_OPEN = text("ended_at IS NULL")


class Pipeline(Base):
    """A pipeline by its name; new executions are pinned to the definition's ``current_version``."""

    __tablename__ = "pipeline"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    current_version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PipelineDefinitionVersion(Base):
    """A version of a pipeline's definition; never changed. ``document`` is verbatim, ``model`` what was read from it."""

    __tablename__ = "pipeline_definition"
    __table_args__ = (UniqueConstraint("pipeline_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    version: Mapped[int]
    document: Mapped[str] = mapped_column(Text)
    model: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(100))


class Execution(Base):
    """One run of a pipeline, pinned to a definition, and to a package version's files or a revision of another kind.

    ``revision_type`` is PACKAGE, GIT or OBJECT. Of the others ``format`` is "", ``name`` the git repository or the object,
    ``version`` the commit or the object's version ("" until it is known), and ``assets`` the archive that was fetched.

    ``trigger_identity`` makes a start happen once. ``assets`` is file name → SHA-256, ``digest`` one SHA-256 over
    them. ``publishers`` are the accounts whose work it is; ``depth`` counts the executions that led here by promoting.
    ``mode`` is the definition's when it started. One of the type ROLLBACK runs ``rollback_stage`` alone, once more, with
    what ``rollback_target_id`` had there.
    """

    __tablename__ = "execution"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "trigger_identity"),
        Index("ix_execution_package", "domain", "format", "name", "version"),
        # Which packages a pipeline has run for, and the newest execution of each, without reading the rows themselves.
        Index("ix_execution_of_package", "pipeline_id", "domain", "format", "namespace", "name", "id"),
        Index("ix_execution_started", "started_at"),
        # Of a pipeline with thousands of them the few that go on.
        Index("ix_execution_open", "pipeline_id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    definition_id: Mapped[int] = mapped_column(ForeignKey("pipeline_definition.id"))
    status: Mapped[str] = mapped_column(String(16))
    trigger_kind: Mapped[str] = mapped_column(String(16))
    trigger_identity: Mapped[str] = mapped_column(String(80))
    triggered_by: Mapped[str] = mapped_column(String(100))
    revision_type: Mapped[str] = mapped_column(String(16), default="PACKAGE")
    domain: Mapped[str] = mapped_column(String(50))
    repository: Mapped[str] = mapped_column(String(100))
    format: Mapped[str] = mapped_column(String(32))
    namespace: Mapped[str] = mapped_column(String(255), default="")
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(64))
    assets: Mapped[dict[str, str]] = mapped_column(JSON)
    publishers: Mapped[list[str]] = mapped_column(JSON)
    variables: Mapped[dict[str, str]] = mapped_column(JSON)
    depth: Mapped[int] = mapped_column(default=0)
    mode: Mapped[str] = mapped_column(String(16), default="PARALLEL")
    execution_type: Mapped[str] = mapped_column(String(16), default="STANDARD")
    rollback_target_id: Mapped[int | None]
    rollback_stage: Mapped[str | None] = mapped_column(String(100))
    stop_reason: Mapped[str | None] = mapped_column(String(200))
    stopped_by: Mapped[str | None] = mapped_column(String(100))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class StageExecution(Base):
    """A stage that an execution has entered. ``attempt`` grows with each retry, ``auto_retries`` with those by rule.

    ``latest_retry`` is CodePipeline's ``latestRetryTrigger``: ``AutomatedStageRetry`` or ``ManualStageRetry``. ``passed_by``
    let the execution into the stage in spite of a freeze window, for ``pass_reason``.
    """

    __tablename__ = "stage_execution"
    __table_args__ = (UniqueConstraint("execution_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"))
    name: Mapped[str] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=1)
    auto_retries: Mapped[int] = mapped_column(default=0, server_default="0")
    latest_retry: Mapped[str | None] = mapped_column(String(32))
    passed_by: Mapped[str | None] = mapped_column(String(100))
    pass_reason: Mapped[str | None] = mapped_column(String(300))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ActionExecution(Base):
    """One attempt at an action. Those that a retry replaced stay, with ``is_current`` false.

    ``token``, ``decided_by`` and ``comment`` are an approval's (those of the answer that decided it; all answers are
    ``ApprovalResult`` rows); ``expires_at`` is when its time is over.
    ``published`` are the files that a publication outside has brought there, with their URLs and digests. ``build_id``,
    ``deployment_id`` and ``job_id`` have no foreign keys: what they name is cleared away in time, the history here is not.
    """

    __tablename__ = "action_execution"
    __table_args__ = (
        UniqueConstraint("stage_execution_id", "name", "attempt"),
        # The arbiter of double starts: at most one attempt counts.
        Index(
            "uq_action_execution_current",
            "stage_execution_id",
            "name",
            unique=True,
            sqlite_where=_IN_FORCE,
            postgresql_where=_IN_FORCE,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"), index=True)
    stage_execution_id: Mapped[int] = mapped_column(ForeignKey("stage_execution.id"))
    name: Mapped[str] = mapped_column(String(100))
    attempt: Mapped[int] = mapped_column(default=1)
    is_current: Mapped[bool] = mapped_column(Boolean, default=True)
    category: Mapped[str] = mapped_column(String(16))
    provider: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(16), index=True)
    summary: Mapped[str] = mapped_column(Text, default="")
    configuration: Mapped[dict[str, str]] = mapped_column(JSON)
    resolved_configuration: Mapped[dict[str, str]] = mapped_column(JSON)
    output_variables: Mapped[dict[str, str]] = mapped_column(JSON)
    build_id: Mapped[str | None] = mapped_column(String(36), index=True)
    deployment_id: Mapped[str | None] = mapped_column(String(16), index=True)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    token: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    published: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    decided_by: Mapped[str | None] = mapped_column(String(100))
    comment: Mapped[str | None] = mapped_column(String(512))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApprovalResult(Base):
    """What one person said to one attempt at an approval; never changed.

    ``digest`` is that of the execution's files when it was said: what exactly was approved.
    """

    __tablename__ = "approval_result"

    action_execution_id: Mapped[int] = mapped_column(ForeignKey("action_execution.id"), primary_key=True)
    account: Mapped[str] = mapped_column(String(100), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(String(512))
    digest: Mapped[str] = mapped_column(String(64))
    answered_at: Mapped[datetime] = mapped_column(UtcDateTime)
