"""Executions that an action of another pipeline has started: their end is told to it by a job.

Who ends one has its pipeline and it locked already; so that transaction touches no other execution.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.pipeline import ActionExecution, Execution

ENDED_KIND = "invoked_execution_ended"


def started_by(session: Session, row: ActionExecution) -> int | None:
    """The execution that an action has started, if any; also before the action's own row says so.

    The start is one transaction and the note of it the next: between the two only the other execution tells.
    """
    if row.invoked_execution_id is not None:
        return row.invoked_execution_id
    return session.scalar(select(Execution.id).where(Execution.invoked_by_action_id == row.id))


def tell_end(session: Session, execution: Execution) -> None:
    """Wake the action that waits for an execution, if one does, in the transaction that ends it."""
    if execution.invoked_by_action_id is None:
        return
    enqueue(
        session,
        ENDED_KIND,
        {"execution_id": execution.id, "action_execution_id": execution.invoked_by_action_id},
        # No dedupe: one that is retried ends again, and nothing waits for it then.
        subject=f"execution:{execution.id}",
        max_attempts=PATIENT_ATTEMPTS,
    )
