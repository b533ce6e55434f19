"""What makes the SQLite databases that a test opens in its own process cheap; servers that are started have none of it.

They have one dialect and one cache of compiled statements, and none of them waits for the disk.

An engine compiles each statement when it is first executed, and most tests have a database, and so an engine, of their
own: compiling was half of what a request cost there (measured). What a statement compiles to depends on the dialect alone.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy
from sqlalchemy import Engine

from registry import db

STATEMENTS = 5000
product_connections = db._configure_sqlite


@functools.cache
def _first() -> Engine:
    engine = sqlalchemy.create_engine("sqlite://", query_cache_size=STATEMENTS)
    engine.connect().close()  # the first connection tells the dialect of the library
    engine.dispose()
    return engine


def _create_engine(url: str, **options: Any) -> Engine:
    engine = sqlalchemy.create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        engine.dialect = _first().dialect
        engine._compiled_cache = _first()._compiled_cache
    return engine


def _configure_without_waiting(mode: str, connection: Any, record: object) -> None:
    product_connections(mode, connection, record)
    connection.execute("PRAGMA synchronous=OFF")


def share_statements() -> None:
    """Have every ``registry.db.Database`` that is opened from here on take part."""
    db.create_engine = _create_engine  # type: ignore[attr-defined]
    db._configure_sqlite = _configure_without_waiting
