"""Keys that the server signs with in its own name."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class SigningKey(Base):
    """A key pair for one purpose (which says of what kind: ``registry.repos.signing``).

    ``sealed`` is the private key, PKCS #8 DER under the server's key.
    """

    __tablename__ = "signing_key"

    purpose: Mapped[str] = mapped_column(String(32), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
