"""webhooks of batches, approvals of pull requests, batches retried by themselves, and debug sessions of builds."""

import sqlalchemy as sa
from alembic import op


revision = "0030"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nobody's comment counts for hooks that were made before: those who look after them say whose does.
    with op.batch_alter_table("build_push_hook", schema=None) as batch_op:
        batch_op.add_column(sa.Column("build_type", sa.String(length=16), server_default="BUILD", nullable=False))
        batch_op.add_column(sa.Column("approver_roles", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("approver_accounts", sa.JSON(), server_default="[]", nullable=False))
    with op.batch_alter_table("build_push_delivery", schema=None) as batch_op:
        batch_op.add_column(sa.Column("batch_id", sa.String(length=36), nullable=True))
    op.create_table(
        "build_push_waiting",
        sa.Column("hook_id", sa.String(length=40), nullable=False),
        sa.Column("trigger", sa.String(length=140), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("webhook", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["hook_id"], ["build_push_hook.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hook_id", "trigger"),
    )
    with op.batch_alter_table("build_push_waiting", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_push_waiting_received_at"), ["received_at"], unique=False)
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.add_column(sa.Column("debug_session", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("auto_retry_limit", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("auto_retry_number", sa.Integer(), server_default="0", nullable=False))
    with op.batch_alter_table("build_batch_group", schema=None) as batch_op:
        batch_op.add_column(sa.Column("debug_session", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("build_batch_group", schema=None) as batch_op:
        batch_op.drop_column("debug_session")
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.drop_column("paused_at")
        batch_op.drop_column("debug_session")
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.drop_column("auto_retry_number")
        batch_op.drop_column("auto_retry_limit")
    with op.batch_alter_table("build_push_waiting", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_push_waiting_received_at"))
    op.drop_table("build_push_waiting")
    with op.batch_alter_table("build_push_delivery", schema=None) as batch_op:
        batch_op.drop_column("batch_id")
    with op.batch_alter_table("build_push_hook", schema=None) as batch_op:
        batch_op.drop_column("approver_accounts")
        batch_op.drop_column("approver_roles")
        batch_op.drop_column("build_type")
