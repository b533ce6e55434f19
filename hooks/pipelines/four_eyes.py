"""Approvals that leave somebody out (``NotByPublisher``, ``NotByStarter``): whether there is anybody to leave out. Pure.

Who pushes a commit is known to the git server, not to this one: executions of git sources have no publishers, and what a push
or a schedule starts was started by no person. A rule of two persons that can never apply must not look like one.
"""

from __future__ import annotations

from collections.abc import Iterator

from hooks.pipelines.definition import GIT_PROVIDERS, PipelineDefinition
from hooks.pipelines.document import Faults
from hooks.pipelines.rules import Places

PUBLISHER, STARTER = "NotByPublisher", "NotByStarter"


def check_four_eyes(definition: PipelineDefinition, places: Places, faults: Faults) -> list[str]:
    """Add a fault for each ``NotByPublisher`` where no source has publishers; warnings for what ``NotByStarter`` misses."""
    if not definition.stages or not all(each.type.category for each in definition.sources):
        return []
    from_git = {each.type.provider in GIT_PROVIDERS for each in definition.sources}
    if from_git == {True}:
        for line, what in _saying(definition, PUBLISHER, places):
            told = "commits have no publishers here, so that it would leave out nobody; name those who may approve (Approvers)"
            faults.add(line, f"{what}: {told}")
    causes = ("pushes",) * (True in from_git) + ("schedules",) * bool(definition.schedules)
    told = f"executions that {' and '.join(causes)} start were started by no person: it leaves out nobody there"
    return [f"line {line}: {what}: {told}" for line, what in _saying(definition, STARTER, places)] if causes else []


def _saying(definition: PipelineDefinition, key: str, places: Places) -> Iterator[tuple[int, str]]:
    """The approvals whose setting ``key`` is "true": (line, what it is called)."""
    for i, stage in enumerate(definition.stages):
        for j, action in enumerate(stage.actions):
            is_approval = (action.type.category, action.type.provider) == ("Approval", "Manual")
            if is_approval and action.configuration.get(key) == "true":
                yield places.line(i, j, "configuration", key), f"action {stage.name}/{action.name}: configuration {key}"
