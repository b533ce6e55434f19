"""The job that ends a build which waited too long for its turn (CodeBuild's queuedTimeoutInMinutes)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hooks.builds.records import WAITING_KIND, OnFinished, expire_waiting
from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from registry.clock import Clock


def handlers(clock: Clock, on_finished: OnFinished) -> Mapping[str, Handler]:
    """Job kind → handler. Running twice is harmless: only a build that waits is ended."""

    def end(context: JobContext) -> None:
        def unit(session: Session) -> None:
            payload = context.payload
            waited = payload.get("waited", 0)  # jobs of before knew of builds only that had not begun
            expire_waiting(session, payload["build_id"], now=clock(), on_finished=on_finished, waited=waited)

        context.finish(JobState.SUCCEEDED, unit)

    return {WAITING_KIND: end}
