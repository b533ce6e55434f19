"""What the image names of build projects meant when they were first used."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class BuildImagePin(Base):
    """The digest that an image's name (as the project writes it, "" for the usual one) had at a project's build."""

    __tablename__ = "build_image_pin"

    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id", ondelete="CASCADE"), primary_key=True)
    image: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80))
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
