"""The jobs of batch builds: stopping what runs, and their time-out. Running one twice is harmless."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.batch_engine import TIMEOUT_KIND, WIND_DOWN_KIND
from hooks.builds.batch_plan import TaskStatus
from hooks.builds.batches import stop_one, time_out
from hooks.builds.records import OnFinished
from hooks.jobs.context import Handler, JobContext
from hooks.models.build_batch import BuildBatchGroup
from hooks.models.job import JobState
from registry.clock import Clock


def handlers(clock: Clock, on_finished: OnFinished) -> Mapping[str, Handler]:
    """Job kind → handler."""

    def wind_down(context: JobContext) -> None:
        # Each in a transaction of its own: a build's end takes locks in the order job, build, batch.
        for build_id in context.step(partial(_to_be_stopped, batch_id=context.payload["batch_id"])):
            context.step(partial(stop_one, build_id=build_id, now=clock(), on_finished=on_finished))
        context.finish(JobState.SUCCEEDED)

    def expire(context: JobContext) -> None:
        about = (context.payload["batch_id"], context.payload["attempt"])
        context.finish(
            JobState.SUCCEEDED, lambda session: time_out(session, *about, now=clock(), on_finished=on_finished)
        )

    return {WIND_DOWN_KIND: wind_down, TIMEOUT_KIND: expire}


def _to_be_stopped(session: Session, batch_id: str) -> list[str]:
    groups = session.scalars(
        select(BuildBatchGroup).where(
            BuildBatchGroup.batch_id == batch_id,
            BuildBatchGroup.status == TaskStatus.IN_PROGRESS.value,
            BuildBatchGroup.is_stopping.is_(True),
        )
    )
    return [group.build_id for group in groups if group.build_id is not None]
