"""The time that actions have: a job that is due when it is over."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, forget

JOB_KIND = "expire_action"


def expire_later(session: Session, action_execution_id: int, minutes: int) -> None:
    """Let an action fail that has not ended in so many minutes."""
    enqueue(
        session,
        JOB_KIND,
        {"action_execution_id": action_execution_id, "minutes": minutes},
        dedupe=f"{JOB_KIND}:{action_execution_id}",
        run_after_seconds=minutes * 60,
        subject=_subject(action_execution_id),
        max_attempts=PATIENT_ATTEMPTS,
    )


def forget_expiry(session: Session, action_execution_id: int) -> None:
    """The action has ended in time."""
    forget(session, JOB_KIND, _subject(action_execution_id))


def _subject(action_execution_id: int) -> str:
    return f"action:{action_execution_id}"
