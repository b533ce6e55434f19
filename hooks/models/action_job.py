"""Actions that others carry out: their types, the secrets of their settings, the jobs, and what the jobs leave."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class CustomActionType(Base):
    """A kind of action that workers carry out (CodePipeline's CreateCustomActionType); its owner is ``Custom``.

    ``document`` has CodePipeline's ``settings``, ``configurationProperties``, ``inputArtifactDetails`` and
    ``outputArtifactDetails``. A deleted one keeps its name and version.
    """

    __tablename__ = "custom_action_type"
    __table_args__ = (UniqueConstraint("category", "provider", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    category: Mapped[str] = mapped_column(String(16))
    provider: Mapped[str] = mapped_column(String(35))
    version: Mapped[str] = mapped_column(String(9))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ActionTypeWorker(Base):
    """An account that may serve a type; bound to the row: a later account of its name is somebody else."""

    __tablename__ = "action_type_worker"

    action_type_id: Mapped[int] = mapped_column(
        ForeignKey("custom_action_type.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    account_id: Mapped[int] = mapped_column(
        ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )


class PipelineSecret(Base):
    """The value of a secret property in a version of a definition, sealed under the server's keys and bound to its place.

    In the definition's document and model it is masked.
    """

    __tablename__ = "pipeline_secret"

    definition_id: Mapped[int] = mapped_column(
        ForeignKey("pipeline_definition.id"), primary_key=True, autoincrement=False
    )
    stage: Mapped[str] = mapped_column(String(100), primary_key=True)
    action: Mapped[str] = mapped_column(String(100), primary_key=True)
    property: Mapped[str] = mapped_column(String(50), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class ActionWebhook(Base):
    """Where an action of the provider Webhook sends its job. ``sealed`` (JSON: url, secret) is bound to the row."""

    __tablename__ = "action_webhook"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ActionJob(Base):
    """A job of an action that somebody else carries out. ``action_type_id`` null: it is sent to ``webhook``.

    ``status`` is CodePipeline's: Queued, Dispatched, InProgress, TimedOut, Succeeded, Failed. ``nonce`` is that of the last
    dispatch; ``sealed_token`` the job's token since then, null when there is none, ``token_digest`` what it is known by.
    ``query_value`` is the queryable property's value. ``held_by`` is the account to which it was dispatched last.
    ``details`` has what was told of its course: ``summary``, ``percentComplete``, ``externalExecutionId``,
    ``currentRevision``. A queued one is not handed out before ``available_at``.
    """

    __tablename__ = "action_job"
    __table_args__ = (Index("ix_action_job_waiting", "action_type_id", "status"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    action_execution_id: Mapped[int] = mapped_column(ForeignKey("action_execution.id"), index=True)
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"))
    stage: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(100))
    action_type_id: Mapped[int | None] = mapped_column(ForeignKey("custom_action_type.id"))
    webhook: Mapped[str] = mapped_column(String(100), default="")
    query_value: Mapped[str] = mapped_column(String(50), default="")
    status: Mapped[str] = mapped_column(String(16))
    nonce: Mapped[str] = mapped_column(String(40), default="")
    sealed_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    token_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    held_by: Mapped[str | None] = mapped_column(String(100))
    dispatched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    continuation_token: Mapped[str | None] = mapped_column(Text)
    round: Mapped[int] = mapped_column(default=0)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    available_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ActionArtifact(Base):
    """An output artifact of a job, a zip. ``identifier`` is its name in the pipeline. Its bytes are a blob of the domain."""

    __tablename__ = "action_artifact"
    __table_args__ = (UniqueConstraint("job_id", "identifier"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("action_job.id"))
    identifier: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(100))
    files: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def build_id(self) -> str:
        """What names it where artifacts of builds are named as well."""
        return self.job_id
