"""Reading ``triggers`` of a pipeline document (CodePipeline "GitConfiguration"). Pure."""

from __future__ import annotations

from collections.abc import Collection

import yaml

from hooks.pipelines.definition import ScheduleTrigger
from hooks.pipelines.document import Faults, fields, items, limited, line_of, text_of
from hooks.pipelines.sources.globs import glob_fault
from hooks.pipelines.sources.schedules import parse_schedule
from hooks.pipelines.sources.triggers import (
    EVENTS,
    MAX_FILTERS,
    MAX_PATTERNS,
    MAX_TRIGGERS,
    Patterns,
    PullRequestFilter,
    PushFilter,
    Trigger,
)
from registry.errors import Invalid

PROVIDER_TYPE = "CodeStarSourceConnection"
SCHEDULE = "Schedule"


def read_triggers(
    node: yaml.Node | None, git_sources: Collection[str], faults: Faults
) -> tuple[tuple[Trigger, ...], tuple[ScheduleTrigger, ...]]:
    """The triggers, and the schedules among them; ``git_sources`` are the names of the pipeline's git source actions."""
    found: list[Trigger] = []
    schedules: list[ScheduleTrigger] = []
    for item in _listed(node, "pipeline: triggers", MAX_TRIGGERS, faults):
        entries = fields(item, "trigger", {"providerType", "gitConfiguration", "scheduleConfiguration"}, faults)
        kind = text_of(entries["providerType"], "trigger: providerType", faults) if "providerType" in entries else "Git"
        if kind not in {PROVIDER_TYPE, "Git", SCHEDULE}:
            told = f"trigger: providerType must be {PROVIDER_TYPE}, Git or {SCHEDULE}"
            faults.add(line_of(entries["providerType"]), told)
        if kind == SCHEDULE:
            schedules.append(_schedule(item, entries.get("scheduleConfiguration"), faults))
            continue
        if "gitConfiguration" not in entries:
            faults.add(line_of(item), "trigger: gitConfiguration is missing")
            continue
        trigger = _git(entries["gitConfiguration"], git_sources, faults)
        if trigger.action in {each.action for each in found}:
            faults.add(line_of(item), f"trigger: source action {trigger.action!r} has one already")
        found.append(trigger)
    return tuple(found), tuple(schedules)


def _schedule(item: yaml.Node, node: yaml.Node | None, faults: Faults) -> ScheduleTrigger:
    what = "trigger: scheduleConfiguration"
    if node is None:
        faults.add(line_of(item), f"{what} is missing")
        return ScheduleTrigger("")
    entries = fields(node, what, {"expression", "timeZone"}, faults)
    said = {key: limited(value, f"{what}: {key}", 256, faults, strict=True) for key, value in entries.items()}
    try:
        parse_schedule(said.get("expression", ""), said.get("timeZone", "UTC"))
    except Invalid as error:
        faults.add(line_of(node), f"{what}: {error}")
    return ScheduleTrigger(said.get("expression", ""), said.get("timeZone", "UTC"))


def _git(node: yaml.Node, git_sources: Collection[str], faults: Faults) -> Trigger:
    what = "trigger: gitConfiguration"
    entries = fields(node, what, {"sourceActionName", "push", "pullRequest"}, faults)
    action = ""
    if "sourceActionName" not in entries:
        faults.add(line_of(node), f"{what}: sourceActionName is missing")
    else:
        action = text_of(entries["sourceActionName"], f"{what}: sourceActionName", faults)
        if action not in git_sources:
            faults.add(line_of(entries["sourceActionName"]), f"{what}: {action!r} is no source action of git")
    return Trigger(
        action,
        tuple(_push(each, faults) for each in _listed(entries.get("push"), f"{what}: push", MAX_FILTERS, faults)),
        tuple(
            _pull(each, faults)
            for each in _listed(entries.get("pullRequest"), f"{what}: pullRequest", MAX_FILTERS, faults)
        ),
    )


def _push(node: yaml.Node, faults: Faults) -> PushFilter:
    entries = fields(node, "push", {"tags", "branches", "filePaths"}, faults)
    if "tags" in entries and "branches" in entries:
        told = "a push is of a tag or of a branch: a filter with both lets nothing through; write two"
        faults.add(line_of(entries["tags"]), f"push: {told}")
    return PushFilter(
        *(_patterns(entries.get(key), f"push: {key}", faults) for key in ("tags", "branches", "filePaths"))
    )


def _pull(node: yaml.Node, faults: Faults) -> PullRequestFilter:
    entries = fields(node, "pullRequest", {"events", "branches", "filePaths"}, faults)
    events = []
    for item in _listed(entries.get("events"), "pullRequest: events", len(EVENTS), faults):
        event = text_of(item, "pullRequest: events", faults)
        if event not in EVENTS:
            faults.add(line_of(item), f"pullRequest: events are {', '.join(EVENTS)}")
            continue
        events.append(event)
    return PullRequestFilter(
        tuple(events),
        *(_patterns(entries.get(key), f"pullRequest: {key}", faults) for key in ("branches", "filePaths")),
    )


def _patterns(node: yaml.Node | None, what: str, faults: Faults) -> Patterns | None:
    if node is None:
        return None
    entries = fields(node, what, {"includes", "excludes"}, faults)
    if not entries:
        faults.add(line_of(node), f"{what}: includes or excludes are missing")
    return Patterns(*(_texts(entries.get(key), f"{what}: {key}", faults) for key in ("includes", "excludes")))


def _texts(node: yaml.Node | None, what: str, faults: Faults) -> tuple[str, ...]:
    found = []
    for item in _listed(node, what, MAX_PATTERNS, faults):
        pattern = text_of(item, what, faults)
        fault = glob_fault(pattern)
        if fault:
            faults.add(line_of(item), f"{what}: {fault}")
        found.append(pattern)
    return tuple(found)


def _listed(node: yaml.Node | None, what: str, most: int, faults: Faults) -> list[yaml.Node]:
    found = items(node, what, faults)
    if len(found) > most:
        faults.add(line_of(found[most]), f"{what}: {len(found)} of them, at most {most} are allowed")
    return found[:most]
