"""The rows of batch builds: they move only here, under the batch's lock, in the transaction that changed something.

Every function works in the caller's transaction. After a rollback everything is as it was, and the same call may be made
again; a call that comes late or twice finds nothing left to do. Locks are taken in one order, job, build, batch,
execution, project: so what runs is not stopped under the batch's lock, but by a job that is inserted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.batch_plan import (
    DOWNLOAD_SOURCE,
    BatchView,
    EndBatch,
    SkipTask,
    StartTask,
    Task,
    TaskStatus,
    WindDown,
    plan,
    to_retry,
)
from hooks.builds.batch_tasks import INDIVIDUAL, BatchSettings
from hooks.builds.phases import CLIENT_ERROR, BuildStatus
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, forget
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from registry import events
from registry.errors import NotFound

WIND_DOWN_KIND = "build_batch_wind_down"
"""The job that tells the builds of a batch to stop."""
TIMEOUT_KIND = "build_batch_timeout"
COMBINE_KIND = "build_batch_combine"
_SHOWN_FAILURES = 5

_STARTED = events.declare("build-batch.started", "A batch build was started.")
_ENDED: Mapping[BuildStatus, str] = {
    status: events.declare(f"build-batch.{status.lower().replace('_', '-')}", f"A batch build ended: {status}.")
    for status in BuildStatus
    if status is not BuildStatus.IN_PROGRESS
}


class BatchPhase(StrEnum):
    """CodeBuild's phases of a batch, in the order in which they come; the last three are its end."""

    SUBMITTED = "SUBMITTED"
    DOWNLOAD_BATCHSPEC = "DOWNLOAD_BATCHSPEC"
    IN_PROGRESS = "IN_PROGRESS"
    COMBINE_ARTIFACTS = "COMBINE_ARTIFACTS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Moves:
    """What the engine cannot do by itself: ``submit`` starts the build of a group and returns its id.

    ``on_finished`` is told the id of a batch in the transaction that writes its final status.
    """

    submit: Callable[[Session, BuildBatch, BuildBatchGroup, datetime], str]
    on_finished: Callable[[Session, str], None]


def subject_of(batch_id: str) -> str:
    """What the jobs of a batch are about."""
    return f"build-batch:{batch_id}"


def lock(session: Session, batch_id: str) -> BuildBatch:
    """The batch, for this transaction alone. Raises NotFound."""
    session.flush()
    statement = select(BuildBatch).where(BuildBatch.id == batch_id).with_for_update()
    batch = session.scalar(statement.execution_options(populate_existing=True))
    if batch is None:
        raise NotFound("build batch", batch_id)
    return batch


def groups_of(session: Session, batch_id: str) -> Sequence[BuildBatchGroup]:
    """The build groups of a batch, in their order."""
    statement = select(BuildBatchGroup).where(BuildBatchGroup.batch_id == batch_id).order_by(BuildBatchGroup.position)
    return session.scalars(statement.execution_options(populate_existing=True)).all()


def task_of(group: BuildBatchGroup) -> Task:
    """A group as the planner sees it: all depend on the build that found them."""
    found_by = () if group.identifier == DOWNLOAD_SOURCE else (DOWNLOAD_SOURCE,)
    return Task(group.identifier, TaskStatus(group.status), (*found_by, *group.depends_on), group.ignore_failure)


def begin(session: Session, batch: BuildBatch, now: datetime, moves: Moves) -> None:
    """Go on with a batch that was just made, or is begun anew: its rows are there, and say what is to be done."""
    enqueue(
        session,
        TIMEOUT_KIND,
        {"batch_id": batch.id, "attempt": batch.attempt},
        run_after_seconds=BatchSettings.of(batch.config).timeout_minutes * 60,
        max_attempts=PATIENT_ATTEMPTS,
        subject=subject_of(batch.id),
    )
    _tell(session, batch, _STARTED, now)
    advance(session, batch, now, moves)


