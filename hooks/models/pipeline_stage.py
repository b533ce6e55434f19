"""What belongs to a pipeline's stages themselves, apart from any execution: who is inside, who waits, what is closed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class StageSlot(Base):
    """A stage of a pipeline by its name, with the one execution inside it (``occupant_id``) and its inbound transition.

    Made when it is first needed: a stage without a row is free and open. ``disabled_reason`` is of a closed transition.
    """

    __tablename__ = "stage_slot"
    __table_args__ = (UniqueConstraint("pipeline_id", "stage"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    stage: Mapped[str] = mapped_column(String(100))
    occupant_id: Mapped[int | None] = mapped_column(ForeignKey("execution.id"))
    is_open: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(String(300))
    changed_by: Mapped[str | None] = mapped_column(String(100))
    changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class InboundExecution(Base):
    """An execution that waits before a stage. Those of one stage are in the order of their starts, which is their ids'.

    ``passed_by`` let it through the freeze windows, for ``pass_reason``.
    """

    __tablename__ = "inbound_execution"
    __table_args__ = (Index("ix_inbound_execution_stage", "pipeline_id", "stage"),)

    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"), primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipeline.id"))
    stage: Mapped[str] = mapped_column(String(100))
    arrived_at: Mapped[datetime] = mapped_column(UtcDateTime)
    passed_by: Mapped[str | None] = mapped_column(String(100))
    pass_reason: Mapped[str | None] = mapped_column(String(300))
