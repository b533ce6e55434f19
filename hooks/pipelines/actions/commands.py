"""Compute / AWS / Commands: shell commands, run as a build in the server's default environment, without a project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.build import check_variables, stored
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.compute import COMMANDS, COMPUTE, ENVIRONMENT, FILES, OUTPUT_VARIABLES
from hooks.pipelines.parts import BuildRequest, Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid

DEFAULT_TIMEOUT_MINUTES = 60


def _start(session: Session, starting: Starting) -> Progress:
    said = _said(starting.configuration)
    names = list(starting.artifacts)
    request = BuildRequest(
        project="",
        source=starting.source,
        variables={item["name"]: stored(item) for item in said.get(ENVIRONMENT, ())},
        initiator=f"codepipeline/{starting.pipeline}",
        subject=f"execution:{starting.execution_id}",
        # The first artifact is where the commands begin; of the version itself no mention is needed there.
        inputs=tuple(
            ("" if name == names[0] else name, handed.build_id, handed.identifier)
            for name, handed in starting.artifacts.items()
            if name != names[0] or not handed.is_version
        )
        or ((("", None, starting.own_revision),) if starting.own_revision else ()),
        outputs=starting.definition.outputs,
        revision=starting.own_revision,
        buildspec=_buildspec(said),
        timeout_minutes=starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES,
    )
    build_id = starting.parts.start_build(session, request, starting.now)
    count = len(said[COMMANDS])
    return Progress(ActionStatus.IN_PROGRESS, f"{count} command{'' if count == 1 else 's'}", build_id=build_id)


def _said(configuration: Mapping[str, str]) -> dict[str, Any]:
    """The settings, each a JSON list. Raises Invalid."""
    said = {}
    for name, value in configuration.items():
        try:
            said[name] = json.loads(value)
        except ValueError as error:
            raise Invalid(f"configuration {name} is no JSON") from error
    return said


def _buildspec(said: dict[str, Any]) -> str:
    """The commands as a buildspec: those after one that fails do not run."""
    spec: dict[str, Any] = {"version": 0.2, "phases": {"build": {"commands": said[COMMANDS]}}}
    if names := said.get(OUTPUT_VARIABLES):
        spec["env"] = {"exported-variables": names}
    if files := said.get(FILES):
        spec["artifacts"] = {"files": files}
    return json.dumps(spec, ensure_ascii=False)


def _stop(session: Session, parts: Parts, row: ActionExecution, _actor: str) -> None:
    if row.build_id is not None:
        parts.stop_build(session, row.build_id, parts.clock())


RUN = ActionKind(
    Provider(
        COMPUTE,
        "AWS",
        "Commands",
        (
            Setting(COMMANDS),
            Setting(OUTPUT_VARIABLES),
            Setting(ENVIRONMENT, check=check_variables, is_json=True),
            Setting(FILES, is_json=True),
        ),
        inputs=(0, 10),
        outputs=(0, 1),
        variables=None,
        has_timeout=True,
    ),
    _start,
    _stop,
)
