"""version states and revisions."""

import sqlalchemy as sa
from alembic import op


revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("package", schema=None) as batch_op:
        batch_op.add_column(sa.Column("has_states", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("package_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("revision", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("open_until", sa.DateTime(timezone=True), nullable=True))
    # Any text that no other version has will do; each change makes a new one.
    op.execute("UPDATE package_version SET revision = 'first-' || CAST(id AS VARCHAR(20))")


def downgrade() -> None:
    with op.batch_alter_table("package_version", schema=None) as batch_op:
        batch_op.drop_column("open_until")
        batch_op.drop_column("revision")
    with op.batch_alter_table("package", schema=None) as batch_op:
        batch_op.drop_column("has_states")
