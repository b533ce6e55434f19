"""whether a batch was started with debug sessions for its builds."""

import sqlalchemy as sa
from alembic import op


revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("debug_session", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.drop_column("debug_session")
