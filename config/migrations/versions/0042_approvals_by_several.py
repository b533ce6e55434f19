"""what each person said to an approval, registries elsewhere that versions are published to, and advisories."""

import sqlalchemy as sa
from alembic import op


revision = "0042"
down_revision = "0040"
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
    op.create_table(
        "advisory",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("url", sa.String(length=1000), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("imported_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "advisory_package",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("advisory_id", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.Column("fixed", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["advisory_id"], ["advisory.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_advisory_package_advisory_id", "advisory_package", ["advisory_id"], unique=False)
    op.create_index("ix_advisory_package_name", "advisory_package", ["format", "namespace", "name"], unique=False)
    op.add_column("action_execution", sa.Column("published", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE action_execution DROP COLUMN published")
    op.drop_index("ix_advisory_package_name", table_name="advisory_package")
    op.drop_index("ix_advisory_package_advisory_id", table_name="advisory_package")
    op.drop_table("advisory_package")
    op.drop_table("advisory")
    op.drop_table("publish_destination")
    op.drop_table("approval_result")
