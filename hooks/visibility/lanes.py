"""A pipeline as a way through environments: its repositories and deployment groups in the order of its stages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hooks.pipelines.definition import ActionDefinition, PipelineDefinition

REPOSITORY, GROUP = "repository", "group"
_PROMOTE = ("Deploy", "Promote")
_DEPLOY = {("Deploy", "CodeDeploy"), ("Deploy", "CodeDeployToECS")}


@dataclass(frozen=True, slots=True)
class Column:
    """An environment: ``kind`` is ``repository`` or ``group`` (of whichever application), ``name`` what it is called."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """An environment of one pipeline: ``application`` is a group's. ``place`` (stage, runOrder) is where it is reached."""

    column: Column
    application: str
    stage: str
    action: str
    place: tuple[int, int]


def stops_of(definition: PipelineDefinition, repository: str) -> tuple[Stop, ...]:
    """The environments that a pipeline brings versions to, from the ``repository`` of its source on, each once.

    What is only known when the action starts (``#{…}``) is no environment here.
    """
    source = definition.source
    first = Stop(Column(REPOSITORY, repository), "", definition.stages[0].name, source.name, (0, source.run_order))
    found = [first]
    for number, stage in enumerate(definition.stages):
        for action in sorted(stage.actions, key=lambda each: each.run_order):
            stop = _stop(action, stage.name, (number, action.run_order))
            if stop is not None and (stop.column, stop.application) not in {(e.column, e.application) for e in found}:
                found.append(stop)
    return tuple(found)


def _stop(action: ActionDefinition, stage: str, place: tuple[int, int]) -> Stop | None:
    kind = (action.type.category, action.type.provider)
    if kind == _PROMOTE:
        column, application = Column(REPOSITORY, action.configuration["TargetRepository"]), ""
    elif kind in _DEPLOY:
        column = Column(GROUP, action.configuration["DeploymentGroupName"])
        application = action.configuration["ApplicationName"]
    else:
        return None
    return None if "#{" in column.name + application else Stop(column, application, stage, action.name, place)


def place_of(definition: PipelineDefinition, stage: str, action: str | None) -> tuple[int, int]:
    """Where a stage, or an action of it, stands in a pipeline; behind everything for one that is not of this definition."""
    for number, each in enumerate(definition.stages):
        if each.name == stage:
            found = each.action(action) if action is not None else None
            return (number, found.run_order if found is not None else 0)
    return (len(definition.stages), 0)


def heading_for(stops: Sequence[Stop], place: tuple[int, int]) -> Stop | None:
    """The next environment for what stands at ``place``; None behind the last one."""
    return next((stop for stop in stops if stop.place >= place), None)


def merged(ways: Iterable[Sequence[Column]]) -> tuple[Column, ...]:
    """The columns of a board on which all ways go from left to right, as far as they agree; earlier ways count first."""
    found: list[Column] = []
    for way in ways:
        at = 0
        for column in way:
            if column not in found:
                found.insert(at, column)
            at = max(at, found.index(column) + 1)
    return tuple(found)
