"""what each person said to an approval, and registries elsewhere that versions are published to."""

import sqlalchemy as sa
from alembic import op


revision = "0042"
down_revision = "0039"
branch_labels = None
depends_on = None

# The answers of before: each decided its approval alone.
_ANSWERED = """
INSERT INTO approval_result (action_execution_id, account, verdict, comment, digest, answered_at)
SELECT a.id, a.decided_by, CASE WHEN a.status = 'Succeeded' THEN 'Approved' ELSE 'Rejected' END,
       COALESCE(a.comment, ''), e.digest, a.ended_at
FROM action_execution a JOIN execution e ON e.id = a.execution_id
WHERE a.category = 'Approval' AND a.decided_by IS NOT NULL AND a.ended_at IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "approval_result",
        sa.Column("action_execution_id", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("comment", sa.String(length=512), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["action_execution_id"], ["action_execution.id"]),
        sa.PrimaryKeyConstraint("action_execution_id", "account"),
    )
    op.execute(_ANSWERED)
    op.create_table(
        "publish_destination",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("index_url", sa.String(length=2000), nullable=False),
        sa.Column("repositories", sa.JSON(), nullable=False),
        sa.Column("sealed_credential", sa.LargeBinary(), nullable=True),
        sa.Column("ca_pem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.add_column("action_execution", sa.Column("published", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE action_execution DROP COLUMN published")
    op.drop_table("publish_destination")
    op.drop_table("approval_result")
