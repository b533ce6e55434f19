"""images of build projects."""

import sqlalchemy as sa
from alembic import op


revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_image_pin",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "image"),
    )


def downgrade() -> None:
    op.drop_table("build_image_pin")
