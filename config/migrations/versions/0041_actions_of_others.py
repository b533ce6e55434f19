"""actions that others carry out: types, jobs, what they leave; and executions that an action has started."""

import sqlalchemy as sa
from alembic import op


revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "custom_action_type",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("provider", sa.String(length=35), nullable=False),
        sa.Column("version", sa.String(length=9), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("deleted_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("category", "provider", "version"),
    )
    op.create_table(
        "action_type_worker",
        sa.Column("action_type_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["action_type_id"], ["custom_action_type.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("action_type_id", "account_id"),
    )
    op.create_index("ix_action_type_worker_account_id", "action_type_worker", ["account_id"], unique=False)
    op.create_table(
        "pipeline_secret",
        sa.Column("definition_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("property", sa.String(length=50), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["definition_id"], ["pipeline_definition.id"]),
        sa.PrimaryKeyConstraint("definition_id", "stage", "action", "property"),
    )
    op.create_table(
        "action_webhook",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "action_job",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("action_execution_id", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("action_type_id", sa.Integer(), nullable=True),
        sa.Column("webhook", sa.String(length=100), nullable=False),
        sa.Column("query_value", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("nonce", sa.String(length=40), nullable=False),
        sa.Column("sealed_token", sa.LargeBinary(), nullable=True),
        sa.Column("token_digest", sa.String(length=64), nullable=True),
        sa.Column("held_by", sa.String(length=100), nullable=True),
        sa.Column("dispatched_at", _TIME, nullable=True),
        sa.Column("continuation_token", sa.Text(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("available_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["action_execution_id"], ["action_execution.id"]),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"]),
        sa.ForeignKeyConstraint(["action_type_id"], ["custom_action_type.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_action_job_action_execution_id", "action_job", ["action_execution_id"], unique=False)
    op.create_index("ix_action_job_token_digest", "action_job", ["token_digest"], unique=False)
    op.create_index("ix_action_job_waiting", "action_job", ["action_type_id", "status"], unique=False)
    op.create_table(
        "action_artifact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("identifier", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("blob_id", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["action_job.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "identifier"),
    )
    op.create_index("ix_action_artifact_blob_id", "action_artifact", ["blob_id"], unique=False)
    op.add_column("execution", sa.Column("invoked_by_action_id", sa.Integer(), nullable=True))
    op.create_index("ix_execution_invoked_by_action_id", "execution", ["invoked_by_action_id"], unique=False)
    op.add_column("action_execution", sa.Column("action_job_id", sa.String(length=36), nullable=True))
    op.create_index("ix_action_execution_action_job_id", "action_execution", ["action_job_id"], unique=False)
    op.add_column("action_execution", sa.Column("invoked_execution_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE action_execution DROP COLUMN invoked_execution_id")
    op.drop_index("ix_action_execution_action_job_id", table_name="action_execution")
    op.execute("ALTER TABLE action_execution DROP COLUMN action_job_id")
    op.drop_index("ix_execution_invoked_by_action_id", table_name="execution")
    op.execute("ALTER TABLE execution DROP COLUMN invoked_by_action_id")
    for table in ("action_artifact", "action_job", "action_webhook", "pipeline_secret", "action_type_worker"):
        op.drop_table(table)
    op.drop_table("custom_action_type")
