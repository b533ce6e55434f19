"""The invariants of builds and pipelines, for ``entrepot fsck``."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.jobs import queue
from hooks.models import ActionExecution, Build, Execution, Report
from registry.db import Database

_RUNNING = ("InProgress", "Stopping")


def check(db: Database) -> list[tuple[str, str]]:
    """(invariant, what) for everything that must not be."""
    with db.read() as session:
        found = [("I8", fault) for fault in queue.faults(session)]
        found += [("I8", fault) for fault in _builds(session)]
        found += [("I8", fault) for fault in _reports(session)]
        return found + [("I8", fault) for fault in _executions(session)]


def _builds(session: Session) -> list[str]:
    """A build that ended says when, and one that says when has ended."""
    rows = session.scalars(select(Build.id).where((Build.status == "IN_PROGRESS") != Build.ended_at.is_(None)))
    return [f"build {build_id} has a status and an end that disagree" for build_id in rows]


def _reports(session: Session) -> list[str]:
    """A report of a build that has ended is no longer being made."""
    unfinished = select(Report.id).join(Build, Build.id == Report.build_id).where(Report.status == "GENERATING")
    rows = session.scalars(unfinished.where(Build.ended_at.is_not(None)))
    return [f"report {report_id} is being made, and its build has ended" for report_id in rows]


def _executions(session: Session) -> list[str]:
    faults = []
    twice = session.execute(
        select(Execution.pipeline_id, Execution.trigger_identity)
        .group_by(Execution.pipeline_id, Execution.trigger_identity)
        .having(func.count() > 1)
    )
    faults += [f"pipeline {row[0]} has two executions of trigger {row[1]}" for row in twice]
    open_actions = session.execute(
        select(ActionExecution.id, Execution.id)
        .join(Execution, Execution.id == ActionExecution.execution_id)
        .where(ActionExecution.status == "InProgress", Execution.status.not_in(_RUNNING))
    )
    faults += [f"execution {row[1]} has ended, and its action {row[0]} has not" for row in open_actions]
    return faults
