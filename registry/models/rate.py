"""How much of a limit is used: one row for each caller and class of cost, shared by all processes and machines."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base


class RateUse(Base):
    """``used`` of a minute's allowance; ``minute`` counts from 1970 (UTC). A row of an earlier minute counts as none."""

    __tablename__ = "rate_use"

    principal: Mapped[str] = mapped_column(String(100), primary_key=True)
    cost_class: Mapped[str] = mapped_column(String(16), primary_key=True)
    minute: Mapped[int] = mapped_column(BigInteger, index=True)
    used: Mapped[int] = mapped_column(BigInteger)
