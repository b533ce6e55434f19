"""A build's part in a batch, for who runs it: the variables it gets, and the first one's finding of all the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds.batch_engine import lock
from hooks.builds.batch_plan import DOWNLOAD_SOURCE, TaskStatus
from hooks.builds.batch_tasks import BatchSettings, BatchTaskPlan, environment_of, expand, task_faults
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BATCH_IDENTIFIER
from hooks.builds.projects import check_environment, environment_type
from hooks.builds.spec_model import BuildSpec
from hooks.models.build import Build
from hooks.models.build_batch import BuildBatch, BuildBatchGroup

SHARD_INDEX, SHARD_COUNT = "ENTREPOT_SHARD_INDEX", "ENTREPOT_SHARD_COUNT"


@dataclass(slots=True)
class Reading:
    """What the first build of a batch finds. ``environment`` is the project's, ``types`` are the executors there are."""

    settings: BatchSettings
    environment: Mapping[str, Any]
    types: Collection[str]
    tasks: list[tuple[BatchTaskPlan, dict[str, Any]]] = field(default_factory=list)
    fast_fail: bool = False

    def take(self, spec: BuildSpec) -> Sequence[str]:
        """Take the document; what is wrong with its batch. Nothing has run by then."""
        self.tasks = []
        if spec.batch is None:
            return ["the document has no batch section"]
        planned = expand(spec.batch)
        faults = task_faults(planned, self.settings, self.environment)
        for task in planned:
            kind = environment_type(task.environment.type or None, self.types)
            own = replace(task.environment, type=kind or "")
            environment, more = check_environment(
                environment_of(replace(task, environment=own), self.environment), self.types
            )
            faults += [f"build {task.identifier}: {fault}" for fault in more]
            self.tasks.append((task, environment))
        self.fast_fail = spec.batch.fast_fail
        return faults


@dataclass(frozen=True, slots=True)
class Part:
    """A build's part in its batch: its reserved variables, and ``reading`` for the one that finds the others."""

    variables: Mapping[str, str] = field(default_factory=dict)
    reading: Reading | None = None


ALONE = Part()


def part_of(session: Session, build: Build, types: Collection[str]) -> Part:
    """The part of a build in its batch; ``ALONE`` for one of its own."""
    if build.batch_id is None or build.batch_group is None:
        return ALONE
    variables = {BATCH_IDENTIFIER: build.batch_group}
    if build.batch_group == DOWNLOAD_SOURCE:
        batch = session.get_one(BuildBatch, build.batch_id)
        return Part(variables, Reading(BatchSettings.of(batch.config), dict(batch.environment), types))
    named = (BuildBatchGroup.batch_id == build.batch_id) & (BuildBatchGroup.identifier == build.batch_group)
    shard = session.scalar(select(BuildBatchGroup.shard).where(named)) or []
    if shard:
        variables |= {SHARD_INDEX: str(shard[0]), SHARD_COUNT: str(shard[1])}
    return Part(variables)


def write_found(session: Session, build: Build, part: Part, status: BuildStatus) -> None:
    """Write down what the first build of a batch found, before its end (``status``) is, in the same transaction."""
    if part.reading is None or build.batch_id is None or status is not BuildStatus.SUCCEEDED:
        return
    batch = lock(session, build.batch_id)
    others = (BuildBatchGroup.batch_id == batch.id) & (BuildBatchGroup.identifier != DOWNLOAD_SOURCE)
    session.execute(delete(BuildBatchGroup).where(others))
    batch.fast_fail = part.reading.fast_fail
    for position, (task, environment) in enumerate(part.reading.tasks, start=1):
        session.add(
            BuildBatchGroup(
                batch_id=batch.id,
                position=position,
                identifier=task.identifier,
                depends_on=list(task.depends_on),
                ignore_failure=task.ignore_failure,
                buildspec=task.buildspec,
                environment=environment,
                shard=list(task.shard),
                debug_session=task.debug_session or batch.debug_session,
                chosen=dict(task.chosen),
                status=TaskStatus.PENDING.value,
                is_stopping=False,
            )
        )
    session.flush()
