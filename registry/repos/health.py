"""How external connections do: noted as they are asked, kept in rows so that every process can show it.

Notes are gathered in memory and written at most once in ``INTERVAL_SECONDS`` for each connection: the row is for
people, and must not cost a write for each request. What is told in between is written when the interval is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from registry import events
from registry.clock import Clock
from registry.db import Database
from registry.errors import Problem
from registry.models import ConnectionHealth, Domain, ExternalConnection, Repository

log = logging.getLogger("entrepot.upstream")

INTERVAL_SECONDS = 5.0
LONGEST_REASON = 500
_INSTANT = timedelta(microseconds=1)

WORKING, FAILING, LEFT_ALONE, UNKNOWN = "Working", "Failing", "LeftAlone", "Unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """How a connection does. ``state`` is Working, Failing, LeftAlone (its breaker is open) or Unknown (not asked yet).

    ``last_failure`` is the reason in words, empty where there was none; ``left_alone_until`` only while it is.
    """

    state: str = UNKNOWN
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_failure: str = ""
    left_alone_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConnectionDetail:
    """An external connection with its health. Its credential is never told, only that there is one."""

    format: str
    name: str
    url: str | None
    position: int
    has_credential: bool
    has_ca_bundle: bool
    created_at: datetime
    health: Health


@dataclass(slots=True)
class _Note:
    success_at: datetime | None = None
    failure_at: datetime | None = None
    reason: str = ""
    until: datetime | None = None
    written: float | None = None
    is_waiting: bool = False

    def latest(self) -> datetime | None:
        return max(filter(None, (self.success_at, self.failure_at)), default=None)


class HealthBook:
    """Takes notes for one process. Safe for many threads; a note that cannot be written harms nobody's request."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._notes: dict[int, _Note] = {}

    def succeeded(self, connection_id: int) -> None:
        """It gave a usable answer, a sure "there is none" among them."""
        with self._lock:
            note = self._notes.setdefault(connection_id, _Note())
            note.success_at, note.until = self._moment(note), None
        self._due(connection_id, note)

    def failed(self, connection_id: int, reason: str, left_alone_seconds: float) -> None:
        """It gave none. ``left_alone_seconds`` is how long nobody asks it now, 0 while its breaker is closed."""
        with self._lock:
            note = self._notes.setdefault(connection_id, _Note())
            note.failure_at, note.reason = self._moment(note), reason[:LONGEST_REASON]
            pause = timedelta(seconds=left_alone_seconds)
            note.until = note.failure_at + pause if left_alone_seconds > 0 else None
        self._due(connection_id, note)

    def _moment(self, note: _Note) -> datetime:
        # What came last must show, also when the clock stood still.
        now, latest = self._clock(), note.latest()
        return now if latest is None or now > latest else latest + _INSTANT

    def _due(self, connection_id: int, note: _Note) -> None:
        with self._lock:
            if note.is_waiting:
                return
            now = self._monotonic()
            rest = 0.0 if note.written is None else note.written + self._interval_seconds - now
            if rest <= 0:
                note.written = now
            else:
                note.is_waiting = True
        if rest <= 0:
            self._write(connection_id, note)
            return
        later = threading.Timer(rest, self._write_later, (connection_id, note))
        later.daemon = True
        later.start()

    def _write_later(self, connection_id: int, note: _Note) -> None:
        with self._lock:
            note.is_waiting = False
            note.written = self._monotonic()
        self._write(connection_id, note)

    def _write(self, connection_id: int, note: _Note) -> None:
        try:
            with self._db.write() as session:
                _merge(session, connection_id, note)
        except (Problem, SQLAlchemyError) as error:
            log.info("the health of connection %d is not written: %s", connection_id, error)


def _merge(session: Session, connection_id: int, note: _Note) -> None:
    """Add to the row what this process knows later than the row does: other processes write it too."""
    row = session.get(ConnectionHealth, connection_id)
    if row is None:
        if session.get(ExternalConnection, connection_id) is None:
            return  # it was removed while it was being asked
        row = ConnectionHealth(connection_id=connection_id, last_failure="")
        session.add(row)
    before = max(filter(None, (row.last_success_at, row.last_failure_at)), default=None)
    failed_before = _is_failing(row)
    if note.success_at is not None and (row.last_success_at is None or note.success_at > row.last_success_at):
        row.last_success_at = note.success_at
    if note.failure_at is not None and (row.last_failure_at is None or note.failure_at > row.last_failure_at):
        row.last_failure_at, row.last_failure = note.failure_at, note.reason
    latest = note.latest()
    if latest is not None and (before is None or latest >= before):
        row.left_alone_until = note.until
    if latest is not None and _is_failing(row) != failed_before:
        _tell(session, row, latest)


def _is_failing(row: ConnectionHealth) -> bool:
    success, failure = row.last_success_at, row.last_failure_at
    return failure is not None and (success is None or failure > success)


def _tell(session: Session, row: ConnectionHealth, now: datetime) -> None:
    """The event of a connection that began to fail, or works again. Between Failing and LeftAlone nothing is told."""
    place = session.execute(
        select(Domain.name, Repository.name, ExternalConnection.format, ExternalConnection.name)
        .join(Repository, Repository.domain_id == Domain.id)
        .join(ExternalConnection, ExternalConnection.repository_id == Repository.id)
        .where(ExternalConnection.id == row.connection_id)
    ).one()
    told = dict(zip(("domain", "repository", "format", "connection"), place, strict=True))
    is_failing = _is_failing(row)
    reason = row.last_failure if is_failing else ""
    state = FAILING if is_failing else WORKING
    events.note(session, events.CONNECTION_HEALTH_CHANGED, now, **told, state=state, reason=reason)


def details(session: Session, repository_id: int, now: datetime) -> list[ConnectionDetail]:
    """A repository's external connections with their health, in the order in which they are asked."""
    rows = session.execute(
        select(ExternalConnection, ConnectionHealth)
        .outerjoin(ConnectionHealth, ConnectionHealth.connection_id == ExternalConnection.id)
        .where(ExternalConnection.repository_id == repository_id)
        .order_by(ExternalConnection.position, ExternalConnection.id)
    )
    return [_detail(connection, row, now) for connection, row in rows]


def _detail(connection: ExternalConnection, row: Any, now: datetime) -> ConnectionDetail:
    return ConnectionDetail(
        format=connection.format,
        name=connection.name,
        url=connection.url,
        position=connection.position,
        has_credential=connection.sealed_credential is not None,
        has_ca_bundle=connection.ca_bundle is not None,
        created_at=connection.created_at,
        health=Health() if row is None else _health(row, now),
    )


def _health(row: ConnectionHealth, now: datetime) -> Health:
    success, failure, until = row.last_success_at, row.last_failure_at, row.left_alone_until
    is_left_alone = until is not None and until > now
    if failure is not None and (success is None or failure > success):
        state = LEFT_ALONE if is_left_alone else FAILING
    else:
        state = UNKNOWN if success is None else WORKING
    return Health(state, success, failure, row.last_failure, until if state == LEFT_ALONE else None)
