"""the audit log is a chain."""

import hashlib
import json
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op


revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_REFUSAL = "entries of the audit log are never changed or removed"
_BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "audit_checkpoint",
        sa.Column("seq", _number(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    for name, length in (("via", 32), ("address", 100), ("request_id", 32), ("previous_hash", 64), ("hash", 64)):
        op.add_column("audit_entry", sa.Column(name, sa.String(length=length), nullable=True))
    if _is_sqlite():
        op.alter_column("audit_entry", "id", new_column_name="seq")
    else:
        # The numbers come from the chain now: a sequence leaves gaps where a transaction was rolled back.
        op.execute("ALTER TABLE audit_entry ALTER COLUMN id DROP DEFAULT")
        op.execute("DROP SEQUENCE IF EXISTS audit_entry_id_seq")
        op.alter_column("audit_entry", "id", new_column_name="seq", type_=sa.BigInteger())
    _chain()
    with op.batch_alter_table("audit_entry", schema=None) as batch_op:
        batch_op.alter_column("previous_hash", existing_type=sa.String(length=64), nullable=False)
        batch_op.alter_column("hash", existing_type=sa.String(length=64), nullable=False)
    for guard in _guards():
        op.execute(guard)


def downgrade() -> None:
    if _is_sqlite():
        for name in ("no_update", "no_delete", "no_replace"):
            op.execute(f"DROP TRIGGER audit_entry_{name}")
    else:
        op.execute("DROP TRIGGER audit_entry_no_change ON audit_entry")
        op.execute("DROP TRIGGER audit_entry_no_truncate ON audit_entry")
        op.execute("DROP FUNCTION audit_entry_refuse()")
    with op.batch_alter_table("audit_entry", schema=None) as batch_op:
        for name in ("via", "address", "request_id", "previous_hash", "hash"):
            batch_op.drop_column(name)
    if _is_sqlite():
        op.alter_column("audit_entry", "seq", new_column_name="id")
    else:
        op.alter_column("audit_entry", "seq", new_column_name="id", type_=sa.Integer())
        op.execute("CREATE SEQUENCE audit_entry_id_seq OWNED BY audit_entry.id")
        op.execute("SELECT setval('audit_entry_id_seq', coalesce((SELECT max(id) FROM audit_entry), 0) + 1, false)")
        op.execute("ALTER TABLE audit_entry ALTER COLUMN id SET DEFAULT nextval('audit_entry_id_seq')")
    op.drop_table("audit_checkpoint")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _chain() -> None:
    """Number and chain what is there, in its order; the new number is never more than the old, so that none is taken."""
    bind = op.get_bind()
    texts = [sa.column(name, sa.String) for name in ("actor", "action", "object")]
    table = sa.table(
        "audit_entry",
        sa.column("seq", sa.BigInteger),
        sa.column("at", sa.DateTime(timezone=True)),
        *texts,
        sa.column("details", sa.JSON),
        sa.column("previous_hash", sa.String),
        sa.column("hash", sa.String),
    )
    change = (
        sa.update(table)
        .where(table.c.seq == sa.bindparam("old"))
        .values(seq=sa.bindparam("new"), previous_hash=sa.bindparam("previous"), hash=sa.bindparam("own"))
    )
    seen, seq, previous = -1, 0, "0" * 64
    wanted = sa.select(*(table.c[name] for name in ("seq", "at", "actor", "action", "object", "details")))
    while rows := bind.execute(wanted.where(table.c.seq > seen).order_by(table.c.seq).limit(_BATCH)).all():
        changes = []
        for row in rows:
            seq += 1
            own = hashlib.sha256(_canonical(seq, row) + bytes.fromhex(previous)).hexdigest()
            changes.append({"old": row.seq, "new": seq, "previous": previous, "own": own})
            previous = own
        seen = rows[-1].seq
        bind.execute(change, changes)


def _canonical(seq: int, row: sa.Row[Any]) -> bytes:
    at = row.at if row.at.tzinfo is not None else row.at.replace(tzinfo=UTC)
    content = {
        "seq": seq,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "actor": row.actor,
        "via": None,
        "address": None,
        "requestId": None,
        "action": row.action,
        "object": row.object,
        "details": row.details,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _guards() -> list[str]:
    if _is_sqlite():
        return [
            f"CREATE TRIGGER audit_entry_{name} BEFORE {when} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            for name, when in (
                ("no_update", "UPDATE ON audit_entry"),
                ("no_delete", "DELETE ON audit_entry"),
                ("no_replace", "INSERT ON audit_entry WHEN EXISTS (SELECT 1 FROM audit_entry WHERE seq = NEW.seq)"),
            )
        ]
    return [
        (
            "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        ),
        (
            "CREATE TRIGGER audit_entry_no_change BEFORE UPDATE OR DELETE ON audit_entry "
            "FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse()"
        ),
        (
            "CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_entry "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_refuse()"
        ),
    ]
