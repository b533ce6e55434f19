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
from hooks.pipelines.sources.triggers import Trigger, trigger_of

MAX_STAGES = 50
MAX_ACTIONS = 500
MAX_ACTIONS_PER_STAGE = 50
MAX_RUN_ORDER = 999
MAX_VARIABLES = 50
MAX_RULES = 5

GIT_PROVIDERS = frozenset({"Git", "CodeStarSourceConnection", "CodeCommit"})
"""The providers of source actions that take commits of a git repository."""

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

    @property
    def is_package_source(self) -> bool:
        """Whether it is a source that takes package versions."""
        return (self.type.category, self.type.provider) == ("Source", "Package")


class Slot(StrEnum):
    """Where in a stage a condition stands (CodePipeline's ``conditionType``)."""

    BEFORE_ENTRY = "BEFORE_ENTRY"
    ON_SUCCESS = "ON_SUCCESS"
    ON_FAILURE = "ON_FAILURE"


SLOT_KEYS: Mapping[Slot, str] = {
    Slot.BEFORE_ENTRY: "beforeEntry",
    Slot.ON_SUCCESS: "onSuccess",
    Slot.ON_FAILURE: "onFailure",
}
"""How a document calls them."""


class Result(StrEnum):
    """What a condition leads to: before entry and on success when its rules fail, on failure when they are met."""

    ROLLBACK = "ROLLBACK"
    FAIL = "FAIL"
    RETRY = "RETRY"
    SKIP = "SKIP"


RESULTS: Mapping[Slot, tuple[Result, ...]] = {
    Slot.BEFORE_ENTRY: (Result.FAIL, Result.SKIP),
    Slot.ON_SUCCESS: (Result.FAIL, Result.ROLLBACK),
    Slot.ON_FAILURE: (Result.ROLLBACK, Result.RETRY, Result.FAIL, Result.SKIP),
}


class RetryMode(StrEnum):
    """``FAILED_ACTIONS`` keeps what succeeded and its output variables, ``ALL_ACTIONS`` starts the stage anew."""

    FAILED_ACTIONS = "FAILED_ACTIONS"
    ALL_ACTIONS = "ALL_ACTIONS"


@dataclass(frozen=True, slots=True)
class RuleDefinition:
    """One rule (``ruleTypeId`` with its category ``Rule``); ``commands`` are in the configuration, as an action's are."""

    name: str
    type: ActionType
    configuration: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    timeout_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class ConditionDefinition:
    """The condition of a slot. Without rules (on failure alone) its result holds by itself; ``retry_mode`` is of RETRY."""

    result: Result
    rules: tuple[RuleDefinition, ...] = ()
    retry_mode: RetryMode = RetryMode.FAILED_ACTIONS


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """One stage: its actions run in ``run_order``, those of one order at the same time."""

    name: str
    actions: tuple[ActionDefinition, ...]
    conditions: Mapping[Slot, ConditionDefinition] = field(default_factory=dict)

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
class ScheduleTrigger:
    """A schedule that starts the pipeline, as it is written; ``hooks.pipelines.sources.schedules`` reads it."""

    expression: str
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class PipelineDefinition:
    """A whole pipeline. The first stage holds its source actions, at most one of which takes package versions."""

    name: str
    stages: tuple[StageDefinition, ...]
    variables: tuple[VariableDefinition, ...] = ()
    execution_mode: ExecutionMode = ExecutionMode.PARALLEL
    triggers: tuple[Trigger, ...] = ()
    schedules: tuple[ScheduleTrigger, ...] = ()

    @property
    def has_conditions(self) -> bool:
        """Whether any stage has a condition."""
        return any(stage.conditions for stage in self.stages)

    @property
    def source(self) -> ActionDefinition:
        """The source action that says what an execution is about: the one of package versions, else the first."""
        return next((each for each in self.sources if each.is_package_source), self.sources[0])

    @property
    def sources(self) -> tuple[ActionDefinition, ...]:
        """The source actions."""
        return self.stages[0].actions

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


@dataclass(frozen=True, slots=True)
class DefinitionLocation:
    """A ``definitionFrom:`` document: the pipeline ``name`` is what the file ``path`` says on the branch of a git source.

    ``source`` are the settings of a git source action. ``account`` is whose rights it has; "": those of who applies this.
    """

    name: str
    source: Mapping[str, str]
    path: str
    account: str = ""


Declaration = PipelineDefinition | BuildProjectDeclaration | DefinitionLocation
"""What a document can declare."""


def to_model(definition: PipelineDefinition) -> dict[str, Any]:
    """The definition as JSON, for the row that executions are pinned to."""
    return asdict(definition)


def from_model(model: Mapping[str, Any]) -> PipelineDefinition:
    """The definition that ``to_model`` wrote. Raises KeyError or TypeError for another shape."""
    return PipelineDefinition(
        name=model["name"],
        stages=tuple(
            StageDefinition(
                stage["name"],
                tuple(_action(action) for action in stage["actions"]),
                {Slot(slot): _condition(told) for slot, told in stage.get("conditions", {}).items()},
            )
            for stage in model["stages"]
        ),
        variables=tuple(VariableDefinition(**variable) for variable in model["variables"]),
        # Definitions from before there were modes say none: they ran in parallel, and still do.
        execution_mode=ExecutionMode(model.get("execution_mode", ExecutionMode.PARALLEL)),
        triggers=tuple(trigger_of(each) for each in model.get("triggers", ())),
        schedules=tuple(ScheduleTrigger(**each) for each in model.get("schedules", ())),
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


def _condition(model: Mapping[str, Any]) -> ConditionDefinition:
    return ConditionDefinition(
        Result(model["result"]),
        tuple(
            RuleDefinition(**{**rule, "type": ActionType(**rule["type"]), "inputs": tuple(rule["inputs"])})
            for rule in model["rules"]
        ),
        RetryMode(model["retry_mode"]),
    )
