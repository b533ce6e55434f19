"""parameters and secrets."""

import sqlalchemy as sa
from alembic import op


revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_value",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("type", sa.String(length=16), server_default="", nullable=False),
        sa.Column("description", sa.String(length=200), server_default="", nullable=False),
        sa.Column("policy", sa.JSON(), nullable=True),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "name"),
    )
    op.create_table(
        "stored_value_version",
        sa.Column("value_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("stage", sa.String(length=16), server_default="", nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["value_id"], ["stored_value.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("value_id", "number"),
        sa.UniqueConstraint("value_id", "version_id"),
    )
    op.create_table(
        "stored_value_project",
        sa.Column("value_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("may_read", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["value_id"], ["stored_value.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("value_id", "project_id"),
    )
    with op.batch_alter_table("stored_value_project", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stored_value_project_project_id"), ["project_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("stored_value_project", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stored_value_project_project_id"))
    op.drop_table("stored_value_project")
    op.drop_table("stored_value_version")
    op.drop_table("stored_value")
