"""Deployments as rows: nothing of one lives in memory, so that any process can take it up at any moment.

The words, statuses and error codes are CodeDeploy's. Statuses of deployments: Created, Queued, InProgress, Baking, Ready,
Succeeded, Failed, Stopped; of targets: Pending, InProgress, Ready, Succeeded, Failed, Skipped, Unknown; of lifecycle
events: Pending, InProgress, Succeeded, Failed, Skipped, Unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, validates

from registry.db import Base, UtcDateTime

_NOT_DELETED = text("deleted_at IS NULL")
_OPEN = text("completed_at IS NULL")


def version_key(package: Mapping[str, Any]) -> str:
    """What a package version of a domain is found by, in whatever repository: a SHA-256 in hex of its canonical names.

    A digest, because the names together are longer than what databases put into an index.
    """
    names = ("domain", "format", "namespace", "name", "version")
    return hashlib.sha256("\n".join(str(package[each]) for each in names).encode()).hexdigest()


def _key_of(revision: Mapping[str, Any]) -> str | None:
    return version_key(revision["package"]) if revision.get("revisionType") == "Package" else None


class DeploymentApplication(Base):
    """What is deployed, by its name. It belongs to a domain, whose policy says who may deploy it.

    ``compute_platform`` never changes: ``Server``, ``ECS`` (containers) or a further one. A deleted one stays for the
    deployments that it had.
    """

    __tablename__ = "deployment_application"
    __table_args__ = (
        Index(
            "uq_deployment_application_name",
            "name",
            unique=True,
            sqlite_where=_NOT_DELETED,
            postgresql_where=_NOT_DELETED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    domain: Mapped[str] = mapped_column(String(50))
    compute_platform: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentConfig(Base):
    """A deployment configuration of one's own; it never changes. Those called ``CodeDeployDefault.…`` are not rows."""

    __tablename__ = "deployment_config"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    compute_platform: Mapped[str] = mapped_column(String(16))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DeploymentGroup(Base):
    """Where an application goes, and how. ``id`` (32 hex digits) is the key of the records on the machines.

    ``document`` is CodeDeploy's document of a group as it was understood. ``last_attempted_id`` and ``last_successful_id``
    are deployments; they have no foreign key, since old deployments are cleared away.
    """

    __tablename__ = "deployment_group"
    __table_args__ = (
        Index(
            "uq_deployment_group_name",
            "application_id",
            "name",
            unique=True,
            sqlite_where=_NOT_DELETED,
            postgresql_where=_NOT_DELETED,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    application_id: Mapped[int] = mapped_column(ForeignKey("deployment_application.id"))
    name: Mapped[str] = mapped_column(String(100))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    last_attempted_id: Mapped[str | None] = mapped_column(String(16))
    last_successful_id: Mapped[str | None] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Deployment(Base):
    """One deployment. What group and configuration said is copied when it is made: a later edit changes none.

    ``id`` is CodeDeploy's ``d-`` and nine letters and digits. ``revision`` is a ``hooks.deployments.revisions`` document
    with the SHA-256 of what is deployed, ``previous_revision`` the last good one of the group. ``options`` are those of
    the start (``ignoreApplicationStopFailures``, ``fileExistsBehavior``, ``targetInstances`` …). ``phase`` is where the
    engine stands within ``status``, ``wait_until`` when it goes on by itself. ``creator`` is CodeDeploy's word (``user``,
    ``codeDeployRollback``), ``initiator`` the account. ``rollback_of`` is the deployment that this one undoes,
    ``rolled_back_by`` the one that undoes this one; ``retry_of`` the one whose failed targets it repeats. ``subject``
    names what it was made for (``execution:12``).
    """

    __tablename__ = "deployment"
    __table_args__ = (
        # The arbiter of "one deployment of a group at a time": those that wait are Queued, and do not run.
        Index("ix_deployment_group_created", "group_id", "created_at"),
        # What a group had next: the first success after another one.
        Index("ix_deployment_group_completed", "group_id", "completed_at"),
        Index("ix_deployment_open", "group_id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_deployment_created", "created_at"),
        Index("ix_deployment_completed", "completed_at"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    application_id: Mapped[int] = mapped_column(ForeignKey("deployment_application.id"))
    group_id: Mapped[str] = mapped_column(ForeignKey("deployment_group.id"))
    status: Mapped[str] = mapped_column(String(16))
    phase: Mapped[str] = mapped_column(String(32), default="")
    creator: Mapped[str] = mapped_column(String(32))
    initiator: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(String(256), default="")
    revision: Mapped[dict[str, Any]] = mapped_column(JSON)
    version_key: Mapped[str | None] = mapped_column(String(64), index=True)
    previous_revision: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    group_document: Mapped[dict[str, Any]] = mapped_column(JSON)
    config_name: Mapped[str] = mapped_column(String(100))
    config_document: Mapped[dict[str, Any]] = mapped_column(JSON)
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    rollback_of: Mapped[str | None] = mapped_column(String(16), index=True)
    rolled_back_by: Mapped[str | None] = mapped_column(String(16))
    rollback_message: Mapped[str] = mapped_column(Text, default="")
    retry_of: Mapped[str | None] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str] = mapped_column(Text, default="")
    is_paused: Mapped[bool] = mapped_column(Boolean, default=False)
    stopped_by: Mapped[str | None] = mapped_column(String(100))
    subject: Mapped[str | None] = mapped_column(String(255), index=True)
    request_token: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    wait_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @validates("revision")
    def _name_version(self, _name: str, revision: dict[str, Any]) -> dict[str, Any]:
        self.version_key = _key_of(revision)
        return revision


class DeploymentTarget(Base):
    """One of a deployment's targets: a machine with an agent, or what another platform has (a container service).

    ``name`` is the agent's, or the platform's for it. ``fleet`` is ``""`` in place, else CodeDeploy's label ``Blue`` (the
    original machines) or ``Green`` (those that replace them). ``position`` is the order in which they are taken.
    ``details`` are the platform's own (addresses, containers, weights). ``started_at`` is when it was let go.
    """

    __tablename__ = "deployment_target"
    __table_args__ = (
        UniqueConstraint("deployment_id", "name", "fleet"),
        Index("ix_deployment_target_agent", "agent_id", "status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployment.id", ondelete="CASCADE"))
    agent_id: Mapped[str | None] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    fleet: Mapped[str] = mapped_column(String(8), default="")
    zone: Mapped[str] = mapped_column(String(64), default="")
    position: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentEvent(Base):
    """A lifecycle event of a target. All of them are there when the target is let go, in the order of ``position``.

    ``actor`` says who carries it out: ``agent``, or ``engine`` (a worker, by the platform). ``sequence`` is the number of
    the signed command by which an agent was told, ``offered_at`` when. ``error_code`` is CodeDeploy's name
    (``ScriptFailed``), ``agent_code`` the agent's number. ``sealed_log`` is the tail of its log.
    """

    __tablename__ = "deployment_event"
    __table_args__ = (UniqueConstraint("target_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("deployment_target.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16))
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    error_code: Mapped[str | None] = mapped_column(String(32))
    agent_code: Mapped[int | None]
    message: Mapped[str] = mapped_column(Text, default="")
    script: Mapped[str] = mapped_column(Text, default="")
    sealed_log: Mapped[bytes | None] = mapped_column(LargeBinary)
    offered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentAgent(Base):
    """A machine that is deployed to, by the agent on it (CodeDeploy's on-premises instance).

    ``tags`` is a list of ``{"Key": …, "Value": …}``, by which groups find it; ``domains`` are whose applications may come
    to it (empty: all). ``address`` is where the application answers there (an IP address and a port), for traffic and
    checks. It enrols once with a one-use token, of which there is a digest, and from then on proves that it holds the
    private half of ``public_key`` (Ed25519, 32 bytes in base64); for that it gets a session. ``sequence`` is the number of the
    newest command signed for it. ``boot_id`` names the process that has the session. ``alarm`` says why somebody should
    look at it (its key in use on two machines). Revoked, it stays for the record.
    """

    __tablename__ = "deployment_agent"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    tags: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    domains: Mapped[list[str]] = mapped_column(JSON)
    zone: Mapped[str] = mapped_column(String(64), default="")
    address: Mapped[str] = mapped_column(String(255), default="")
    enrolment_digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    enrolment_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    public_key: Mapped[str | None] = mapped_column(String(64), unique=True)
    session_digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    session_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    boot_id: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    alarm: Mapped[str] = mapped_column(Text, default="")
    alarmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    enrolled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentInstallation(Base):
    """What is installed of a group on a target, as far as the server knows: the order of the next deployment, and drift.

    ``version_key`` is that of a package version that is there. ``is_healthy`` is how the last deployment ended there.
    ``found`` is what the agent last saw with its own eyes (``{"deploymentId": …, "digest": …, "changed": […]}``).
    """

    __tablename__ = "deployment_installation"

    group_id: Mapped[str] = mapped_column(ForeignKey("deployment_group.id", ondelete="CASCADE"), primary_key=True)
    target: Mapped[str] = mapped_column(String(255), primary_key=True, index=True)
    deployment_id: Mapped[str] = mapped_column(String(16))
    revision: Mapped[dict[str, Any]] = mapped_column(JSON)
    version_key: Mapped[str | None] = mapped_column(String(64), index=True)
    is_healthy: Mapped[bool] = mapped_column(Boolean)
    installed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    found: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    found_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @validates("revision")
    def _name_version(self, _name: str, revision: dict[str, Any]) -> dict[str, Any]:
        self.version_key = _key_of(revision)
        return revision


class DeploymentUpload(Base):
    """A bundle (``tar``, ``tgz`` or ``zip``) that somebody sent to be deployed: a blob of the application's domain.

    After ``expires_at`` it goes, unless something that is or was deployed may need it again.
    """

    __tablename__ = "deployment_upload"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    application_id: Mapped[int] = mapped_column(ForeignKey("deployment_application.id"), index=True)
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    bundle_type: Mapped[str] = mapped_column(String(8))
    uploaded_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeploymentAlarm(Base):
    """An alarm whose state is told from outside. ``state``: ``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``."""

    __tablename__ = "deployment_alarm"
    __table_args__ = (UniqueConstraint("domain", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(String(50))
    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(Text, default="")
    token_digest: Mapped[str | None] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
