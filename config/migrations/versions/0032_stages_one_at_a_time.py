"""execution modes, slots of stages and what waits before them."""

import sqlalchemy as sa
from alembic import op


revision = "0032"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What runs now runs in parallel: no other mode was carried out before.
    op.add_column("execution", sa.Column("mode", sa.String(length=16), server_default="PARALLEL", nullable=False))
    op.add_column(
        "execution", sa.Column("execution_type", sa.String(length=16), server_default="STANDARD", nullable=False)
    )
    op.add_column("execution", sa.Column("rollback_target_id", sa.Integer(), nullable=True))
    op.add_column("execution", sa.Column("rollback_stage", sa.String(length=100), nullable=True))
    op.create_table(
        "stage_slot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=False),
        sa.Column("occupant_id", sa.Integer(), nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=300), nullable=True),
        sa.Column("changed_by", sa.String(length=100), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["occupant_id"], ["execution.id"]),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pipeline_id", "stage"),
    )
    op.create_table(
        "inbound_execution",
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"]),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("ix_inbound_execution_stage", "inbound_execution", ["pipeline_id", "stage"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_inbound_execution_stage", table_name="inbound_execution")
    op.drop_table("inbound_execution")
    op.drop_table("stage_slot")
    # Not as a batch: that makes the table anew on SQLite, and what hangs on its rows goes with the old one.
    for column in ("rollback_stage", "rollback_target_id", "execution_type", "mode"):
        op.execute(f"ALTER TABLE execution DROP COLUMN {column}")
