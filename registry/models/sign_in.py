"""What signing in needs beside a password: second factors, people of identity providers, and sign-ins half done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class Totp(Base):
    """An account's authenticator app (RFC 6238). ``sealed`` is the seed, sealed for this account alone.

    It counts once ``confirmed_at`` is set. ``last_step`` is the time step of the last code that was taken: none of it or
    of an earlier one is taken again.
    """

    __tablename__ = "totp"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_step: Mapped[int | None]


class RecoveryCode(Base):
    """A code that stands in for the authenticator app once; kept as a digest."""

    __tablename__ = "recovery_code"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ExternalIdentity(Base):
    """Who an account is at an identity provider: its ``issuer`` and the ``subject`` there, which never changes."""

    __tablename__ = "external_identity"

    issuer: Mapped[str] = mapped_column(String(500), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PendingSignIn(Base):
    """A browser between two steps of signing in. The cookie holds a random secret; its digest is the key here.

    ``kind`` is ``second-factor`` (the first one was right, for ``account_id``) or ``provider`` (the browser was sent to
    ``provider``, for ``purpose``: ``sign-in``, ``prove`` or ``bind``). ``by`` says how the first step was made, ``target``
    where to go on to. It is spent by deleting it.
    """

    __tablename__ = "pending_sign_in"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(16))
    by: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(2000))
    address: Mapped[str] = mapped_column(String(100), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
