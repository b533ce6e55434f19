"""sources of build projects, retries, and hooks of pushes."""

import sqlalchemy as sa
from alembic import op


revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("build_project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("on_limit", sa.String(length=8), server_default="queue", nullable=False))
        batch_op.add_column(sa.Column("queued_timeout_minutes", sa.Integer(), server_default="480", nullable=False))
        batch_op.add_column(sa.Column("auto_retry_limit", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("domain", sa.String(length=50), nullable=True))
        batch_op.add_column(sa.Column("repository", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("document", sa.JSON(), server_default="{}", nullable=False))
        batch_op.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.add_column(sa.Column("queued_timeout_minutes", sa.Integer(), server_default="480", nullable=False))
        batch_op.add_column(sa.Column("auto_retry_limit", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("auto_retry_number", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("retry_of", sa.String(length=36), nullable=True))
        batch_op.add_column(sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("request_token", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("resolved_versions", sa.JSON(), server_default="{}", nullable=False))
        batch_op.add_column(sa.Column("webhook", sa.JSON(), server_default="{}", nullable=False))
        batch_op.create_index(batch_op.f("ix_build_retry_of"), ["retry_of"], unique=False)
    op.create_table(
        "build_source_credential",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=128), nullable=False),
        sa.Column("auth_type", sa.String(length=32), nullable=False),
        sa.Column("location", sa.String(length=2000), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "identifier"),
    )
    op.create_table(
        "build_upload",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "build_push_hook",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("filter_groups", sa.JSON(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "build_push_delivery",
        sa.Column("hook_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["hook_id"], ["build_push_hook.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hook_id", "key"),
    )
    for table, column in (
        ("build_upload", "project_id"),
        ("build_upload", "expires_at"),
        ("build_push_hook", "project_id"),
        ("build_push_delivery", "received_at"),
    ):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.create_index(batch_op.f(f"ix_{table}_{column}"), [column], unique=False)


def downgrade() -> None:
    for table in ("build_push_delivery", "build_push_hook", "build_upload", "build_source_credential"):
        op.drop_table(table)
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_retry_of"))
        for column in (
            "webhook",
            "resolved_versions",
            "request_token",
            "priority",
            "retry_of",
            "auto_retry_number",
            "auto_retry_limit",
            "queued_timeout_minutes",
        ):
            batch_op.drop_column(column)
    with op.batch_alter_table("build_project", schema=None) as batch_op:
        for column in (
            "deleted_at",
            "document",
            "repository",
            "domain",
            "auto_retry_limit",
            "queued_timeout_minutes",
            "on_limit",
        ):
            batch_op.drop_column(column)
