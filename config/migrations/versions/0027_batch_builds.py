"""batch builds."""

import sqlalchemy as sa
from alembic import op


revision = "0027"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_batch",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("phases", sa.JSON(), nullable=False),
        sa.Column("ending", sa.String(length=16), nullable=True),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("buildspec", sa.Text(), nullable=True),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("webhook", sa.JSON(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("fast_fail", sa.Boolean(), nullable=False),
        sa.Column("build_timeout_minutes", sa.Integer(), nullable=False),
        sa.Column("queued_timeout_minutes", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("request_token", sa.String(length=64), nullable=True),
        sa.Column("resolved_versions", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("initiator", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "number"),
    )
    op.create_index("ix_build_batch_submitted", "build_batch", ["submitted_at"], unique=False)
    op.create_table(
        "build_batch_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=128), nullable=False),
        sa.Column("depends_on", sa.JSON(), nullable=False),
        sa.Column("ignore_failure", sa.Boolean(), nullable=False),
        sa.Column("buildspec", sa.Text(), nullable=True),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("shard", sa.JSON(), nullable=False),
        sa.Column("chosen", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("is_stopping", sa.Boolean(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["build_batch.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "identifier"),
    )
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.add_column(sa.Column("batch_id", sa.String(length=36), nullable=True))
        batch_op.add_column(sa.Column("batch_group", sa.String(length=128), nullable=True))
        batch_op.create_index(batch_op.f("ix_build_batch_id"), ["batch_id"], unique=False)
    with op.batch_alter_table("build_project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_batch_number", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("build_project", schema=None) as batch_op:
        batch_op.drop_column("last_batch_number")
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_batch_id"))
        batch_op.drop_column("batch_group")
        batch_op.drop_column("batch_id")
    op.drop_table("build_batch_group")
    op.drop_index("ix_build_batch_submitted", table_name="build_batch")
    op.drop_table("build_batch")
