"""What builds are made from beside packages: credentials of sources, uploads, and the hooks by which pushes arrive."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class SourceCredential(Base):
    """What a source of a project is fetched with. ``sealed`` (JSON) is bound to the row and to ``location``.

    ``auth_type`` is PERSONAL_ACCESS_TOKEN, BASIC_AUTH or SSH_KEY; ``identifier`` is "" for the primary source.
    """

    __tablename__ = "build_source_credential"

    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id", ondelete="CASCADE"), primary_key=True)
    identifier: Mapped[str] = mapped_column(String(128), primary_key=True)
    auth_type: Mapped[str] = mapped_column(String(32))
    location: Mapped[str] = mapped_column(String(2000))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BuildUpload(Base):
    """A zip that somebody sent to be built. Its bytes are the domain's blob of that digest, kept until ``expires_at``."""

    __tablename__ = "build_upload"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id", ondelete="CASCADE"), index=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    uploaded_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class PushHook(Base):
    """Where a forge tells a project of pushes: ``/hooks/v1/{id}``.

    ``filter_groups`` as in CodeBuild: the groups are OR, their filters AND. ``build_type`` is BUILD or BUILD_BATCH.
    ``fork_policy`` says which pull requests are not built by themselves (CodeBuild's requiresCommentApproval), and the
    approvers whose comments let them be built. The secret is sealed under the server's keys and bound to the row;
    ``fingerprint`` is what is shown of it.
    """

    __tablename__ = "build_push_hook"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(16))
    filter_groups: Mapped[list[list[dict[str, Any]]]] = mapped_column(JSON)
    build_type: Mapped[str] = mapped_column(String(16), default="BUILD")
    fork_policy: Mapped[str] = mapped_column(String(24))
    approver_roles: Mapped[list[str]] = mapped_column(JSON, default=list)
    approver_accounts: Mapped[list[str]] = mapped_column(JSON, default=list)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[str] = mapped_column(String(16))
    is_enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PushDelivery(Base):
    """A delivery that was taken, so that it is taken once. ``key`` is its id, or the digest of its body."""

    __tablename__ = "build_push_delivery"

    hook_id: Mapped[str] = mapped_column(ForeignKey("build_push_hook.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    build_id: Mapped[str | None] = mapped_column(String(36))
    batch_id: Mapped[str | None] = mapped_column(String(36))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class PushWaiting(Base):
    """A pull request (``trigger``: ``pr/12``) that waits at ``commit`` for an approver; ``webhook`` are its variables."""

    __tablename__ = "build_push_waiting"

    hook_id: Mapped[str] = mapped_column(ForeignKey("build_push_hook.id", ondelete="CASCADE"), primary_key=True)
    trigger: Mapped[str] = mapped_column(String(140), primary_key=True)
    commit: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(Text)
    webhook: Mapped[dict[str, str]] = mapped_column(JSON)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
