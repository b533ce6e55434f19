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
            current, head = _revisions(connection, config)
    finally:
        db.close()
    if current != head:
        command.upgrade(config, "head")


def check_not_newer(connection: Connection, config: Config) -> None:
    """Raise NewerDatabase when the database's revision is unknown to this release."""
    _revisions(connection, config)


def require_current(db: Database) -> None:
    """Raise Unavailable when the database is not at this release's schema yet, NewerDatabase when it is beyond."""
    with db.engine.connect() as connection:
        current, head = _revisions(connection, alembic_config(db.url))
    if current != head:
        raise Unavailable(f"the database is at revision {current}, this release needs {head}: run 'entrepot migrate'")


def _revisions(connection: Connection, config: Config) -> tuple[str | None, str | None]:
    """The database's revision (None: it is empty), and this release's. Reading all migrations is most of a look."""
    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(config)
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise NewerDatabase(f"the database is at revision {current}, which this release does not know")
    return current, script.get_current_head()
