"""What a person is told of the SQLite in use: which one it is, and that an affected one costs them something."""

from __future__ import annotations

import logging
import sqlite3

from config.settings import Settings
from registry.db import sqlite_journal_mode

Version = tuple[int, int, int]

log = logging.getLogger("entrepot.database")


def describe(settings: Settings, version: Version = sqlite3.sqlite_version_info) -> str | None:
    """Version and journal mode in a few words; None where the database is no SQLite file."""
    if not settings.database_url.startswith("sqlite:"):
        return None
    mode = sqlite_journal_mode(version)
    reason = "" if mode == "WAL" else "; WAL is not safe in this version"
    return f"{'.'.join(map(str, version))}, journal mode {mode}{reason}"


def warn(settings: Settings, version: Version = sqlite3.sqlite_version_info) -> None:
    """Log one warning when this SQLite has the WAL fault (see ``registry.db.wal_is_safe``) and WAL is not used."""
    if settings.database_url.startswith("sqlite:") and sqlite_journal_mode(version) != "WAL":
        log.warning(
            "SQLite %s can lose commits in WAL mode: journal mode DELETE is used, in which readers and writers wait for "
            "each other. SQLite 3.51.3, 3.50.7 or 3.44.6, or PostgreSQL, does away with that",
            ".".join(map(str, version)),
        )
