"""Database migrations: one linear Alembic chain over all tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from config.settings import Settings
from registry.db import Database
from registry.errors import Problem, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"


class NewerDatabase(Problem):
    """The database was written by a newer release than this one."""


def alembic_config(url: str) -> Config:
    """Alembic's configuration for a database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade(settings: Settings) -> None:
    """Bring the database to this release's schema. Raises NewerDatabase rather than touch one from the future."""
    config = alembic_config(settings.database_url)
    db = Database(settings.database_url)
    try:
        with db.engine.connect() as connection:
            check_not_newer(connection, config)
    finally:
        db.close()
    command.upgrade(config, "head")


def check_not_newer(connection: Connection, config: Config) -> None:
    """Raise NewerDatabase when the database's revision is unknown to this release."""
    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(f"the database is at revision {current}, which this release does not know")


def require_current(db: Database) -> None:
    """Raise Unavailable when the database is not at this release's schema yet, NewerDatabase when it is beyond."""
    config = alembic_config(db.url)
    with db.engine.connect() as connection:
        check_not_newer(connection, config)
        current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head()
    if current != head:
        raise Unavailable(f"the database is at revision {current}, this release needs {head}: run 'entrepot migrate'")
