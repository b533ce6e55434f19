"""What a batch consists of: its section expanded into builds, and held against what the project allows. Pure.

The grammar and the rules are those of the CodeBuild user guide's "Batch build buildspec reference" and of the
``buildBatchConfig`` of a project.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hooks.builds.batch_plan import DOWNLOAD_SOURCE
from hooks.builds.project import is_inline, path_fault
from hooks.builds.spec_batch import MAX_TASKS
from hooks.builds.spec_model import BatchEnvironment, BatchMatrix, BatchSpec

TIMEOUT_MINUTES = 480
MAX_TIMEOUT_MINUTES = 2160
AGGREGATED, INDIVIDUAL = "REPORT_AGGREGATED_BATCH", "REPORT_INDIVIDUAL_BUILDS"
_KNOWN = {"serviceRole", "combineArtifacts", "restrictions", "timeoutInMins", "batchReportMode"}


@dataclass(frozen=True, slots=True)
class BatchTaskPlan:
    """One build of a batch before it starts. ``buildspec`` None: the batch's own document.

    ``environment`` is what it has of its own, ``chosen`` what a matrix chose for it, in words. ``shard`` is its place
    among the builds of a fanout, and how many they are; empty elsewhere. With ``debug_session`` it stands at breakpoints.
    """

    identifier: str
    depends_on: tuple[str, ...] = ()
    ignore_failure: bool = False
    buildspec: str | None = None
    environment: BatchEnvironment = field(default_factory=BatchEnvironment)
    chosen: Mapping[str, str] = field(default_factory=dict)
    shard: tuple[int, ...] = ()
    debug_session: bool = False


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """A ``buildBatchConfig``. ``maximum_builds`` and ``compute_types`` None: as many and whichever there are."""

    combine_artifacts: bool = False
    maximum_builds: int | None = None
    compute_types: tuple[str, ...] | None = None
    timeout_minutes: int = TIMEOUT_MINUTES
    report_mode: str = AGGREGATED

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> BatchSettings:
        """From a document that ``config_faults`` finds nothing wrong with; what is left out has CodeBuild's defaults."""
        restrictions = config.get("restrictions") or {}
        allowed = restrictions.get("computeTypesAllowed")
        return cls(
            bool(config.get("combineArtifacts", False)),
            restrictions.get("maximumBuildsAllowed"),
            None if allowed is None else tuple(allowed),
            config.get("timeoutInMins", TIMEOUT_MINUTES),
            config.get("batchReportMode", AGGREGATED),
        )


def config_faults(config: Mapping[str, Any], where: str = "buildBatchConfig") -> list[str]:
    """What is wrong with a ``buildBatchConfig``, one line each."""
    faults = [f"{where}: {name} is unknown" for name in sorted(set(config) - _KNOWN)]
    minutes = config.get("timeoutInMins", TIMEOUT_MINUTES)
    if not _is_whole(minutes, 5, MAX_TIMEOUT_MINUTES):
        faults.append(f"{where}: timeoutInMins is a number from 5 to {MAX_TIMEOUT_MINUTES}")
    if config.get("batchReportMode", AGGREGATED) not in {AGGREGATED, INDIVIDUAL}:
        faults.append(f"{where}: batchReportMode is {AGGREGATED} or {INDIVIDUAL}")
    if not isinstance(config.get("combineArtifacts", False), bool):
        faults.append(f"{where}: combineArtifacts is true or false")
    restrictions = config.get("restrictions", {})
    if not isinstance(restrictions, Mapping):
        return [*faults, f"{where}: restrictions is a mapping"]
    known = {"maximumBuildsAllowed", "computeTypesAllowed"}
    faults += [f"{where}: restrictions: {name} is unknown here" for name in sorted(set(restrictions) - known)]
    if not _is_whole(restrictions.get("maximumBuildsAllowed", 1), 1, MAX_TASKS):
        faults.append(f"{where}: maximumBuildsAllowed is a number from 1 to {MAX_TASKS}")
    allowed = restrictions.get("computeTypesAllowed", [])
    if not isinstance(allowed, (list, tuple)) or not all(isinstance(each, str) for each in allowed):
        faults.append(f"{where}: computeTypesAllowed is a list of texts")
    return faults


