"""Who may do what beyond the accounts' own words: policies, granted roles, and the count of their changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class AccessState(Base):
    """One row: how often policies, roles or groups have changed. What is compiled of them holds for one count."""

    __tablename__ = "access_state"

    id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int]


class ResourcePolicy(Base):
    """The policy of a domain, or with ``repository_id`` of one of its repositories.

    ``target`` (``domain/7``, ``repository/9``, by row numbers) keeps it the only one. ``document`` is what was put, as
    JSON; ``revision`` is a random text that changes with each put.
    """

    __tablename__ = "resource_policy"

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(String(40), unique=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id", ondelete="CASCADE"), index=True)
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[str] = mapped_column(String(64))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by: Mapped[str] = mapped_column(String(100))


class PolicyPrincipal(Base):
    """An account or a group that a policy names, as it was when the policy was put.

    A name counts in the policy only while its row is here: it goes with the account or the group, and somebody who
    gets the name later gets none of its rights.
    """

    __tablename__ = "policy_principal"
    __table_args__ = (CheckConstraint("(account_id IS NULL) <> (group_id IS NULL)", name="ck_policy_principal_is_one"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    policy_id: Mapped[int] = mapped_column(ForeignKey("resource_policy.id", ondelete="CASCADE"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    group_id: Mapped[int | None] = mapped_column(ForeignKey("account_group.id", ondelete="CASCADE"), index=True)


class RoleGrant(Base):
    """A built-in role that an account or a group has on the server, on a domain, or on repositories of a domain.

    ``repository_id`` is set for one repository (the grant goes with it), ``pattern`` for all whose names fit it.
    """

    __tablename__ = "role_grant"
    __table_args__ = (CheckConstraint("(account_id IS NULL) <> (group_id IS NULL)", name="ck_role_grant_is_one"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    group_id: Mapped[int | None] = mapped_column(ForeignKey("account_group.id", ondelete="CASCADE"), index=True)
    domain_id: Mapped[int | None] = mapped_column(ForeignKey("domain.id", ondelete="CASCADE"), index=True)
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    pattern: Mapped[str] = mapped_column(String(100), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(100))


class RetiredId(Base):
    """The highest row number of a kind of thing (``domain``, ``repository``) that was deleted.

    SQLite gives the number of the last deleted row away again; what a process remembers by number would then be
    taken for what the new thing holds.
    """

    __tablename__ = "retired_id"

    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    highest: Mapped[int]
