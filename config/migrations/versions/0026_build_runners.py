"""runners of builds."""

import sqlalchemy as sa
from alembic import op


revision = "0026"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_runner",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("projects", sa.JSON(), nullable=False),
        sa.Column("domains", sa.JSON(), nullable=False),
        sa.Column("registration_digest", sa.String(length=64), nullable=True),
        sa.Column("registration_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("credential_digest", sa.String(length=64), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("environments", sa.JSON(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("registration_digest"),
        sa.UniqueConstraint("credential_digest"),
    )
    op.create_table(
        "build_lease",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("runner_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token_digest", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sealed_state", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["runner_id"], ["build_runner.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("build_lease", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_lease_build_id"), ["build_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_build_lease_runner_id"), ["runner_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("build_lease", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_lease_runner_id"))
        batch_op.drop_index(batch_op.f("ix_build_lease_build_id"))
    op.drop_table("build_lease")
    op.drop_table("build_runner")
