"""The pipeline structure (CodePipeline's ``PipelineDeclaration``) as values, and as JSON to pin executions to.

Pure. ``declaration.py`` reads it from a document; nothing else makes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from hooks.builds.project import SourceSettings

MAX_STAGES = 50
MAX_ACTIONS = 500
MAX_ACTIONS_PER_STAGE = 50
MAX_RUN_ORDER = 999
MAX_VARIABLES = 50

NAME = re.compile(r"[A-Za-z0-9.@_-]{1,100}\Z")
ARTIFACT = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")
NAMESPACE = re.compile(r"[A-Za-z0-9@_-]{1,100}\Z")
VARIABLE = re.compile(r"[A-Za-z0-9@_-]{1,128}\Z")


class ExecutionMode(StrEnum):
    """How executions of one pipeline meet (CodePipeline "Set or change the pipeline execution mode").

    SUPERSEDED and QUEUED let one execution at a time into a stage; in the first a newer one of the same package takes
    the place of one that waits, in the second all wait in the order of their starts. PARALLEL ones never meet.
    """

    PARALLEL = "PARALLEL"
    SUPERSEDED = "SUPERSEDED"
    QUEUED = "QUEUED"


@dataclass(frozen=True, slots=True)
class ActionType:
    """Which provider carries an action out (``actionTypeId``)."""

    category: str
    owner: str
    provider: str
    version: str = "1"

    def __str__(self) -> str:
        told = f"{self.category} / {self.owner} / {self.provider}"
        return told if self.version == "1" else f"{told} / {self.version}"


@dataclass(frozen=True, slots=True)
class ActionDefinition:
    """One action. ``configuration`` is as written, references unresolved; no ``timeout_minutes`` means the default."""

    name: str
    type: ActionType
    run_order: int = 1
    configuration: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    namespace: str | None = None
    timeout_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """One stage: its actions run in ``run_order``, those of one order at the same time."""

    name: str
    actions: tuple[ActionDefinition, ...]

    def action(self, name: str) -> ActionDefinition | None:
        """The action of that name, or None."""
        return next((action for action in self.actions if action.name == name), None)


@dataclass(frozen=True, slots=True)
class VariableDefinition:
    """A variable of the pipeline itself; without a default its value has to be given at each start."""

    name: str
    default: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class PipelineDefinition:
    """A whole pipeline. The first stage holds its one source action."""

    name: str
    stages: tuple[StageDefinition, ...]
    variables: tuple[VariableDefinition, ...] = ()
    execution_mode: ExecutionMode = ExecutionMode.PARALLEL

    @property
    def source(self) -> ActionDefinition:
        """The source action."""
        return self.stages[0].actions[0]

    def stage(self, name: str) -> StageDefinition | None:
        """The stage of that name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def actions(self) -> Iterator[tuple[StageDefinition, ActionDefinition]]:
        """All actions with their stages, in the document's order."""
        for stage in self.stages:
            for action in stage.actions:
                yield stage, action


@dataclass(frozen=True, slots=True)
class BuildProjectDeclaration:
    """A ``buildProject:`` document. ``buildspec`` None: the one inside the source; other Nones: the defaults.

    ``repository`` is (domain, name) of where it belongs. ``environment`` is what else it says of its environment,
    ``document`` the rest, as it is kept (``hooks.models.BuildProject``). ``warnings`` tell of what has no effect.
    """

    name: str
    buildspec: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    network: str | None = None
    timeout_minutes: int | None = None
    max_concurrent: int | None = None
    repository: tuple[str, str] | None = None
    sources: tuple[SourceSettings, ...] = (SourceSettings(),)
    environment_type: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    queued_timeout_minutes: int | None = None
    auto_retry_limit: int | None = None
    on_limit: str | None = None
    warnings: tuple[str, ...] = ()


def to_model(definition: PipelineDefinition) -> dict[str, Any]:
    """The definition as JSON, for the row that executions are pinned to."""
    return asdict(definition)


def from_model(model: Mapping[str, Any]) -> PipelineDefinition:
    """The definition that ``to_model`` wrote. Raises KeyError or TypeError for another shape."""
    return PipelineDefinition(
        name=model["name"],
        stages=tuple(
            StageDefinition(stage["name"], tuple(_action(action) for action in stage["actions"]))
            for stage in model["stages"]
        ),
        variables=tuple(VariableDefinition(**variable) for variable in model["variables"]),
        # Definitions from before there were modes say none: they ran in parallel, and still do.
        execution_mode=ExecutionMode(model.get("execution_mode", ExecutionMode.PARALLEL)),
    )


def _action(model: Mapping[str, Any]) -> ActionDefinition:
    return ActionDefinition(
        **{
            **model,
            "type": ActionType(**model["type"]),
            "inputs": tuple(model["inputs"]),
            "outputs": tuple(model["outputs"]),
        }
    )
