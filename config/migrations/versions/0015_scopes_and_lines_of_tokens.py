"""scopes and lines of tokens; tokens that leaked."""

import sqlalchemy as sa
from alembic import op


revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("packages", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("networks", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("parent_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("root_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("created_by", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("last_used_address", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("end_reason", sa.String(length=16), server_default="", nullable=False))
        batch_op.create_index(batch_op.f("ix_token_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_token_root_id"), ["root_id"], unique=False)
        batch_op.create_foreign_key("fk_token_parent_id", "token", ["parent_id"], ["id"], ondelete="CASCADE")

    op.create_table(
        "token_leak",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=500), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_id"),
    )
    with op.batch_alter_table("token_leak", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_token_leak_account_id"), ["account_id"], unique=False)


def downgrade() -> None:
    # Without its limits a token would be one for everything.
    op.execute("DELETE FROM token WHERE CAST(packages AS VARCHAR) <> 'null' OR CAST(networks AS VARCHAR) <> 'null'")
    op.drop_table("token_leak")
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_constraint("fk_token_parent_id", type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_token_root_id"))
        batch_op.drop_index(batch_op.f("ix_token_parent_id"))
        for name in (
            "end_reason",
            "last_used_address",
            "created_by",
            "root_id",
            "parent_id",
            "networks",
            "packages",
        ):
            batch_op.drop_column(name)
