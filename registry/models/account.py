"""Who may come in: accounts, their tokens and their browser sessions. Secrets are kept as digests only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Boolean, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class Account(Base):
    """A person or a service. ``password_hash`` (Argon2id, PHC string) is null for accounts without a password.

    ``actions`` and ``repositories`` say what it may do and where, in the shape of a token's; ``admin`` in ``actions``
    stands for everything. ``is_service`` marks an account of a program: it has no password and no browser.
    ``last_sign_in_at`` is when a browser was last signed in.
    """

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    actions: Mapped[list[str]] = mapped_column(JSON)
    repositories: Mapped[list[str] | None] = mapped_column(JSON)
    is_disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    is_service: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_sign_in_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AccountGroup(Base):
    """Accounts that have something in common: policies and roles name the group instead of each of them."""

    __tablename__ = "account_group"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str] = mapped_column(String(500), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class GroupMember(Base):
    """An account in a group. ``source`` says who keeps it there: ``local`` (an administrator) or an identity provider.

    What a provider says of its people replaces what it said before, and leaves the local memberships alone.
    """

    __tablename__ = "group_member"

    group_id: Mapped[int] = mapped_column(ForeignKey("account_group.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)
    source: Mapped[str] = mapped_column(String(32), primary_key=True)


class Token(Base):
    """A bearer credential. ``digest`` is HMAC-SHA256 of the token, hex; the token itself is shown once and not kept.

    ``actions`` is a list of action names; ``repositories``, ``packages`` and ``networks`` are limits in the shape of
    ``registry.access.Scope``, null for none. ``kind`` is personal, login, authorization, build or setup.

    A token made with a token has that one as ``parent_id`` and the first of its line as ``root_id`` (null: it is the
    first). ``created_by`` is the account that made it. ``end_reason`` says why it was revoked where that is not its
    owner's wish (``leaked``).
    """

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    last_four: Mapped[str] = mapped_column(String(4))
    actions: Mapped[list[str]] = mapped_column(JSON)
    repositories: Mapped[list[str] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    packages: Mapped[list[str] | None] = mapped_column(JSON)
    networks: Mapped[list[str] | None] = mapped_column(JSON)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("token.id", ondelete="CASCADE"), index=True)
    root_id: Mapped[int | None] = mapped_column(index=True)
    created_by: Mapped[str] = mapped_column(String(64), default="", server_default="")
    last_used_address: Mapped[str | None] = mapped_column(String(100))
    end_reason: Mapped[str] = mapped_column(String(16), default="", server_default="")


class TokenLeak(Base):
    """A live token that was found where it must not be, and was revoked for it.

    ``place`` says where in words (an upload, a build's log, a scanner's report). Its owner is told on every page until
    ``seen_at``. A credential that is no account's token (a runner's) has a ``name`` and no token here.
    """

    __tablename__ = "token_leak"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[int | None] = mapped_column(ForeignKey("token.id", ondelete="CASCADE"), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str | None] = mapped_column(String(200))
    place: Mapped[str] = mapped_column(String(500))
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WebSession(Base):
    """A signed-in browser. The cookie holds a random id; its HMAC is the key here, so that a copied table opens nothing.

    ``by`` says how it was signed in, ``proved_at`` when somebody last proved in it who they are; ``address`` and
    ``user_agent`` are what the browser had and said then.
    """

    __tablename__ = "web_session"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    by: Mapped[str] = mapped_column(String(64), default="", server_default="")
    proved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    address: Mapped[str] = mapped_column(String(100), default="", server_default="")
    user_agent: Mapped[str] = mapped_column(String(300), default="", server_default="")


class SetupLogin(Base):
    """A one-time sign-in link for an account without a password (first start, administrator's recovery)."""

    __tablename__ = "setup_login"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ClientLogin(Base):
    """A client tool that waits for somebody to let it in with a browser. Both secrets are kept as digests.

    The one behind ``code_digest`` is in the address that the person opens, the one behind ``digest`` only the client has.
    ``client`` is what the tool calls itself, ``address`` where it asked from; ``account_id`` says who let it in.
    """

    __tablename__ = "client_login"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    code_digest: Mapped[str] = mapped_column(String(64), unique=True)
    client: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(100), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
