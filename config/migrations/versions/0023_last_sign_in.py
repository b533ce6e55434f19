"""last sign-in."""

import sqlalchemy as sa
from alembic import op


revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("account", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_sign_in_at", sa.DateTime(timezone=True), nullable=True))
    # What the audit log knows of accounts that are there; one made anew under an old name has not signed in by that.
    op.execute(
        "UPDATE account SET last_sign_in_at = (SELECT max(audit_entry.at) FROM audit_entry WHERE "
        "audit_entry.action = 'session.open' AND audit_entry.actor = account.name "
        "AND audit_entry.at >= account.created_at)"
    )


def downgrade() -> None:
    # Not as a batch: that makes the table anew on SQLite, and what hangs on its rows goes with the old one.
    op.execute("ALTER TABLE account DROP COLUMN last_sign_in_at")
