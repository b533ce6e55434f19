"""Where pipelines get from what is no package version: revisions, connections to forges, and what tells of pushes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class SourceRevision(Base):
    """What a source action that takes no package version brought into an execution; pinned once, whatever is retried.

    ``kind`` is GIT or OBJECT. ``location`` is the git URL, or bucket and key of the object. ``wanted`` is what is asked
    for (a version as builds spell it), ``trigger`` how that is called (``branch/main``, ``tag/v1``, ``pr/12``).
    ``revision`` is the commit, or the object's version; "" until it is known. The archive is the blob, none until it was
    fetched; ``facts`` are the variables that the action sets.
    """

    __tablename__ = "source_revision"

    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id", ondelete="CASCADE"), primary_key=True)
    action: Mapped[str] = mapped_column(String(100), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    location: Mapped[str] = mapped_column(String(2000))
    wanted: Mapped[str] = mapped_column(String(400))
    trigger: Mapped[str] = mapped_column(String(260))
    revision: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    blob_id: Mapped[int | None] = mapped_column(ForeignKey("blob.id"), index=True)
    facts: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class GitConnection(Base):
    """A forge as pipelines reach it: repositories below ``url``, and what they are fetched with (``sealed``, if anything).

    ``domain`` and ``repository`` say whose readers see what comes from there, unless a source says otherwise.
    """

    __tablename__ = "git_connection"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    provider: Mapped[str] = mapped_column(String(16))
    url: Mapped[str] = mapped_column(String(2000))
    domain: Mapped[str] = mapped_column(String(50))
    repository: Mapped[str] = mapped_column(String(100))
    auth_type: Mapped[str | None] = mapped_column(String(32))
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PipelineHook(Base):
    """Where a forge, or anything else, tells a pipeline's source of what is new: ``/hooks/v1/pipelines/{id}``.

    ``provider`` is one of those of builds' hooks, or ``custom``: then all ``filters`` (JsonPath, MatchEquals) have to hold.
    """

    __tablename__ = "pipeline_hook"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"), index=True)
    action: Mapped[str] = mapped_column(String(100))
    provider: Mapped[str] = mapped_column(String(16))
    filters: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PipelineDelivery(Base):
    """A delivery that was taken, so that it is taken once. ``key`` is its id, or the digest of its body."""

    __tablename__ = "pipeline_delivery"

    hook_id: Mapped[str] = mapped_column(ForeignKey("pipeline_hook.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    execution_id: Mapped[int | None]
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class SourceWatch(Base):
    """A git source that is asked for news in turn. ``heads`` is reference → commit, as they were seen last.

    ``is_first``: nothing was seen yet, so that what is found starts nothing. ``fault`` is why it could not be asked.
    """

    __tablename__ = "source_watch"
    __table_args__ = (UniqueConstraint("pipeline_id", "action"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    action: Mapped[str] = mapped_column(String(100))
    location: Mapped[str] = mapped_column(String(2000))
    heads: Mapped[dict[str, str]] = mapped_column(JSON)
    is_first: Mapped[bool] = mapped_column(Boolean)
    fault: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PipelineLocation(Base):
    """Where a pipeline's definition comes from: the file ``path`` on the branch of a git source, with each push to it.

    The pipeline of this ``name`` is made by the first one that can be applied. ``source`` are the settings of a git source
    action. ``configured_by`` is whose rights what comes has. ``commit`` is the one that was applied last, ``seen_commit``
    the newest, ``fault`` what was wrong with it ("" for nothing). ``asked_at`` is when the server asked for news itself.
    """

    __tablename__ = "pipeline_location"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    path: Mapped[str] = mapped_column(String(500))
    configured_by: Mapped[str] = mapped_column(String(100))
    commit: Mapped[str] = mapped_column(String(64))
    seen_commit: Mapped[str] = mapped_column(String(64))
    fault: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SourceBucket(Base):
    """Objects that are kept for pipelines, as S3 would. ``domain`` and ``repository`` say whose readers see them."""

    __tablename__ = "source_bucket"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    domain: Mapped[str] = mapped_column(String(50))
    repository: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SourceObject(Base):
    """A version of an object; the newest of a key has the highest ``id``. Its bytes are the domain's blob."""

    __tablename__ = "source_object"
    __table_args__ = (Index("ix_source_object_key", "bucket_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    bucket_id: Mapped[int] = mapped_column(ForeignKey("source_bucket.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(500))
    version_id: Mapped[str] = mapped_column(String(32), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    md5: Mapped[str] = mapped_column(String(32))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    created_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PipelineSchedule(Base):
    """A schedule among the triggers of a pipeline's definition in force, and when it is due next."""

    __tablename__ = "pipeline_schedule"

    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    expression: Mapped[str] = mapped_column(String(256))
    time_zone: Mapped[str] = mapped_column(String(64))
    next_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    fault: Mapped[str] = mapped_column(Text)