def merged(config: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """A project's ``buildBatchConfig`` with that of a start over it. What it restricts, a start can only restrict further."""
    result = {**config, **{name: value for name, value in override.items() if name != "restrictions"}}
    ours, theirs = config.get("restrictions") or {}, override.get("restrictions") or {}
    restrictions = {**ours, **theirs}
    counts = [each["maximumBuildsAllowed"] for each in (ours, theirs) if "maximumBuildsAllowed" in each]
    if counts:
        restrictions["maximumBuildsAllowed"] = min(counts)
    if "computeTypesAllowed" in ours and "computeTypesAllowed" in theirs:
        both = set(ours["computeTypesAllowed"]) & set(theirs["computeTypesAllowed"])
        restrictions["computeTypesAllowed"] = sorted(both)
    return result | ({"restrictions": restrictions} if restrictions else {})


def expand(batch: BatchSpec) -> tuple[BatchTaskPlan, ...]:
    """The builds of a batch, in the document's order; a matrix's are numbered as they are chosen."""
    if batch.matrix is not None:
        return _matrix(batch.matrix)
    if batch.kind == "build-fanout":
        return tuple(
            BatchTaskPlan(
                f"fanout_{number + 1}", ignore_failure=batch.ignore_failure, shard=(number, batch.parallelism)
            )
            for number in range(batch.parallelism)
        )
    return tuple(
        BatchTaskPlan(
            task.identifier,
            tuple(dict.fromkeys(task.depends_on)),
            task.ignore_failure,
            task.buildspec or None,
            task.environment,
            debug_session=task.debug_session,
        )
        for task in batch.tasks
    )


def _matrix(matrix: BatchMatrix) -> tuple[BatchTaskPlan, ...]:
    axes: dict[str, tuple[str, ...]] = {
        "buildspec": matrix.buildspecs,
        "compute-type": matrix.compute_types,
        "image": matrix.images,
    }
    axes = {name: values for name, values in axes.items() if values}
    variables = {f"${name}": values for name, values in matrix.variables.items()}
    every = axes | variables
    static, tasks = matrix.environment, []
    for number, values in enumerate(itertools.product(*every.values()), start=1):
        chosen = dict(zip(every, values, strict=True))
        own = {name[1:]: value for name, value in chosen.items() if name.startswith("$")}
        environment = BatchEnvironment(
            static.type,
            chosen.get("compute-type", static.compute_type),
            static.fleet,
            chosen.get("image", static.image),
            static.privileged_mode,
            {**static.variables, **own},
        )
        spec = chosen.get("buildspec")
        tasks.append(BatchTaskPlan(f"matrix_{number}", (), matrix.ignore_failure, spec, environment, chosen))
    return tuple(tasks)


def task_faults(tasks: Collection[BatchTaskPlan], settings: BatchSettings, environment: Mapping[str, Any]) -> list[str]:
    """Why these builds may not be started, one line each; ``environment`` is the project's."""
    faults = []
    most = settings.maximum_builds
    if most is not None and len(tasks) > most:
        faults.append(f"the batch has {len(tasks)} builds, and the project allows {most} (maximumBuildsAllowed)")
    for task in tasks:
        faults += [f"build {task.identifier}: {fault}" for fault in _faults(task, settings, environment)]
    return faults


def _faults(task: BatchTaskPlan, settings: BatchSettings, environment: Mapping[str, Any]) -> list[str]:
    faults = []
    if task.identifier == DOWNLOAD_SOURCE:
        faults.append("that is what the build is called which reads the batch")
    if task.environment.fleet:
        faults.append("fleet: there are no fleets; workers take builds as they are free")
    if task.environment.privileged_mode and not environment.get("privilegedMode"):
        # What a source says must not get more of the machine than those who answer for the project have given.
        faults.append("privileged-mode: the project does not have it, and a buildspec cannot give it")
    compute_type = task.environment.compute_type or environment.get("computeType", "")
    if settings.compute_types is not None and compute_type not in settings.compute_types:
        allowed = ", ".join(settings.compute_types) or "none"
        said = repr(compute_type) if compute_type else "not given"
        faults.append(f"compute-type is {said}, and the project allows {allowed} (computeTypesAllowed)")
    if task.buildspec is not None and not is_inline(task.buildspec) and path_fault(task.buildspec):
        faults.append(path_fault(task.buildspec))
    return faults


def environment_of(task: BatchTaskPlan, environment: Mapping[str, Any]) -> dict[str, Any]:
    """A project's environment with what a build of a batch has of its own; its variables win over the project's."""
    own = task.environment
    changes = {"type": own.type, "computeType": own.compute_type, "image": own.image}
    result = {**environment, **{name: value for name, value in changes.items() if value}}
    if own.privileged_mode is not None:
        result["privilegedMode"] = own.privileged_mode
    return result | {"variables": {**environment.get("variables", {}), **own.variables}}


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
