"""conditions of stages, freeze windows, and holds after a manual rollback."""

import sqlalchemy as sa
from alembic import op


revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("stage_execution", sa.Column("auto_retries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("stage_execution", sa.Column("latest_retry", sa.String(length=32), nullable=True))
    for table in ("stage_execution", "inbound_execution"):
        op.add_column(table, sa.Column("passed_by", sa.String(length=100), nullable=True))
        op.add_column(table, sa.Column("pass_reason", sa.String(length=300), nullable=True))
    _conditions()
    op.create_table(
        "pipeline_freeze",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=True),
        sa.Column("stages", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("starts_at", _MOMENT, nullable=True),
        sa.Column("ends_at", _MOMENT, nullable=True),
        sa.Column("cron", sa.String(length=200), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=True),
        sa.Column("minutes", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "stage_hold",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=False),
        sa.Column("domain", sa.String(length=50), nullable=False),
        sa.Column("repository", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("rollback_id", sa.Integer(), nullable=False),
        sa.Column("from_id", sa.Integer(), nullable=True),
        sa.Column("held_by", sa.String(length=100), nullable=False),
        sa.Column("held_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["from_id"], ["execution.id"]),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.ForeignKeyConstraint(["rollback_id"], ["execution.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_stage_hold_stage", "stage_hold", ["pipeline_id", "stage"], unique=False)


def _conditions() -> None:
    op.create_table(
        "condition_execution",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("stage_execution_id", sa.Integer(), nullable=False),
        sa.Column("slot", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(length=100), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"]),
        sa.ForeignKeyConstraint(["stage_execution_id"], ["stage_execution.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_condition_execution_execution_id", "condition_execution", ["execution_id"], unique=False)
    in_force = sa.text("is_current")
    op.create_index(
        "uq_condition_execution_current",
        "condition_execution",
        ["stage_execution_id", "slot"],
        unique=True,
        sqlite_where=in_force,
        postgresql_where=in_force,
    )
    op.create_table(
        "rule_execution",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("condition_execution_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("provider", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("configuration", sa.JSON(), nullable=False),
        sa.Column("resolved_configuration", sa.JSON(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=True),
        sa.Column("look_at", _MOMENT, nullable=True),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["condition_execution_id"], ["condition_execution.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("condition_execution_id", "name"),
    )
    op.create_index("ix_rule_execution_build_id", "rule_execution", ["build_id"], unique=False)


def downgrade() -> None:
    op.drop_table("rule_execution")
    op.drop_table("condition_execution")
    op.drop_table("stage_hold")
    op.drop_table("pipeline_freeze")
    # Not as a batch: that makes the table anew on SQLite, and what hangs on its rows goes with the old one.
    for table, column in (
        ("inbound_execution", "pass_reason"),
        ("inbound_execution", "passed_by"),
        ("stage_execution", "pass_reason"),
        ("stage_execution", "passed_by"),
        ("stage_execution", "latest_retry"),
        ("stage_execution", "auto_retries"),
    ):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
