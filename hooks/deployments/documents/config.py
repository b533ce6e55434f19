"""Deployment configurations: CodeDeploy's predefined ones, and its document (CreateDeploymentConfig) for others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from hooks.deployments.documents.values import StrictReader, read_document

SERVER, CONTAINERS, FUNCTIONS = "Server", "ECS", "Lambda"
PLATFORMS = (SERVER, CONTAINERS, FUNCTIONS)
RESERVED = "CodeDeployDefault."
MOST_SHIFT_MINUTES = 2880
MOST_STEP_PERCENT = 99
MOST_MONITOR_SECONDS = 172_800
MOST_HOSTS = 999_999_999
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        SERVER: f"{RESERVED}OneAtATime",
        CONTAINERS: f"{RESERVED}ECSAllAtOnce",
        FUNCTIONS: f"{RESERVED}LambdaAllAtOnce",
    }
)
"""Platform → the configuration of a group that names none."""


def _hosts(kind: str, value: int, **more: Any) -> dict[str, Any]:
    return {"computePlatform": SERVER, "minimumHealthyHosts": {"type": kind, "value": value}, **more}


def _canary(platform: str, minutes: int) -> dict[str, Any]:
    step = {"canaryPercentage": 10, "canaryInterval": minutes}
    return {
        "computePlatform": platform,
        "trafficRoutingConfig": {"type": "TimeBasedCanary", "timeBasedCanary": step},
    }


def _linear(platform: str, minutes: int) -> dict[str, Any]:
    step = {"linearPercentage": 10, "linearInterval": minutes}
    return {
        "computePlatform": platform,
        "trafficRoutingConfig": {"type": "TimeBasedLinear", "timeBasedLinear": step},
    }


def _at_once(platform: str) -> dict[str, Any]:
    return {"computePlatform": platform, "trafficRoutingConfig": {"type": "AllAtOnce"}}


PREDEFINED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        RESERVED + name: document
        for name, document in {
            "AllAtOnce": _hosts("HOST_COUNT", 0),
            "HalfAtATime": _hosts("FLEET_PERCENT", 50),
            # Taken by its word it would let none go on a single machine, and two on more than a hundred.
            "OneAtATime": _hosts("FLEET_PERCENT", 99, maxConcurrent=1),
            **{f"ECSCanary10Percent{minutes}Minutes": _canary(CONTAINERS, minutes) for minutes in (5, 15)},
            **{f"ECSLinear10PercentEvery{minutes}Minutes": _linear(CONTAINERS, minutes) for minutes in (1, 3)},
            "ECSAllAtOnce": _at_once(CONTAINERS),
            **{f"LambdaCanary10Percent{minutes}Minutes": _canary(FUNCTIONS, minutes) for minutes in (5, 10, 15, 30)},
            "LambdaLinear10PercentEvery1Minute": _linear(FUNCTIONS, 1),
            **{f"LambdaLinear10PercentEvery{minutes}Minutes": _linear(FUNCTIONS, minutes) for minutes in (2, 3, 10)},
            "LambdaAllAtOnce": _at_once(FUNCTIONS),
        }.items()
    }
)
"""Name → document of those that are always there. ``maxConcurrent`` is how many machines are taken at a time."""


@dataclass(frozen=True, slots=True)
class ParsedConfig:
    """``document`` is what is kept; ``name`` "" where it does not say."""

    document: Mapping[str, Any]
    platform: str
    name: str = ""


def parse_config(text: str) -> ParsedConfig:
    """Read a configuration's document, YAML or JSON. Raises InvalidDocument with all faults, each with its line."""
    reader, root = read_document(text, "deployment configuration")
    known = ("deploymentConfigName", "computePlatform", "minimumHealthyHosts", "zonalConfig", "trafficRoutingConfig")
    answered = {"deploymentConfigId": "", "createTime": ""}
    entries = reader.fields(root, "", known, ignored=answered)
    name = reader.name(entries.get("deploymentConfigName"), "deploymentConfigName")
    if name.startswith(RESERVED):
        reader.fault(entries["deploymentConfigName"], f"names that begin with {RESERVED} are CodeDeploy's own")
    platform = reader.word(entries.get("computePlatform"), "computePlatform", PLATFORMS, SERVER)
    document: dict[str, Any] = {"computePlatform": platform}
    if platform == SERVER:
        _server(reader, root, entries, document)
    else:
        _traffic(reader, root, entries, document)
    reader.check()
    return ParsedConfig(document, platform, name)


