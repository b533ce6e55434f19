"""rates and quotas."""

import sqlalchemy as sa
from alembic import op


revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_use",
        sa.Column("principal", sa.String(length=100), nullable=False),
        sa.Column("cost_class", sa.String(length=16), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "cost_class"),
    )
    with op.batch_alter_table("rate_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rate_use_minute"), ["minute"], unique=False)
    for table in ("domain", "repository"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("quota_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for table in ("repository", "domain"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("quota_bytes")
    with op.batch_alter_table("rate_use", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rate_use_minute"))
    op.drop_table("rate_use")
