"""What the tests of the job queue share: fresh databases of both kinds, workers that are always ended, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, delete, select, update

from hooks.jobs.queue import faults
from hooks.jobs.worker import Handler, Worker
from hooks.models import Job, JobQueue, JobState, WorkerProcess
from registry.db import Base, Database
from tests import postgres

BACKENDS = ("sqlite", "postgresql")
PATIENCE_SECONDS = 40.0

# The "domain": rows that handlers write. No unique constraint, so that a repetition would show.
note = Table("note", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(200), nullable=False))


@contextmanager
def fresh_url(backend: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database, without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{folder / 'jobs.db'}"
        return
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.shared().fresh_database() as url:
        yield url


def create_tables(database: Database) -> None:
    tables = [model.__table__ for model in (Job, JobQueue, WorkerProcess)]
    Base.metadata.create_all(database.engine, tables=tables)
    note.metadata.create_all(database.engine)


@contextmanager
def fresh_database(backend: str, folder: Path) -> Iterator[Database]:
    """A database with the queue's tables; at the end the queue must be sound."""
    with fresh_url(backend, folder) as url:
        database = Database(url)
        try:
            create_tables(database)
            yield database
            check_sound(database)
        finally:
            database.close()


def wipe(database: Database) -> None:
    """Empty the queue's tables: much cheaper than a new database for every test."""
    with database.write() as session:
        for table in (Job.__table__, JobQueue.__table__, WorkerProcess.__table__, note):
            session.execute(delete(table))


def check_sound(database: Database) -> None:
    with database.read() as session:
        assert faults(session) == []


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until ``condition`` is true and return its value; only a hung program takes long here."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, what or "it never came true"
        time.sleep(0.02)


class Bench:
    """A database and the workers on it, with short times."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._workers: list[Worker] = []

    def worker(self, handlers: dict[str, Handler], **options: Any) -> Worker:
        """Start a worker. Its lease is long enough never to run out by chance."""
        settings: dict[str, Any] = {
            "slots": 2,
            "poll_seconds": 0.05,
            "lease_seconds": 30.0,
            "heartbeat_seconds": 0.05,
            "reap_seconds": 0.1,
            "return_seconds": 20.0,
            "first_retry_seconds": 0.01,
        }
        worker = Worker(options.pop("database", self.database), handlers, **(settings | options))
        worker.start()
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.drain(0)
        for worker in self._workers:
            assert worker.join(PATIENCE_SECONDS), f"{worker.name} did not end"

    def job(self, job_id: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def state(self, job_id: int) -> JobState:
        return self.job(job_id).state

    def await_state(self, job_id: int, state: JobState) -> Job:
        eventually(lambda: self.state(job_id) is state, f"job {job_id} never became {state}")
        return self.job(job_id)

    def notes(self) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(note.c.text).order_by(note.c.id)))

    def change(self, job_id: int, **values: Any) -> None:
        with self.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))
