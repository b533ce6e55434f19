"""The invariants of builds, deployments and pipelines, for ``entrepot fsck``."""

from __future__ import annotations

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from hooks.deployments import care as deployments
from hooks.jobs import queue
from hooks.models import (
    ActionExecution,
    Build,
    BuildArtifact,
    BuildBatch,
    BuildBatchGroup,
    BuildCache,
    Execution,
    Report,
    SourceObject,
    SourceRevision,
)
from registry.db import Database, table_of
from registry.models import Blob

_RUNNING = ("InProgress", "Stopping")


def check(db: Database) -> list[tuple[str, str]]:
    """(invariant, what) for everything that must not be."""
    with db.read() as session:
        found = [("I8", fault) for fault in queue.faults(session)]
        found += [("I8", fault) for fault in _builds(session)]
        found += [("I8", fault) for fault in _batches(session)]
        found += [("I1", fault) for fault in _outputs(session)]
        found += [("I1", fault) for fault in _archives(session)]
        found += [("I8", fault) for fault in _reports(session)]
        found += [("I8", fault) for fault in deployments.faults(session)]
        return found + [("I8", fault) for fault in _executions(session)]


def _builds(session: Session) -> list[str]:
    """A build that ended says when, and one that says when has ended."""
    rows = session.scalars(select(Build.id).where((Build.status == "IN_PROGRESS") != Build.ended_at.is_(None)))
    return [f"build {build_id} has a status and an end that disagree" for build_id in rows]


def _batches(session: Session) -> list[str]:
    """A batch that ended says when, and has nothing that goes on; one that goes on has something that does."""
    rows = session.scalars(
        select(BuildBatch.id).where((BuildBatch.status == "IN_PROGRESS") != BuildBatch.ended_at.is_(None))
    )
    faults = [f"build batch {batch_id} has a status and an end that disagree" for batch_id in rows]
    differing = session.execute(
        select(BuildBatchGroup.batch_id, BuildBatchGroup.identifier)
        .join(Build, Build.id == BuildBatchGroup.build_id)
        .where(BuildBatchGroup.status != Build.status)
    )
    faults += [f"build batch {row[0]}: {row[1]} and its build disagree on their status" for row in differing]
    is_open = exists().where(
        BuildBatchGroup.batch_id == BuildBatch.id, BuildBatchGroup.status.in_(("PENDING", "IN_PROGRESS"))
    )
    ended = session.scalars(select(BuildBatch.id).where(BuildBatch.status != "IN_PROGRESS", is_open))
    faults += [f"build batch {batch_id} has ended, and a build of it has not" for batch_id in ended]
    runs = exists().where(BuildBatchGroup.batch_id == BuildBatch.id, BuildBatchGroup.status == "IN_PROGRESS")
    stuck = select(BuildBatch.id).where(
        BuildBatch.status == "IN_PROGRESS", BuildBatch.phase != "COMBINE_ARTIFACTS", ~runs
    )
    return faults + [
        f"build batch {batch_id} goes on, and none of its builds does" for batch_id in session.scalars(stuck)
    ]


def _outputs(session: Session) -> list[str]:
    """An artifact or a cache is what its blob is."""
    faults = []
    for model, what in ((BuildArtifact, "artifact"), (BuildCache, "cache")):
        differing = (model.sha256 != Blob.sha256) | (model.size_bytes != Blob.size_bytes)
        rows = session.execute(select(model.id, model.build_id).join(Blob, Blob.id == model.blob_id).where(differing))
        faults += [f"{what} {row.id} of build {row.build_id} and its blob disagree on digest or size" for row in rows]
    return faults


def _archives(session: Session) -> list[str]:
    """What a pipeline's source has brought, and an object that is kept for one, is what its blob is."""
    faults = []
    for table, what in ((table_of(SourceRevision), "archive of a source"), (table_of(SourceObject), "object")):
        blobs = table_of(Blob)
        differing = (table.c.sha256 != blobs.c.sha256) | (table.c.size_bytes != blobs.c.size_bytes)
        rows = session.execute(select(table.c.sha256).join(blobs, blobs.c.id == table.c.blob_id).where(differing))
        faults += [f"{what} {row.sha256[:12]}… and its blob disagree on digest or size" for row in rows]
    return faults


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
