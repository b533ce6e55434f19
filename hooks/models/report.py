"""Report groups, the reports that builds left in them, test cases and the coverage of files."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime


class ReportGroup(Base):
    """Reports of one kind, build after build. ``type`` (TEST or CODE_COVERAGE) never changes.

    It belongs to the project whose build made it; no other project's builds write into it.
    """

    __tablename__ = "report_group"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    type: Mapped[str] = mapped_column(String(16))
    project_id: Mapped[int] = mapped_column(ForeignKey("build_project.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Report(Base):
    """What one build told one group. ``status`` is CodeBuild's word (``hooks.builds.reports.model.ReportStatus``).

    The numbers count everything that was read; with ``truncated`` fewer cases or files are kept. ``source_key`` is the
    same for builds of the same source. Coverage figures are sums over the files.
    """

    __tablename__ = "report"
    __table_args__ = (
        UniqueConstraint("build_id", "group_id"),
        Index("ix_report_group_created", "group_id", "created_at"),
        Index("ix_report_created", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("report_group.id", ondelete="CASCADE"))
    build_id: Mapped[str] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    source_key: Mapped[str] = mapped_column(String(64))
    file_format: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text, default="")
    truncated: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    total: Mapped[int] = mapped_column(default=0)
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    duration_ns: Mapped[int] = mapped_column(BigInteger, default=0)
    lines_covered: Mapped[int] = mapped_column(BigInteger, default=0)
    lines_missed: Mapped[int] = mapped_column(BigInteger, default=0)
    branches_covered: Mapped[int] = mapped_column(BigInteger, default=0)
    branches_missed: Mapped[int] = mapped_column(BigInteger, default=0)


class TestCase(Base):
    """A test case of a report. ``ordinal`` is its place in it, from 0; ``case_key`` the same in every report.

    ``sealed_message`` is null without a message. ``raw_path`` is the report file it was read from.
    """

    __test__ = False  # pytest looks for classes of this name
    __tablename__ = "test_case"
    __table_args__ = (Index("ix_test_case_key", "case_key", "report_id"),)

    report_id: Mapped[str] = mapped_column(ForeignKey("report.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    case_key: Mapped[str] = mapped_column(String(32))
    prefix: Mapped[str] = mapped_column(Text)
    suite: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    duration_ns: Mapped[int] = mapped_column(BigInteger)
    sealed_message: Mapped[bytes | None] = mapped_column(LargeBinary)
    raw_path: Mapped[str] = mapped_column(Text)


class FileCoverageRow(Base):
    """What of one source file was run, by a coverage report."""

    __tablename__ = "file_coverage"

    report_id: Mapped[str] = mapped_column(ForeignKey("report.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    path: Mapped[str] = mapped_column(Text)
    lines_covered: Mapped[int]
    lines_missed: Mapped[int]
    branches_covered: Mapped[int]
    branches_missed: Mapped[int]
