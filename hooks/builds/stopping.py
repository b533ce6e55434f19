"""Stopping a build, or a batch, for somebody who holds a lock that its end would ask for: by a job.

Whoever ends a build takes the locks in one order, job, build, batch, execution, project. A pipeline that gives an action
up has its execution's lock already, and must not go back in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy.orm import Session

from hooks.builds.batches import stop_batch
from hooks.builds.records import OnFinished, request_stop_build, subject_of
from hooks.jobs.context import Handler, JobContext
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.build_batch import BuildBatch
from hooks.models.job import JobState
from registry.clock import Clock
from registry.errors import Conflict, NotFound

STOP_KIND = "build_stop"


def stop_soon(session: Session, build_id: str) -> None:
    """Have a build or a batch build told to stop, when the caller's transaction has ended; one that has ended needs none."""
    payload = {"build_id": build_id}
    enqueue(session, STOP_KIND, payload, max_attempts=PATIENT_ATTEMPTS, subject=subject_of(build_id))


def handlers(clock: Clock, on_finished: OnFinished) -> Mapping[str, Handler]:
    """Job kind → handler. Running twice is harmless."""

    def stop(context: JobContext) -> None:
        build_id = context.payload["build_id"]

        def unit(session: Session) -> None:
            with suppress(Conflict, NotFound):
                if session.get(BuildBatch, build_id) is not None:
                    stop_batch(session, build_id, now=clock(), on_finished=on_finished)
                else:
                    request_stop_build(session, build_id, now=clock(), on_finished=on_finished)

        context.finish(JobState.SUCCEEDED, unit)

    return {STOP_KIND: stop}
