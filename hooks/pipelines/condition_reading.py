"""Conditions of stages, read from a document: ``beforeEntry``, ``onSuccess``, ``onFailure``. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from hooks.pipelines.compute import COMMANDS, commands_of
from hooks.pipelines.definition import (
    ARTIFACT,
    MAX_RULES,
    NAME,
    RESULTS,
    SLOT_KEYS,
    ActionType,
    ConditionDefinition,
    Result,
    RetryMode,
    RuleDefinition,
    Slot,
)
from hooks.pipelines.document import Faults, fields, items, limited, line_of, named, pairs, text_of, whole
from hooks.pipelines.provider import MAX_RULE_MINUTES, RULE, Provider
from hooks.pipelines.rules import Places

CONDITION_KEYS = tuple(SLOT_KEYS.values())
_RULE = {"name", "ruleTypeId", "configuration", "commands", "inputArtifacts", "roleArn", "timeoutInMinutes"}
_RULE_REFUSED = {"region": "one server has no regions"}
_UNCONDITIONAL = (Result.ROLLBACK, Result.RETRY)


@dataclass(frozen=True, slots=True)
class _Where:
    """``what`` names the part in faults; ``place`` is where it stands."""

    stage: int
    slot: Slot
    what: str
    providers: Sequence[Provider]
    places: Places
    faults: Faults


def stage_conditions(
    entries: Mapping[str, yaml.Node],
    stage: int,
    name: str,
    providers: Sequence[Provider],
    *,
    places: Places,
    faults: Faults,
) -> dict[Slot, ConditionDefinition]:
    """The conditions that a stage's ``entries`` hold."""
    found = {}
    rule_providers = [provider for provider in providers if provider.category == RULE]
    for slot, key in SLOT_KEYS.items():
        if key not in entries:
            continue
        places.note((stage, slot), line_of(entries[key]))
        at = _Where(stage, slot, f"stage {name!r}: {key}", rule_providers, places, faults)
        condition = _on_failure(entries[key], at) if slot is Slot.ON_FAILURE else _guard(entries[key], at)
        if condition is not None:
            found[slot] = condition
    return found


def _guard(node: yaml.Node, at: _Where) -> ConditionDefinition | None:
    entries = fields(node, at.what, {"conditions"}, at.faults)
    return _only(node, entries, at)


def _on_failure(node: yaml.Node, at: _Where) -> ConditionDefinition | None:
    faults = at.faults
    entries = fields(node, at.what, {"result", "retryConfiguration", "conditions"}, faults)
    mode = _retry_mode(entries.get("retryConfiguration"), at)
    if not entries:
        return None
    if not items(entries.get("conditions"), f"{at.what}: conditions", faults):
        if "result" not in entries:
            if "retryConfiguration" in entries:
                faults.add(line_of(node), f"{at.what}: neither a result nor conditions")
            return None
        result = _result(entries["result"], at, _UNCONDITIONAL)
        condition = None if result is None else ConditionDefinition(result, retry_mode=mode)
    else:
        if "result" in entries:
            why = "the result beside conditions says nothing; it is the condition's own that counts"
            faults.add(line_of(entries["result"]), f"{at.what}: {why}")
        condition = _only(node, entries, at, mode)
    if condition is not None and "retryConfiguration" in entries and condition.result is not Result.RETRY:
        faults.add(line_of(entries["retryConfiguration"]), f"{at.what}: retryConfiguration is for the result RETRY")
    return condition


def _retry_mode(node: yaml.Node | None, at: _Where) -> RetryMode:
    if node is None:
        return RetryMode.FAILED_ACTIONS
    entries = fields(node, f"{at.what}: retryConfiguration", {"retryMode"}, at.faults)
    mode = text_of(entries["retryMode"], f"{at.what}: retryMode", at.faults) if "retryMode" in entries else ""
    if mode not in list(RetryMode):
        at.faults.add(line_of(node), f"{at.what}: retryMode must be one of {', '.join(RetryMode)}")
        return RetryMode.FAILED_ACTIONS
    return RetryMode(mode)


