"""artifacts and caches of builds."""

import sqlalchemy as sa
from alembic import op


revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_artifact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("identifier", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("packaging", sa.String(length=8), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("blob_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"]),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("build_id", "identifier"),
    )
    with op.batch_alter_table("build_artifact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_artifact_blob_id"), ["blob_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_build_artifact_created_at"), ["created_at"], unique=False)
    op.create_table(
        "build_cache",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("namespace", sa.String(length=120), nullable=False),
        sa.Column("scope", sa.String(length=255), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=500), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("blob_id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"]),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain_id", "namespace", "scope", "version", "key"),
    )
    with op.batch_alter_table("build_cache", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_cache_blob_id"), ["blob_id"], unique=False)
        batch_op.create_index("ix_build_cache_found", ["domain_id", "namespace", "version", "created_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("build_cache", schema=None) as batch_op:
        batch_op.drop_index("ix_build_cache_found")
        batch_op.drop_index(batch_op.f("ix_build_cache_blob_id"))
    op.drop_table("build_cache")
    with op.batch_alter_table("build_artifact", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_artifact_created_at"))
        batch_op.drop_index(batch_op.f("ix_build_artifact_blob_id"))
    op.drop_table("build_artifact")
