"""keys of the server itself, destroyed keys."""

import sqlalchemy as sa
from alembic import op


revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("domain_key", schema=None) as batch_op:
        batch_op.alter_column("domain_id", existing_type=sa.Integer(), nullable=True)
        batch_op.add_column(sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    # The release before opens what the server's own key sealed under none of its keys: signing keys are made anew, and
    # logs of builds stay unread.
    op.execute("DELETE FROM domain_key WHERE domain_id IS NULL")
    op.execute("DELETE FROM signing_key")
    with op.batch_alter_table("domain_key", schema=None) as batch_op:
        batch_op.drop_column("destroyed_at")
        batch_op.alter_column("domain_id", existing_type=sa.Integer(), nullable=False)
