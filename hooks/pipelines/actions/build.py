"""Build and Test / AWS / CodeBuild: a build of the pinned package version in a build project."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy.orm import Session

from hooks.builds.publishing import ACTION_SETTING
from hooks.builds.references import VariableType, stored_variable, variable_fault
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.definition import ARTIFACT
from hooks.pipelines.parts import BuildRequest, Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from hooks.pipelines.variables import has_reference
from registry.errors import Invalid
from registry.names import entity_name, repository_name

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _check_project(value: str) -> str | None:
    try:
        entity_name("build project", value)
    except Invalid as error:
        return error.rule
    return None


def check_variables(value: str) -> str | None:
    """What is wrong with a JSON list of environment variables, or None."""
    try:
        listed: Any = json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return "not a JSON list of {name, value, type}"
    if not isinstance(listed, list):
        return "not a JSON list of {name, value, type}"
    faults = [fault for fault in map(_variable_fault, listed) if fault]
    names = [item["name"] for item in listed if isinstance(item, dict) and isinstance(item.get("name"), str)]
    faults += [f"{name!r} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    return "; ".join(faults) or None


def _variable_fault(item: Any) -> str | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not isinstance(item.get("value"), str):
        return "each member needs a name and a value, both text"
    if set(item) - {"name", "value", "type"}:
        return f"unknown member {', '.join(sorted(set(item) - {'name', 'value', 'type'}))}"
    if has_reference(item["name"]) or not _VARIABLE.match(item["name"]):
        return f"{item['name']!r} is not the name of an environment variable"
    if item.get("type", "PLAINTEXT") not in list(VariableType):
        return f"{item['name']}: type {item['type']!r} is none of {', '.join(VariableType)}"
    fault = variable_fault(stored(item)) if item.get("type", "PLAINTEXT") != VariableType.PLAINTEXT else ""
    return f"{item['name']}: {fault}" if fault else None


def stored(item: dict[str, str]) -> str | dict[str, str]:
    """A variable of such a list as builds keep it."""
    return stored_variable(item.get("type", "PLAINTEXT"), item["value"])


def _start(session: Session, starting: Starting) -> Progress:
    listed = json.loads(starting.configuration.get("EnvironmentVariables") or "[]")
    combines = starting.configuration.get("CombineArtifacts")
    request = BuildRequest(
        project=starting.configuration["ProjectName"],
        source=starting.source,
        variables={item["name"]: stored(item) for item in listed},
        # CODEBUILD_INITIATOR of builds that a pipeline starts (CodeBuild "Environment variables in build environments")
        initiator=f"codepipeline/{starting.pipeline}",
        subject=f"execution:{starting.execution_id}",
        inputs=_inputs(starting),
        outputs=starting.definition.outputs,
        revision=starting.own_revision,
        is_batch=_is_true(starting.configuration.get("BatchEnabled")),
        combines_artifacts=None if combines is None else _is_true(combines),
        publish_repository=starting.configuration.get(ACTION_SETTING),
    )
    build_id = starting.parts.start_build(session, request, starting.now)
    what = "batch build" if request.is_batch else "build"
    return Progress(ActionStatus.IN_PROGRESS, f"{what} of {request.project}", build_id=build_id)


def _is_true(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _check_boolean(value: str) -> str | None:
    return None if value.lower() in {"true", "false"} else "neither true nor false"


def _inputs(starting: Starting) -> tuple[tuple[str, str | None, str], ...]:
    """What the build is handed, the primary one under the name "". The version's own files need no mention as primary."""
    names = list(starting.artifacts)
    if not names and starting.own_revision:
        return (("", None, starting.own_revision),)
    primary = starting.configuration.get("PrimarySource") or (names[0] if len(names) == 1 else "")
    if len(names) > 1 and not primary:
        raise Invalid(
            "configuration PrimarySource is missing: of several input artifacts it says which is the primary one"
        )
    if primary and primary not in names:
        raise Invalid(f"configuration PrimarySource: {primary!r} is none of the input artifacts")
    return tuple(
        ("" if name == primary else name, handed.build_id, handed.identifier)
        for name, handed in starting.artifacts.items()
        if name != primary or not handed.is_version
    )


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_artifact(value: str) -> str | None:
    return None if ARTIFACT.match(value) else f"{value!r} is not the name of an artifact"


def _stop(session: Session, parts: Parts, row: ActionExecution, _actor: str) -> None:
    if row.build_id is not None:
        parts.stop_build(session, row.build_id, parts.clock())


def _kind(category: str) -> ActionKind:
    provider = Provider(
        category,
        "AWS",
        "CodeBuild",
        (
            Setting("ProjectName", is_required=True, check=_check_project),
            Setting("PrimarySource", check=_check_artifact),
            Setting("BatchEnabled", check=_check_boolean),
            Setting("CombineArtifacts", check=_check_boolean),
            Setting(ACTION_SETTING, check=_check_repository),
            Setting("EnvironmentVariables", check=check_variables, is_json=True),
        ),
        inputs=(0, 5),
        outputs=(0, 5),
        variables=None,
    )
    return ActionKind(provider, _start, _stop)


BUILD = _kind("Build")
TEST = _kind("Test")