def _server(reader: StrictReader, root: yaml.Node, entries: dict[str, yaml.Node], document: dict[str, Any]) -> None:
    if "trafficRoutingConfig" in entries:
        reader.fault(entries["trafficRoutingConfig"], "trafficRoutingConfig is not for the platform Server")
    if "minimumHealthyHosts" not in entries:
        reader.fault(root, "minimumHealthyHosts is missing")
        return
    document["minimumHealthyHosts"] = _minimum(reader, entries["minimumHealthyHosts"], "minimumHealthyHosts")
    if "zonalConfig" not in entries:
        return
    times = ("firstZoneMonitorDurationInSeconds", "monitorDurationInSeconds")
    zonal = reader.fields(entries["zonalConfig"], "zonalConfig", {*times, "minimumHealthyHostsPerZone"})
    found: dict[str, Any] = {}
    for key in times:
        seconds = reader.whole(zonal.get(key), f"zonalConfig.{key}", (0, MOST_MONITOR_SECONDS))
        if seconds is not None:
            found[key] = seconds
    if "minimumHealthyHostsPerZone" in zonal:
        where = "zonalConfig.minimumHealthyHostsPerZone"
        found["minimumHealthyHostsPerZone"] = _minimum(reader, zonal["minimumHealthyHostsPerZone"], where)
    document["zonalConfig"] = found


def _minimum(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    entries = reader.fields(node, where, {"type", "value"})
    kind = reader.word(entries.get("type"), f"{where}.type", ("HOST_COUNT", "FLEET_PERCENT"))
    most = 99 if kind == "FLEET_PERCENT" else MOST_HOSTS
    value = reader.whole(entries.get("value"), f"{where}.value", (0, most))
    if "type" not in entries or value is None:
        reader.fault(node, f"{where} needs a type and a value")
    return {"type": kind, "value": value}


def _traffic(reader: StrictReader, root: yaml.Node, entries: dict[str, yaml.Node], document: dict[str, Any]) -> None:
    for key in ("minimumHealthyHosts", "zonalConfig"):
        if key in entries:
            reader.fault(entries[key], f"{key} is for the platform Server")
    if "trafficRoutingConfig" not in entries:
        reader.fault(root, "trafficRoutingConfig is missing")
        return
    node, where = entries["trafficRoutingConfig"], "trafficRoutingConfig"
    given = reader.fields(node, where, {"type", "timeBasedCanary", "timeBasedLinear"})
    kind = reader.word(given.get("type"), f"{where}.type", ("AllAtOnce", "TimeBasedCanary", "TimeBasedLinear"))
    found: dict[str, Any] = {"type": kind}
    for name, wanted in (("timeBasedCanary", "TimeBasedCanary"), ("timeBasedLinear", "TimeBasedLinear")):
        if (name in given) != (kind == wanted):
            reader.fault(given.get(name, node), f"{where}.{name} belongs to the type {wanted}, and to no other")
        elif name in given:
            found[name] = _steps(reader, given[name], f"{where}.{name}", name.removeprefix("timeBased").lower())
    if "type" not in given:
        reader.fault(node, f"{where}.type is missing")
    document[where] = found


def _steps(reader: StrictReader, node: yaml.Node, where: str, word: str) -> dict[str, int]:
    percentage, interval = f"{word}Percentage", f"{word}Interval"
    given = reader.fields(node, where, {percentage, interval})
    percent = reader.whole(given.get(percentage), f"{where}.{percentage}", (1, MOST_STEP_PERCENT))
    minutes = reader.whole(given.get(interval), f"{where}.{interval}", (1, MOST_SHIFT_MINUTES))
    if percent is None or minutes is None:
        reader.fault(node, f"{where} needs {percentage} and {interval} (minutes)")
        return {}
    shifts = 1 if word == "canary" else -(-100 // percent) - 1
    if shifts * minutes > MOST_SHIFT_MINUTES:
        reader.fault(node, f"{where}: at most {MOST_SHIFT_MINUTES} minutes lie between the first and the last shift")
    return {percentage: percent, interval: minutes}