def begin_again(session: Session, batch: BuildBatch, now: datetime, moves: Moves, *, only_failed: bool) -> None:
    """Go on with a locked batch that has ended without success: all its builds anew, or what failed and depends on it."""
    groups = groups_of(session, batch.id)
    again = to_retry([task_of(group) for group in groups], only_failed=only_failed)
    for group in groups:
        if group.identifier in again:
            group.status, group.build_id, group.is_stopping = TaskStatus.PENDING.value, None, False
    batch.status, batch.ending, batch.message, batch.ended_at = BuildStatus.IN_PROGRESS.value, None, "", None
    batch.attempt += 1
    batch.phases = []
    enter(batch, BatchPhase.SUBMITTED, now)
    enter(batch, BatchPhase.DOWNLOAD_BATCHSPEC if DOWNLOAD_SOURCE in again else BatchPhase.IN_PROGRESS, now)
    session.flush()
    begin(session, batch, now, moves)


def on_build_ended(session: Session, build: Build, now: datetime, moves: Moves) -> None:
    """Take note of the end of a build, in its transaction; nothing happens for one that does not count any more."""
    if build.batch_id is None:
        return
    batch = lock(session, build.batch_id)
    group = next((each for each in groups_of(session, batch.id) if each.build_id == build.id), None)
    if group is None or batch.status != BuildStatus.IN_PROGRESS or group.status != TaskStatus.IN_PROGRESS:
        return
    group.status, group.is_stopping = build.status, False
    if group.identifier == DOWNLOAD_SOURCE:
        batch.resolved_versions = dict(build.resolved_versions)
        if build.status == BuildStatus.SUCCEEDED:
            enter(batch, BatchPhase.IN_PROGRESS, now)
    advance(session, batch, now, moves)


def end_early(session: Session, batch: BuildBatch, ending: BuildStatus, now: datetime, moves: Moves) -> None:
    """End a locked batch that goes on as STOPPED or TIMED_OUT: at once, or when what runs has been stopped."""
    batch.ending = batch.ending or ending.value
    if batch.phase == BatchPhase.COMBINE_ARTIFACTS:
        forget(session, COMBINE_KIND, subject_of(batch.id))
        finish(session, batch, BuildStatus(batch.ending), now, moves)
    else:
        advance(session, batch, now, moves)


def advance(session: Session, batch: BuildBatch, now: datetime, moves: Moves) -> None:
    """Move a locked batch as far as its rows allow. Harmless at any time and any number of times."""
    has_moved = True
    while has_moved and batch.status == BuildStatus.IN_PROGRESS and batch.phase != BatchPhase.COMBINE_ARTIFACTS:
        has_moved = False
        session.flush()
        groups = {group.identifier: group for group in groups_of(session, batch.id)}
        ending = None if batch.ending is None else BuildStatus(batch.ending)
        for step in plan(BatchView(tuple(map(task_of, groups.values())), batch.fast_fail, ending)):
            match step:
                case StartTask(identifier):
                    group = groups[identifier]
                    group.build_id, group.status = (
                        moves.submit(session, batch, group, now),
                        TaskStatus.IN_PROGRESS.value,
                    )
                    has_moved = True
                case SkipTask(identifier):
                    groups[identifier].status = TaskStatus.SKIPPED.value
                    has_moved = True
                case WindDown(identifiers):
                    _wind_down(session, batch, [groups[identifier] for identifier in identifiers])
                case EndBatch(status):
                    _end(session, batch, list(groups.values()), status, now=now, moves=moves)
    session.flush()


def _wind_down(session: Session, batch: BuildBatch, groups: Sequence[BuildBatchGroup]) -> None:
    if all(group.is_stopping for group in groups):
        return
    for group in groups:
        group.is_stopping = True
    enqueue(
        session, WIND_DOWN_KIND, {"batch_id": batch.id}, max_attempts=PATIENT_ATTEMPTS, subject=subject_of(batch.id)
    )


def _end(
    session: Session,
    batch: BuildBatch,
    groups: Sequence[BuildBatchGroup],
    status: BuildStatus,
    *,
    now: datetime,
    moves: Moves,
) -> None:
    if status is BuildStatus.SUCCEEDED and BatchSettings.of(batch.config).combine_artifacts:
        enter(batch, BatchPhase.COMBINE_ARTIFACTS, now)
        batch.job_id = enqueue(session, COMBINE_KIND, {"batch_id": batch.id}, subject=subject_of(batch.id))
        return
    finish(session, batch, status, now, moves, _why(session, groups) if status is BuildStatus.FAILED else "")