def _only(
    node: yaml.Node, entries: Mapping[str, yaml.Node], at: _Where, mode: RetryMode = RetryMode.FAILED_ACTIONS
) -> ConditionDefinition | None:
    """The one condition of a list."""
    listed = items(entries.get("conditions"), f"{at.what}: conditions", at.faults)
    if len(listed) > 1:
        at.faults.add(
            line_of(node), f"{at.what}: {len(listed)} conditions; there is exactly one, of 1 to {MAX_RULES} rules"
        )
    if not listed:  # as GetPipeline writes where there is none
        return None
    parts = fields(listed[0], f"{at.what}: condition", {"result", "rules"}, at.faults)
    if "result" not in parts:
        at.faults.add(line_of(listed[0]), f"{at.what}: condition: result is missing: {', '.join(RESULTS[at.slot])}")
    result = _result(parts["result"], at, RESULTS[at.slot]) if "result" in parts else None
    nodes = items(parts.get("rules"), f"{at.what}: rules", at.faults)
    if not 1 <= len(nodes) <= MAX_RULES:
        at.faults.add(line_of(listed[0]), f"{at.what}: {len(nodes)} rules; a condition has 1 to {MAX_RULES}")
    rules = tuple(_rule(rule, k, at) for k, rule in enumerate(nodes))
    return None if result is None else ConditionDefinition(result, rules, mode)


def _result(node: yaml.Node, at: _Where, allowed: tuple[Result, ...]) -> Result | None:
    word = text_of(node, f"{at.what}: result", at.faults)
    if word not in allowed:
        at.faults.add(line_of(node), f"{at.what}: result {word[:40]!r} is none of {', '.join(allowed)}")
        return None
    return Result(word)


def _rule(node: yaml.Node, number: int, at: _Where) -> RuleDefinition:
    faults, place = at.faults, (at.stage, f"{at.slot}.{number}")
    entries = fields(node, f"{at.what}: rule", _RULE, faults, refused=_RULE_REFUSED)
    name = named(node, entries, f"{at.what}: rule", NAME, faults)
    what = f"{at.what}: rule {name}"
    at.places.note(place, line_of(node))
    if "roleArn" in entries:
        text_of(entries["roleArn"], f"{what}: roleArn", faults)
    rule_type = _rule_type(entries.get("ruleTypeId"), node, what, at)
    return RuleDefinition(
        name,
        rule_type,
        _configuration(node, entries, rule_type, what, place, at),
        _inputs(entries.get("inputArtifacts"), what, place, at),
        whole(dict(entries), "timeoutInMinutes", what, (5, MAX_RULE_MINUTES), faults),
    )


def _rule_type(node: yaml.Node | None, rule: yaml.Node, what: str, at: _Where) -> ActionType:
    faults = at.faults
    if node is None:
        faults.add(line_of(rule), f"{what}: ruleTypeId is missing")
        return ActionType("", "", "")
    entries = fields(node, f"{what}: ruleTypeId", {"category", "owner", "provider", "version"}, faults)
    words = {key: text_of(value, f"{what}: {key}", faults) for key, value in entries.items()}
    provider = words.get("provider", "")
    for known in at.providers:
        wanted = {"category": RULE, "owner": known.owner, "version": "1"}
        if known.name == provider and all(words.get(key, value) == value for key, value in wanted.items()):
            return ActionType(RULE, known.owner, known.name)
    told = "; ".join(f"{RULE} / {known.owner} / {known.name}" for known in at.providers)
    asked = " / ".join(words.get(key, "?") for key in ("category", "owner", "provider", "version"))
    faults.add(line_of(node), f"{what}: {asked} is not carried out by this release (known, version 1: {told})")
    return ActionType("", "", "")


def _configuration(
    node: yaml.Node,
    entries: Mapping[str, yaml.Node],
    rule_type: ActionType,
    what: str,
    place: tuple[int, str],
    at: _Where,
) -> dict[str, str]:
    found: dict[str, str] = {}
    if "configuration" in entries:
        for key, value, line in pairs(entries["configuration"], f"{what}: configuration", at.faults):
            at.places.note((*place, "configuration", key), line)
            found[key] = limited(value, f"{what}: configuration {key}", 1000, at.faults, strict=True)
    if rule_type.provider != COMMANDS:
        if "commands" in entries and items(entries["commands"], f"{what}: commands", at.faults):
            at.faults.add(line_of(entries["commands"]), f"{what}: commands are for rules of the provider {COMMANDS}")
        return found
    if found:
        at.faults.add(line_of(entries["configuration"]), f"{what}: a {COMMANDS} rule has no configuration")
    commands = commands_of(entries.get("commands"), f"{what}: commands", at.faults)
    if not commands:
        at.faults.add(line_of(node), f"{what}: commands are missing")
    return {COMMANDS: json.dumps(commands, ensure_ascii=False)}


def _inputs(node: yaml.Node | None, what: str, place: tuple[int, str], at: _Where) -> tuple[str, ...]:
    names: list[str] = []
    for item in items(node, f"{what}: inputArtifacts", at.faults):
        entries = fields(item, f"{what}: artifact", {"name"}, at.faults)
        at.places.note((*place, "input", len(names)), line_of(item))
        names.append(named(item, entries, f"{what}: artifact", ARTIFACT, at.faults))
    return tuple(names)
