"""what builds publish, and their tokens for it."""

import sqlalchemy as sa
from alembic import op


revision = "0028"
down_revision = "0026"
branch_labels = None
depends_on = None

_ACCOUNT = sa.table(
    "account", sa.column("name", sa.String()), sa.column("is_service", sa.Boolean()), sa.column("actions", sa.JSON())
)


def upgrade() -> None:
    op.create_table(
        "build_token",
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_id"),
    )
    with op.batch_alter_table("build_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_token_build_id"), ["build_id"], unique=False)
    op.create_table(
        "built_asset",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("runner", sa.String(length=255), nullable=False),
        sa.Column("initiator", sa.String(length=255), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("is_copy", sa.Boolean(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("asset_id"),
    )
    with op.batch_alter_table("built_asset", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_built_asset_build_id"), ["build_id"], unique=False)
    # Builds publish by tokens of this account, each for the one repository that its project names.
    _set_actions(["publish", "read"])


def downgrade() -> None:
    _set_actions(["read"])
    with op.batch_alter_table("built_asset", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_built_asset_build_id"))
    op.drop_table("built_asset")
    with op.batch_alter_table("build_token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_build_token_build_id"))
    op.drop_table("build_token")


def _set_actions(actions: list[str]) -> None:
    op.execute(
        sa.update(_ACCOUNT).where(_ACCOUNT.c.name == "builds", _ACCOUNT.c.is_service.is_(True)).values(actions=actions)
    )
