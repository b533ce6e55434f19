"""revisions of sources that are no packages, connections to forges, hooks and polling of pipelines."""

import sqlalchemy as sa
from alembic import op


revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "execution", sa.Column("revision_type", sa.String(length=16), server_default="PACKAGE", nullable=False)
    )
    op.create_table(
        "git_connection",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("domain", sa.String(length=50), nullable=False),
        sa.Column("repository", sa.String(length=100), nullable=False),
        sa.Column("auth_type", sa.String(length=32), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "source_revision",
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("location", sa.String(length=2000), nullable=False),
        sa.Column("wanted", sa.String(length=400), nullable=False),
        sa.Column("trigger", sa.String(length=260), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("blob_id", sa.Integer(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"]),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("execution_id", "action"),
    )
    op.create_index("ix_source_revision_blob_id", "source_revision", ["blob_id"], unique=False)
    op.create_table(
        "pipeline_hook",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("filters", sa.JSON(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_pipeline_hook_pipeline_id", "pipeline_hook", ["pipeline_id"], unique=False)
    op.create_table(
        "pipeline_delivery",
        sa.Column("hook_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Integer(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["hook_id"], ["pipeline_hook.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hook_id", "key"),
    )
    op.create_index("ix_pipeline_delivery_received_at", "pipeline_delivery", ["received_at"], unique=False)
    op.create_table(
        "source_watch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("location", sa.String(length=2000), nullable=False),
        sa.Column("heads", sa.JSON(), nullable=False),
        sa.Column("is_first", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pipeline_id", "action"),
    )
    op.create_table(
        "pipeline_location",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("path", sa.String(length=500), nullable=False),
        sa.Column("configured_by", sa.String(length=100), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("seen_commit", sa.String(length=64), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "pipeline_schedule",
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("expression", sa.String(length=256), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipeline.id"]),
        sa.PrimaryKeyConstraint("pipeline_id", "position"),
    )
    op.create_index("ix_pipeline_schedule_next_at", "pipeline_schedule", ["next_at"], unique=False)
    op.create_table(
        "source_bucket",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("domain", sa.String(length=50), nullable=False),
        sa.Column("repository", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "source_object",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=500), nullable=False),
        sa.Column("version_id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("blob_id", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"]),
        sa.ForeignKeyConstraint(["bucket_id"], ["source_bucket.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version_id"),
    )
    op.create_index("ix_source_object_blob_id", "source_object", ["blob_id"], unique=False)
    op.create_index("ix_source_object_key", "source_object", ["bucket_id", "key"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_source_object_key", table_name="source_object")
    op.drop_index("ix_source_object_blob_id", table_name="source_object")
    op.drop_table("source_object")
    op.drop_table("source_bucket")
    op.drop_index("ix_pipeline_schedule_next_at", table_name="pipeline_schedule")
    op.drop_table("pipeline_schedule")
    op.drop_table("pipeline_location")
    op.drop_table("source_watch")
    op.drop_index("ix_pipeline_delivery_received_at", table_name="pipeline_delivery")
    op.drop_table("pipeline_delivery")
    op.drop_index("ix_pipeline_hook_pipeline_id", table_name="pipeline_hook")
    op.drop_table("pipeline_hook")
    op.drop_index("ix_source_revision_blob_id", table_name="source_revision")
    op.drop_table("source_revision")
    op.drop_table("git_connection")
    op.execute("ALTER TABLE execution DROP COLUMN revision_type")
