"""What a batch build does next: which of its builds start, which never will, and how the batch ends. Pure.

The rules are those of the CodeBuild user guide's "Batch builds": a build of a graph starts when all that it depends on has
succeeded, or has failed and is ignored; ``fast-fail`` ends a batch at its first failure that counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hooks.builds.phases import BuildStatus

DOWNLOAD_SOURCE = "DOWNLOAD_SOURCE"
"""The identifier of the build that reads the batch's document; all others are what it found there."""


class TaskStatus(StrEnum):
    """A build's status, for a build of a batch; and what it is when there is none.

    PENDING: it may still start. SKIPPED: it will not, because what it depends on did not succeed, or the batch ends.
    """

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAULT = "FAULT"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"
    SKIPPED = "SKIPPED"

    @property
    def is_open(self) -> bool:
        """Whether more may come of it."""
        return self in {TaskStatus.PENDING, TaskStatus.IN_PROGRESS}

    @property
    def has_failed(self) -> bool:
        """Whether it ran, and did not succeed."""
        return not self.is_open and self not in {TaskStatus.SUCCEEDED, TaskStatus.SKIPPED}


@dataclass(frozen=True, slots=True)
class Task:
    """A build of a batch. ``depends_on`` are identifiers; all of them are in the batch, and there is no circle."""

    identifier: str
    status: TaskStatus = TaskStatus.PENDING
    depends_on: tuple[str, ...] = ()
    ignore_failure: bool = False

    @property
    def lets_on(self) -> bool:
        """Whether what depends on it may start."""
        return self.status is TaskStatus.SUCCEEDED or (self.ignore_failure and self.status.has_failed)

    @property
    def counts_as_failure(self) -> bool:
        """Whether the batch has failed for it."""
        return self.status.has_failed and not self.ignore_failure


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch that goes on. ``ending`` is why it is being ended early (STOPPED or TIMED_OUT), else None."""

    tasks: tuple[Task, ...]
    fast_fail: bool = False
    ending: BuildStatus | None = None


@dataclass(frozen=True, slots=True)
class StartTask:
    """The build starts now."""

    identifier: str


@dataclass(frozen=True, slots=True)
class SkipTask:
    """The build will not start."""

    identifier: str


@dataclass(frozen=True, slots=True)
class WindDown:
    """Builds that run are to be stopped: nothing that they could still do counts."""

    identifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndBatch:
    """The batch has ended so."""

    status: BuildStatus


Step = StartTask | SkipTask | WindDown | EndBatch


def plan(view: BatchView) -> list[Step]:
    """The steps to take now; empty while nothing but waiting is left to do. Taken, they lead to further ones at most once.

    Of ``WindDown`` it is the caller's to do it once: what runs goes on running until it has ended.
    """
    if view.ending is not None or (view.fast_fail and any(task.counts_as_failure for task in view.tasks)):
        return _winding_down(view)
    steps: list[Step] = []
    by_name = {task.identifier: task for task in view.tasks}
    for task in view.tasks:
        if task.status is TaskStatus.PENDING:
            needed = [by_name[name] for name in task.depends_on]
            if any(not each.status.is_open and not each.lets_on for each in needed):
                steps.append(SkipTask(task.identifier))
            elif all(each.lets_on for each in needed):
                steps.append(StartTask(task.identifier))
    if any(task.status.is_open for task in view.tasks):
        return steps
    return [EndBatch(_result(view.tasks))]


def _winding_down(view: BatchView) -> list[Step]:
    pending = [task.identifier for task in view.tasks if task.status is TaskStatus.PENDING]
    running = tuple(task.identifier for task in view.tasks if task.status is TaskStatus.IN_PROGRESS)
    steps: list[Step] = [SkipTask(identifier) for identifier in pending]
    if running:
        return [*steps, WindDown(running)]
    return steps or [EndBatch(view.ending or BuildStatus.FAILED)]


def _result(tasks: Iterable[Task]) -> BuildStatus:
    return BuildStatus.FAILED if any(task.counts_as_failure for task in tasks) else BuildStatus.SUCCEEDED


def to_retry(tasks: Sequence[Task], *, only_failed: bool) -> Collection[str]:
    """Which builds a retry does anew: all, or those that have not succeeded and whatever depends on them.

    The one that read the document is left as it is once it has succeeded: what it found is what is built again.
    """
    again = TaskStatus.SUCCEEDED if only_failed else None
    chosen = {
        task.identifier
        for task in tasks
        if task.status is not (TaskStatus.SUCCEEDED if task.identifier == DOWNLOAD_SOURCE else again)
    }
    while more := {task.identifier for task in tasks if chosen.intersection(task.depends_on)} - chosen:
        chosen |= more
    return chosen
