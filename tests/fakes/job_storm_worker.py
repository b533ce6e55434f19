"""What runs in the processes of the job storms: a worker, or a publisher, that may be killed at any moment.

``work(url, name)`` and ``publish(url, name, threads, count, output)`` are the targets of processes that the tests start.
"""

from __future__ import annotations

import json
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.orm import Session

from hooks.jobs.queue import enqueue
from hooks.jobs.worker import JobContext, Worker
from hooks.models import JobState
from registry.db import Database
from tests.job_bench import note

MANY_ATTEMPTS = 1000


class Rollback(Exception):
    """Raised on purpose, to undo a transaction."""


def link_text(chain: int, link: int) -> str:
    return f"chain {chain} link {link}"


def chain(job: JobContext) -> None:
    """Do a little; then end, write a row and put in the successor, all at once."""
    job.wait(random.uniform(0.0, 0.02))
    number, link, length = job.payload["chain"], job.payload["link"], job.payload["length"]

    def unit(session: Session) -> None:
        session.execute(insert(note).values(text=link_text(number, link)))
        if link < length:
            enqueue(session, "chain", {**job.payload, "link": link + 1}, max_attempts=MANY_ATTEMPTS)

    job.finish(JobState.SUCCEEDED, unit)


def die_before_commit(job: JobContext) -> None:
    """Die by SIGKILL inside the transaction that ends the job, after everything was written; the next attempt lives."""

    def unit(session: Session) -> None:
        session.execute(insert(note).values(text="end"))
        enqueue(session, "chain", {"chain": 1, "link": 1, "length": 1})
        session.flush()
        if job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    job.finish(JobState.SUCCEEDED, unit)


def die_torn(job: JobContext, database: Database) -> None:
    """The control: the row is written in a transaction of its own before the job ends."""
    with database.write() as session:
        session.execute(insert(note).values(text="end"))
    if job.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def until_told(job: JobContext) -> None:
    """Say that it started, wait to be told to stop, and leave the job unfinished."""
    job.step(lambda session: session.execute(insert(note).values(text="started")))
    job.wait(3600)


def published(job: JobContext) -> None:
    """What a publish brings about."""
    text = f"handled {job.payload['token']}"
    job.finish(JobState.SUCCEEDED, lambda session: session.execute(insert(note).values(text=text)) and None)


def work(url: str, name: str) -> None:
    database = Database(url)
    worker = Worker(
        database,
        {
            "chain": chain,
            "die_before_commit": die_before_commit,
            "die_torn": lambda job: die_torn(job, database),
            "until_told": until_told,
            "published": published,
        },
        slots=4,
        poll_seconds=0.05,
        lease_seconds=2.0,
        heartbeat_seconds=0.4,
        reap_seconds=0.3,
        name=name,
        first_retry_seconds=0.05,
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.drain(0))
    worker.run()
    database.close()


def publish(url: str, name: str, threads: int, count: int, output: Path) -> None:
    """Publish from several threads, undo every third; write the tokens that were acknowledged to ``output``."""
    database = Database(url)
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda number: publish_some(database, f"{name}-{number}", count), range(threads))
        output.write_text(json.dumps([token for tokens in done for token in tokens]))
    database.close()


def publish_some(database: Database, prefix: str, count: int) -> list[str]:
    acknowledged = []
    for number in range(count):
        token = f"{prefix}-{number}"
        try:
            publish_one(database, token, undo=number % 3 == 2)
        except Rollback:
            continue
        acknowledged.append(token)
    return acknowledged


def publish_one(database: Database, token: str, *, undo: bool) -> None:
    with database.write() as session:
        session.execute(insert(note).values(text=f"published {token}"))
        assert enqueue(session, "published", {"token": token}, dedupe=token) is not None
        assert enqueue(session, "published", {"token": token}, dedupe=token) is None
        if undo:
            raise Rollback
