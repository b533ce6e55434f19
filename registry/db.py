"""The database: engine, short transactions, and what differs between SQLite and PostgreSQL.

Two doors, and no other way in: ``write()`` is one short transaction that commits at the end of its block; ``read()``
never writes. No network is touched while either is open (a transaction held over a slow peer would stop every writer).
``first()`` is a read of one row, for what is asked so often that a session would cost more than the answer.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, DateTime, Dialect, Engine, Row, Select, Table, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from registry.errors import Unavailable

T = TypeVar("T")

BUSY_TIMEOUT_MS = 15_000
# Who waits for other writers of its own process waits for what goes on, and not for what may be away.
TURN_SECONDS = 60.0
RETRIES = 5
# PostgreSQL: serialization_failure, deadlock_detected, lock_not_available
_RETRYABLE_STATES = frozenset({"40001", "40P01", "55P03"})


class Base(DeclarativeBase):
    """Base of all tables, here and in ``hooks``: one metadata, so that one migration chain covers both."""


def table_of(model: type[Base]) -> Table:
    """A model's table, for statements on hot paths: what names models is compiled through the mapper each time."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: aware in Python on both databases (SQLite itself keeps no time zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive moment (it would be read as UTC on one database and as local on the other)."""
        _ = dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware moment in UTC."""
        _ = dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def wal_is_safe(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite is free of the WAL-reset bug (3.7.0 to 3.51.2; fixed in 3.51.3, 3.50.7 and 3.44.6).

    With two or more connections it can lose commits or corrupt the file, so that a server with several processes
    must not use WAL on an affected version.
    """
    if version >= (3, 51, 3):
        return True
    return (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def sqlite_journal_mode(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> str:
    """The journal mode to use with this SQLite: ``WAL`` where that is safe, else ``DELETE``."""
    return "WAL" if wal_is_safe(version) else "DELETE"


class Database:
    """One database, opened per process. Safe to use from many threads; call ``after_fork`` in a forked child."""

    def __init__(self, url: str, *, pool_size: int = 16, journal_mode: str | None = None) -> None:
        """Open ``url`` (``sqlite:///FILE`` or ``postgresql+psycopg://…``). Connects lazily.

        ``journal_mode`` is SQLite's; every process must use the same, by default ``sqlite_journal_mode()``.
        """
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.url = url
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": 20}
        # An error's text goes to the log; with its parameters would go digests, hashes and what people published.
        options["hide_parameters"] = True
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
        else:
            # A server restart leaves dead connections in the pool; the ping replaces them before use.
            options["pool_pre_ping"] = True
            options["connect_args"] = {"connect_timeout": 5}
        self.engine: Engine = create_engine(url, **options)
        if self.is_sqlite:
            configure = functools.partial(_configure_sqlite, journal_mode or sqlite_journal_mode())
            event.listen(self.engine, "connect", configure)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        reading: dict[str, Any] = {"entrepot_read": True}
        self._looking = self.engine.execution_options(**reading)
        if not self.is_sqlite:
            # By default each statement there sees what was committed meanwhile: rows of one state of things would be
            # put together with the revision of another, and kept under it.
            reading["isolation_level"] = "REPEATABLE READ"
        self._read = sessionmaker(self.engine.execution_options(**reading), expire_on_commit=False, autoflush=False)
        self._mine = threading.local()
        self._turn = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One write transaction: committed when the block ends, rolled back when it raises.

        On SQLite it begins IMMEDIATE, so that lock errors come at the start and never at the commit.
        """
        with _as_unavailable(), self._begin() as session:
            yield session

    @contextmanager
    def _begin(self) -> Iterator[Session]:
        """A write transaction. On SQLite, which has one writer, those of this process take turns.

        Left to themselves its threads look again and again whether the file is free, after pauses of up to 100 ms, and who
        is unlucky is overtaken until its time is up (20 builds that write their logs: up to 13 s instead of 2).
        """
        if not self.is_sqlite:
            with self._write.begin() as session:
                yield session
            return
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise Unavailable("the database is not available; try again shortly")
        try:
            with self._write.begin() as session:
                yield session
        finally:
            self._turn.release()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only session on one consistent snapshot; anything written in it is rolled back."""
        with _as_unavailable(), self._read() as session:
            before, self._mine.reading = getattr(self._mine, "reading", None), session
            try:
                yield session
            finally:
                self._mine.reading = before

    def first(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        """The first row that one statement over tables finds, without a session; None where it finds none.

        Half of what ``read`` takes for that (measured), and by its one statement as consistent.
        """
        with _as_unavailable(), self._looking.connect() as connection:
            return connection.execute(statement, parameters).first()

    @contextmanager
    def read_aside(self) -> Iterator[Session]:
        """A ``read`` for what may be asked in the middle of another one of the same thread, by who knows nothing of it.

        On SQLite it has the other one's snapshot. A second one beside the first could not begin while a writer commits,
        and without WAL that writer waits for the first one's end: all would stand still until a time-out.
        """
        outer: Session | None = getattr(self._mine, "reading", None)
        if outer is None or not self.is_sqlite or not outer.in_transaction():
            with self.read() as session:
                yield session
        else:
            with _as_unavailable(), Session(outer.connection(), expire_on_commit=False, autoflush=False) as session:
                yield session

    def retry(self, unit: Callable[[Session], T]) -> T:
        """Run an idempotent ``unit`` in a write transaction, again on deadlock or serialisation failure (5 times)."""
        began = time.monotonic()
        for attempt in range(RETRIES):
            try:
                with self._begin() as session:
                    return unit(session)
            except DBAPIError as error:
                # A lock that was waited for as long as a writer waits is held by something else than another writer.
                has_waited = time.monotonic() - began >= BUSY_TIMEOUT_MS / 1000
                if attempt == RETRIES - 1 or has_waited or not _is_retryable(error):
                    if is_outage(error):
                        raise Unavailable("the database is not available; try again shortly") from error
                    raise
                time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311  (spreads retries)
        raise AssertionError("unreachable")

    def ping(self) -> None:
        """Raise Unavailable when the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def after_fork(self) -> None:
        """Forget connections that belong to the parent process (SQLite drops POSIX locks if they were closed here)."""
        self.engine.dispose(close=False)
        self._turn = threading.RLock()  # another thread of the parent may have had it

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def _configure_sqlite(mode: str, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver's guess
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0].upper() != mode:
        cursor.execute(f"PRAGMA journal_mode={mode}")
    # Acknowledged means durable. In DELETE mode the commit is the unlinking of the journal, and only EXTRA syncs the
    # directory after it: with FULL a power loss may bring the journal back, which then takes the commit away. In WAL
    # mode there is nothing to unlink, and EXTRA is FULL.
    cursor.execute("PRAGMA synchronous=EXTRA")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("entrepot_read", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_outage(error: DBAPIError) -> bool:
    """Whether ``error`` says that the database is away, busy, full or read-only, rather than that the statement is wrong."""
    if error.connection_invalidated:
        return True
    return isinstance(error, OperationalError)


def _is_retryable(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state in _RETRYABLE_STATES or "database is locked" in str(error.orig)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if is_outage(error):
            raise Unavailable("the database is not available; try again shortly") from error
        raise
