"""where a version is and was deployed, and what a pipeline has run for, by indexes; in what shape webhooks are told."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op


revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

_AT_ONCE = 500
_OPEN = sa.text("ended_at IS NULL")
_PACKAGE = ["pipeline_id", "domain", "format", "namespace", "name", "id"]


def upgrade() -> None:
    for table in ("deployment", "deployment_installation"):
        op.add_column(table, sa.Column("version_key", sa.String(length=64), nullable=True))
    _fill("deployment", ("id",))
    _fill("deployment_installation", ("group_id", "target"))
    for table in ("deployment", "deployment_installation"):
        op.create_index(f"ix_{table}_version_key", table, ["version_key"], unique=False)
    op.create_index("ix_deployment_group_completed", "deployment", ["group_id", "completed_at"], unique=False)
    payload = sa.Column("payload", sa.String(length=16), server_default="CloudEvents", nullable=False)
    op.add_column("webhook_endpoint", payload)
    op.create_index("ix_deployment_completed", "deployment", ["completed_at"], unique=False)
    op.create_index("ix_deployment_installation_target", "deployment_installation", ["target"], unique=False)
    op.create_index("ix_execution_of_package", "execution", _PACKAGE, unique=False)
    op.create_index("ix_execution_started", "execution", ["started_at"], unique=False)
    op.create_index(
        "ix_execution_open", "execution", ["pipeline_id"], unique=False, sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def _fill(name: str, keys: tuple[str, ...]) -> None:
    """Name the versions that are there already, some rows at a time."""
    table = sa.table(name, sa.column("revision", sa.JSON()), sa.column("version_key"), *map(sa.column, keys))
    columns = [table.c[key] for key in keys]
    after: tuple[str, ...] = ()
    while True:
        wanted = sa.select(*columns, table.c.revision).order_by(*columns).limit(_AT_ONCE)
        if after:
            wanted = wanted.where(sa.tuple_(*columns) > sa.tuple_(*map(sa.literal, after)))
        rows = op.get_bind().execute(wanted).all()
        for *at, kept in rows:
            found = _key(json.loads(kept) if isinstance(kept, str) else kept)
            if found is not None:
                here = sa.and_(*(column == value for column, value in zip(columns, at, strict=True)))
                op.execute(sa.update(table).where(here).values(version_key=found))
        if len(rows) < _AT_ONCE:
            return
        after = tuple(rows[-1][:-1])


def _key(kept: dict[str, Any]) -> str | None:
    if kept.get("revisionType") != "Package":
        return None
    names = ("domain", "format", "namespace", "name", "version")
    return hashlib.sha256("\n".join(str(kept["package"][each]) for each in names).encode()).hexdigest()


def downgrade() -> None:
    op.execute("ALTER TABLE webhook_endpoint DROP COLUMN payload")
    op.drop_index("ix_execution_open", table_name="execution")
    op.drop_index("ix_execution_started", table_name="execution")
    op.drop_index("ix_execution_of_package", table_name="execution")
    op.drop_index("ix_deployment_completed", table_name="deployment")
    op.drop_index("ix_deployment_group_completed", table_name="deployment")
    op.drop_index("ix_deployment_installation_target", table_name="deployment_installation")
    for table in ("deployment_installation", "deployment"):
        op.drop_index(f"ix_{table}_version_key", table_name=table)
        op.execute(f"ALTER TABLE {table} DROP COLUMN version_key")
