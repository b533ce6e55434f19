"""build reports."""

import sqlalchemy as sa
from alembic import op


revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

COUNTS = ("total", "succeeded", "failed", "error", "skipped", "unknown")
SUMS = ("duration_ns", "lines_covered", "lines_missed", "branches_covered", "branches_missed")


def upgrade() -> None:
    op.create_table(
        "report_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    with op.batch_alter_table("report_group", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_report_group_project_id"), ["project_id"], unique=False)
    op.create_table(
        "report",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("source_key", sa.String(length=64), nullable=False),
        sa.Column("file_format", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group_id"], ["report_group.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("build_id", "group_id"),
    )
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.create_index("ix_report_group_created", ["group_id", "created_at"], unique=False)
        batch_op.create_index("ix_report_created", ["created_at"], unique=False)
    op.create_table(
        "test_case",
        sa.Column("report_id", sa.String(length=36), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("case_key", sa.String(length=32), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("sealed_message", sa.LargeBinary(), nullable=True),
        sa.Column("raw_path", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["report_id"], ["report.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("report_id", "ordinal"),
    )
    with op.batch_alter_table("test_case", schema=None) as batch_op:
        batch_op.create_index("ix_test_case_key", ["case_key", "report_id"], unique=False)
    op.create_table(
        "file_coverage",
        sa.Column("report_id", sa.String(length=36), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in SUMS[1:]),
        sa.ForeignKeyConstraint(["report_id"], ["report.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("report_id", "ordinal"),
    )


def downgrade() -> None:
    op.drop_table("file_coverage")
    with op.batch_alter_table("test_case", schema=None) as batch_op:
        batch_op.drop_index("ix_test_case_key")
    op.drop_table("test_case")
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.drop_index("ix_report_created")
        batch_op.drop_index("ix_report_group_created")
    op.drop_table("report")
    with op.batch_alter_table("report_group", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_report_group_project_id"))
    op.drop_table("report_group")
