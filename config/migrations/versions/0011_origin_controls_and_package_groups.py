"""origin controls of packages, package groups."""

import sqlalchemy as sa
from alembic import op


revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What nobody says is blocked.
    op.add_column("package", sa.Column("publish", sa.String(length=8), server_default="BLOCK", nullable=False))
    op.add_column("package", sa.Column("upstream", sa.String(length=8), server_default="BLOCK", nullable=False))
    # Until now, how the first version came decided; so it does where nobody says otherwise.
    op.execute("UPDATE package SET publish = 'ALLOW' WHERE origin <> 'upstream'")
    op.execute("UPDATE package SET upstream = 'ALLOW' WHERE origin = 'upstream'")
    op.create_table(
        "package_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("pattern", sa.String(length=520), nullable=False),
        sa.Column("publish", sa.String(length=32), nullable=False),
        sa.Column("internal_upstream", sa.String(length=32), nullable=False),
        sa.Column("external_upstream", sa.String(length=32), nullable=False),
        sa.Column("description", sa.String(length=1000), server_default="", nullable=False),
        sa.Column("contact_info", sa.String(length=1000), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain_id", "pattern"),
    )
    op.create_table(
        "package_group_repository",
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("restriction", sa.String(length=32), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["package_group.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "restriction", "repository_id"),
    )
    with op.batch_alter_table("package_group_repository", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_package_group_repository_repository_id"), ["repository_id"], unique=False)


def downgrade() -> None:
    op.drop_table("package_group_repository")
    op.drop_table("package_group")
    # A package that got its controls before its first version was unknown to what comes before.
    op.execute("DELETE FROM package WHERE origin = 'prepared'")
    op.drop_column("package", "upstream")
    op.drop_column("package", "publish")
