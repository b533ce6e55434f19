"""The values of variables: those an execution starts with, and those that are known when an action starts."""

from __future__ import annotations

from collections.abc import Mapping

from hooks.pipelines.definition import PipelineDefinition
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid


def pipeline_variables(definition: PipelineDefinition, given: Mapping[str, str]) -> dict[str, str]:
    """The variables an execution starts with. Raises Invalid for unknown ones and for those that lack a value."""
    declared = {variable.name: variable.default for variable in definition.variables}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise Invalid(f"pipeline {definition.name} declares no variable {', '.join(unknown)}")
    values = {name: given.get(name, default) for name, default in declared.items()}
    missing = sorted(name for name, value in values.items() if value is None)
    if missing:
        raise Invalid(f"variable {', '.join(missing)} has no default and was given no value")
    return {name: value for name, value in values.items() if value is not None}


def known_values(run: Run) -> dict[str, Mapping[str, str]]:
    """The variables that have values now: the execution's own, and those of succeeded actions with a namespace."""
    values: dict[str, Mapping[str, str]] = {
        "codepipeline": {"PipelineExecutionId": str(run.execution.id)},
        "variables": run.execution.variables,
    }
    for stage, action in run.definition.actions():
        row = run.made_by(stage.name, action.name)
        if action.namespace and row is not None and row.status == ActionStatus.SUCCEEDED:
            values[action.namespace] = row.output_variables
    return values