def _why(session: Session, groups: Sequence[BuildBatchGroup]) -> str:
    failed = [group for group in groups if task_of(group).counts_as_failure]
    if [group.identifier for group in failed] == [DOWNLOAD_SOURCE]:
        build = session.get(Build, failed[0].build_id)
        return build.message if build is not None else ""
    # Those that a fast-fail stopped did not make the batch fail.
    first = [group for group in failed if group.status != TaskStatus.STOPPED] or failed
    named = ", ".join(f"{group.identifier}: {group.status}" for group in first[:_SHOWN_FAILURES])
    return named + (f" and {len(first) - _SHOWN_FAILURES} more" if len(first) > _SHOWN_FAILURES else "")


def finish(
    session: Session, batch: BuildBatch, status: BuildStatus, now: datetime, moves: Moves, message: str = ""
) -> None:
    """Write the one final status of a locked batch that goes on, and tell ``on_finished``; then it may begin again."""
    _leave(batch, now, status, message)
    last = {BuildStatus.SUCCEEDED: BatchPhase.SUCCEEDED, BuildStatus.STOPPED: BatchPhase.STOPPED}
    enter(batch, last.get(status, BatchPhase.FAILED), now)
    batch.status, batch.message, batch.ended_at = status.value, message, now
    session.flush()
    forget(session, TIMEOUT_KIND, subject_of(batch.id))
    _tell(session, batch, _ENDED[status], now)
    moves.on_finished(session, batch.id)
    _retry_by_itself(session, batch, status, now, moves)


def _retry_by_itself(session: Session, batch: BuildBatch, status: BuildStatus, now: datetime, moves: Moves) -> None:
    """The project's autoRetryLimit, for what failed. A pipeline's batches are left to the pipeline, which was told."""
    if status not in {BuildStatus.FAILED, BuildStatus.FAULT} or batch.auto_retry_number >= batch.auto_retry_limit:
        return
    if batch.subject is None and session.get_one(BuildProject, batch.project_id).deleted_at is None:
        batch.auto_retry_number += 1
        begin_again(session, batch, now, moves, only_failed=True)


def enter(batch: BuildBatch, phase: BatchPhase, now: datetime) -> None:
    """Enter a phase; the one before it, where it is still open, succeeded."""
    _leave(batch, now, BuildStatus.SUCCEEDED)
    batch.phases = [*batch.phases, {"phaseType": phase.value, "startTime": now.isoformat(), "contexts": []}]
    batch.phase = phase.value


def _leave(batch: BuildBatch, now: datetime, status: BuildStatus, message: str = "") -> None:
    if not batch.phases or "phaseStatus" in batch.phases[-1]:
        return
    *before, last = batch.phases
    seconds = (now - datetime.fromisoformat(last["startTime"])).total_seconds()
    ended: dict[str, Any] = {
        **last,
        "phaseStatus": status.value,
        "endTime": now.isoformat(),
        "durationInSeconds": max(0, round(seconds)),
        "contexts": [{"statusCode": CLIENT_ERROR, "message": message}] if message else [],
    }
    batch.phases = [*before, ended]


def tells_of_builds(session: Session, batch_id: str) -> bool:
    """Whether the builds of a batch are told of one by one (``batchReportMode``), and not only the batch."""
    config = session.scalar(select(BuildBatch.config).where(BuildBatch.id == batch_id)) or {}
    return BatchSettings.of(config).report_mode == INDIVIDUAL


def _tell(session: Session, batch: BuildBatch, kind: str, now: datetime) -> None:
    known = events.COORDINATES if batch.source.get("format") else ("domain", "repository")
    where = {name: batch.source[name] for name in known if name in batch.source}
    project = session.get_one(BuildProject, batch.project_id).name
    about = {"project": project, "number": batch.number, "initiator": batch.initiator}
    events.note(session, kind, now, **where, build_batch=batch.id, **about)
