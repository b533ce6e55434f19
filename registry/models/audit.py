"""Who did what: one row for each change, written in the transaction that makes the change, and never changed again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DDL, JSON, BigInteger, Integer, String, event
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime, table_of

_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class AuditEntry(Base):
    """An act. ``action`` is a dotted word (``package.publish``); ``object`` a path a person can read.

    ``seq`` has no gaps, and ``hash`` covers the entry and the hash before it (``registry.audit_chain``). ``via``,
    ``address`` and ``request_id`` tell of the request, where there was one.
    """

    __tablename__ = "audit_entry"

    seq: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(64))
    object: Mapped[str] = mapped_column(String(500))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    via: Mapped[str | None] = mapped_column(String(32))
    address: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str | None] = mapped_column(String(32))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditCheckpoint(Base):
    """The server's signature under the head of the log at a moment; ``pushed_at`` is None until it is out of here."""

    __tablename__ = "audit_checkpoint"

    seq: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    hash: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(128))
    pushed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


_REFUSAL = "entries of the audit log are never changed or removed"
# REPLACE removes a row without telling a DELETE trigger: the last one is for it.
SQLITE_GUARDS = tuple(
    f"CREATE TRIGGER audit_entry_{name} BEFORE {when} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    for name, when in (
        ("no_update", "UPDATE ON audit_entry"),
        ("no_delete", "DELETE ON audit_entry"),
        ("no_replace", "INSERT ON audit_entry WHEN EXISTS (SELECT 1 FROM audit_entry WHERE seq = NEW.seq)"),
    )
)
POSTGRES_GUARDS = (
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
)

for _dialect, _guards in (("sqlite", SQLITE_GUARDS), ("postgresql", POSTGRES_GUARDS)):
    for _guard in _guards:
        event.listen(table_of(AuditEntry), "after_create", DDL(_guard).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
