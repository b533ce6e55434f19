"""where a build was let publish when it was started; the count of ended builds; leaks of credentials of runners."""

from typing import Any

import sqlalchemy as sa
from alembic import op


revision = "0031"
down_revision = "0029"
branch_labels = None
depends_on = None

_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    # Builds that wait now were started for nowhere as far as anybody knows: they publish when they are started anew.
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.add_column(sa.Column("publish_to", sa.String(length=151), nullable=True))
        batch_op.create_index("ix_build_open", ["project_id"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("publish_to", sa.String(length=151), nullable=True))
    with op.batch_alter_table("token_leak", schema=None) as batch_op:
        batch_op.alter_column("token_id", existing_type=sa.Integer(), nullable=True)
        batch_op.add_column(sa.Column("name", sa.String(length=200), nullable=True))
    op.create_table(
        "build_tally",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("builds", sa.BigInteger(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=False),
        sa.Column("queue_seconds", sa.Double(), nullable=False),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["build_project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "status"),
    )
    _count()


def _count() -> None:
    """Count what has ended by now, once."""
    moment = sa.DateTime(timezone=True)
    build = sa.table(
        "build",
        sa.column("project_id", sa.Integer()),
        sa.column("status", sa.String()),
        *(sa.column(name, moment) for name in ("submitted_at", "started_at", "ended_at")),
    )
    names = ["project_id", "status", "builds", "begun", "queue_seconds", "duration_seconds"]
    counted = (
        sa.select(
            build.c.project_id,
            build.c.status,
            sa.func.count(),
            sa.func.count(build.c.started_at),
            sa.func.coalesce(sa.func.sum(_seconds(build.c.submitted_at, build.c.started_at)), 0.0),
            sa.func.coalesce(sa.func.sum(_seconds(build.c.started_at, build.c.ended_at)), 0.0),
        )
        .where(build.c.ended_at.is_not(None))
        .group_by(build.c.project_id, build.c.status)
    )
    op.execute(sa.insert(sa.table("build_tally", *map(sa.column, names))).from_select(names, counted))


def _seconds(start: Any, end: Any) -> Any:
    if op.get_bind().dialect.name == "postgresql":
        return sa.func.extract("epoch", end - start)
    return (sa.func.julianday(end) - sa.func.julianday(start)) * 86400.0


def downgrade() -> None:
    op.drop_table("build_tally")
    op.execute("DELETE FROM token_leak WHERE token_id IS NULL")
    with op.batch_alter_table("token_leak", schema=None) as batch_op:
        batch_op.drop_column("name")
        batch_op.alter_column("token_id", existing_type=sa.Integer(), nullable=False)
    with op.batch_alter_table("build_batch", schema=None) as batch_op:
        batch_op.drop_column("publish_to")
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.drop_index("ix_build_open")
        batch_op.drop_column("publish_to")
