"""The parts that documents of groups and of new deployments share: alarms, rollback, which machines, what is ours. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from hooks.deployments.documents.tags import read_filters, read_names, read_tag_set
from hooks.deployments.documents.values import StrictReader
from hooks.deployments.health.alarms import alarms_of

ROLLBACK_EVENTS = ("DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST")
FILE_EXISTS = ("DISALLOW", "OVERWRITE", "RETAIN")
MOST_ALARMS = 10
MOST_CONCURRENT = 1000
MOST_BAKE_MINUTES = 2880
OURS = ("guidedFailure", "maxConcurrent", "bakeTimeInMinutes")
"""Options beyond CodeDeploy's, of a group and of a single deployment."""
_NO_SCALING = "there are no auto-scaling groups; name machines, or tag them"


def read_alarms(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    """An ``alarmConfiguration``. Of an alarm the name is read here, and the rest by who polls it."""
    before = reader.fault_count
    entries = reader.fields(node, where, {"enabled", "ignorePollAlarmFailure", "alarms"})
    found: dict[str, Any] = {
        key: reader.boolean(entries[key], f"{where}.{key}")
        for key in ("enabled", "ignorePollAlarmFailure")
        if key in entries
    }
    alarms: list[dict[str, Any]] = []
    for path, item in reader.listed(entries.get("alarms"), f"{where}.alarms", MOST_ALARMS):
        given = reader.mapping(item, path)
        named = {name.lower(): value for name, value in given.items() if name.lower() == "name"}
        alarm: dict[str, Any] = {"name": reader.limited(named.get("name"), f"{path}.name", 255, 1)}
        if "name" not in named:
            reader.fault(item, f"{path}: name is missing")
        rest = reader.plain(item, path) or {}
        alarm |= {name: value for name, value in rest.items() if name.lower() != "name"}
        if alarm["name"] in {each["name"] for each in alarms}:
            reader.fault(item, f"{path}: alarm {alarm['name']!r} is there twice")
        alarms.append(alarm)
    if "alarms" in entries:
        found["alarms"] = alarms
    if found.get("enabled") and not alarms:
        reader.fault(node, f"{where} is enabled and has no alarms")
    if reader.fault_count == before:
        faults: list[str] = []
        alarms_of(found, faults, where)
        for fault in faults:
            reader.fault(node, fault)
    return found


def read_rollback(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    """An ``autoRollbackConfiguration``."""
    entries = reader.fields(node, where, {"enabled", "events"})
    found: dict[str, Any] = {}
    if "enabled" in entries:
        found["enabled"] = reader.boolean(entries["enabled"], f"{where}.enabled")
    if "events" in entries:
        listed = reader.listed(entries["events"], f"{where}.events", len(ROLLBACK_EVENTS))
        found["events"] = [reader.word(item, path, ROLLBACK_EVENTS) for path, item in listed]
    if found.get("enabled") and not found.get("events"):
        reader.fault(node, f"{where} is enabled and names no events")
    return found


def read_selection(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    """CodeDeploy's ``targetInstances``; machines by name (``targets``) are ours."""
    known = {"tagFilters", "ec2TagSet", "targets"}
    entries = reader.fields(node, where, known, refused={"autoScalingGroups": _NO_SCALING})
    found = read_machines(reader, entries, f"{where}.")
    if not found:
        reader.fault(node, f"{where} chooses no machines: it has tagFilters, ec2TagSet or targets")
    return found


def read_machines(reader: StrictReader, entries: dict[str, yaml.Node], prefix: str) -> dict[str, Any]:
    """Everything among ``entries`` that says which machines there are."""
    found: dict[str, Any] = {}
    for key in ("ec2TagFilters", "onPremisesInstanceTagFilters", "tagFilters"):
        if key in entries and (filters := read_filters(reader, entries[key], f"{prefix}{key}")):
            found[key] = filters
    for key in ("ec2TagSet", "onPremisesTagSet"):
        if key in entries and (lists := read_tag_set(reader, entries[key], f"{prefix}{key}"))[f"{key}List"]:
            found[key] = lists
    for flat, sets in (
        ("ec2TagFilters", "ec2TagSet"),
        ("onPremisesInstanceTagFilters", "onPremisesTagSet"),
        ("tagFilters", "ec2TagSet"),
    ):
        if flat in found and sets in found:
            reader.fault(entries[sets], f"{prefix}{flat} and {prefix}{sets} exclude each other")
    if "targets" in entries and (names := read_names(reader, entries["targets"], f"{prefix}targets")):
        found["targets"] = names
    return found


def read_ours(reader: StrictReader, entries: dict[str, yaml.Node]) -> dict[str, Any]:
    """The options of ``OURS`` among ``entries``."""
    found: dict[str, Any] = {}
    if "maxConcurrent" in entries:
        found["maxConcurrent"] = reader.whole(entries["maxConcurrent"], "maxConcurrent", (1, MOST_CONCURRENT))
    if "bakeTimeInMinutes" in entries:
        found["bakeTimeInMinutes"] = reader.whole(
            entries["bakeTimeInMinutes"], "bakeTimeInMinutes", (0, MOST_BAKE_MINUTES)
        )
    if "guidedFailure" in entries:
        found["guidedFailure"] = reader.boolean(entries["guidedFailure"], "guidedFailure")
    return found


def read_link(reader: StrictReader, node: yaml.Node, where: str) -> str:
    """An absolute path to a link in a directory of its own, or "" after a fault."""
    text = reader.limited(node, where, 1000)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not text.startswith("/") or ".." in parts or len(parts) < 2:
        reader.fault(node, f"{where} has to be an absolute path in a directory of its own: /opt/app/current")
        return ""
    return "/" + "/".join(parts)
