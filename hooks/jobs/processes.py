"""The rows of living workers, for pages and for operators."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hooks.jobs.database_clock import database_now
from hooks.models.job import WorkerProcess


def see(session: Session, worker_id: str, *, name: str, slots: int, queues: Sequence[str], is_draining: bool) -> None:
    """Say that this process lives. The row comes (back) by itself."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(WorkerProcess).values(
        id=worker_id,
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots,
        queues=list(queues),
        started_at=database_now(),
        seen_at=database_now(),
        is_draining=is_draining,
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"seen_at": database_now(), "is_draining": is_draining}
        )
    )


def silence_seconds(session: Session, host: str) -> float | None:
    """How long ago the worker of ``host`` that spoke last did so; None when there is none, or it left in order."""
    last = select(func.max(WorkerProcess.seen_at)).where(WorkerProcess.host == host).scalar_subquery()
    return session.scalar(select(database_now() - last))


def forget(session: Session, worker_id: str) -> None:
    """Remove the row of a worker that ends."""
    session.execute(delete(WorkerProcess).where(WorkerProcess.id == worker_id))


def forget_silent(session: Session, *, older_than_seconds: float) -> None:
    """Remove the rows of workers that were killed: nobody else does."""
    session.execute(
        delete(WorkerProcess).where(WorkerProcess.seen_at < database_now() - older_than_seconds),
        execution_options={"synchronize_session": False},
    )
