"""Alembic's entry: here, because only this floor sees all tables."""

from typing import Literal

from alembic import context

import hooks.models
import registry.models
from registry.db import Base, Database, UtcDateTime

_ = (hooks.models, registry.models)


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write our own column types as what they are in the database: a migration must not change when a class moves."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run() -> None:
    """Run the migrations in one transaction, on the server's own kind of connection (same pragmas)."""
    db = Database(context.config.attributes["url"])
    try:
        with db.engine.connect() as connection:
            if db.is_sqlite:
                # A batch makes a table anew and drops the old one, and with foreign keys in force SQLite deletes what
                # refers to the rows of a dropped table (its own advice, "Making Other Kinds Of Table Schema Changes").
                # Only outside of a transaction can they be switched off.
                connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                render_as_batch=db.is_sqlite,
                compare_type=True,
                render_item=render_item,
                transaction_per_migration=False,
            )
            with context.begin_transaction():
                context.run_migrations()
                if db.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                    raise RuntimeError(f"a migration left a row of {broken[0]} that refers to nothing in {broken[2]}")
            connection.commit()
    finally:
        db.close()


run()
