"""which deployment an action has made."""

import sqlalchemy as sa
from alembic import op


revision = "0039"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("action_execution", sa.Column("deployment_id", sa.String(length=16), nullable=True))
    op.create_index("ix_action_execution_deployment_id", "action_execution", ["deployment_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_action_execution_deployment_id", table_name="action_execution")
    op.execute("ALTER TABLE action_execution DROP COLUMN deployment_id")
