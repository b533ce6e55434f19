"""CodeDeploy's document of a deployment group (CreateDeploymentGroup), with our options beside its own. Pure.

What would change where or how something is deployed and cannot be carried out here is refused; what has no meaning on a
server of one's own (roles, topics) is accepted with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hooks.deployments.documents.choices import (
    OURS,
    read_alarms,
    read_link,
    read_machines,
    read_ours,
    read_rollback,
)
from hooks.deployments.documents.native import read_native
from hooks.deployments.documents.tags import read_names
from hooks.deployments.documents.values import StrictReader, read_document
from hooks.deployments.health.checks import checks_of

TRIGGER_EVENTS = (
    *(f"Deployment{word}" for word in ("Start", "Success", "Failure", "Stop", "Rollback", "Ready")),
    *(f"Instance{word}" for word in ("Start", "Success", "Failure", "Ready")),
)
MOST_TRIGGERS = 10
MOST_POOLS = 10
MOST_WAIT_MINUTES = 2880
_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}/[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\Z")
_MACHINES = ("ec2TagFilters", "onPremisesInstanceTagFilters", "ec2TagSet", "onPremisesTagSet", "targets")
_OPTIONS = ("link", "appSpecFilename", "healthChecks", "containerHost", "hooks", "nativePackage", "pipelines", *OURS)
_KNOWN = (
    "applicationName",
    "deploymentGroupName",
    "deploymentConfigName",
    *_MACHINES,
    "deploymentStyle",
    "loadBalancerInfo",
    "blueGreenDeploymentConfiguration",
    "alarmConfiguration",
    "autoRollbackConfiguration",
    "triggerConfigurations",
    "outdatedInstancesStrategy",
    "ecsServices",
    *_OPTIONS,
)
_REFUSED = {"autoScalingGroups": "there are no auto-scaling groups; machines are found by their tags or names"}
_WITHOUT_EFFECT = {
    "serviceRoleArn": "the server acts with its own rights",
    "terminationHookEnabled": "machines are not ended by the server",
    "tags": "groups have no tags",
}
# What GetDeploymentGroup answers with, and nobody declares: such an answer can be applied as it is.
_ANSWERED = {
    "deploymentGroupId": "",
    "computePlatform": "",
    "targetRevision": "",
    "lastSuccessfulDeployment": "",
    "lastAttemptedDeployment": "",
}


@dataclass(frozen=True, slots=True)
class ParsedGroup:
    """``document`` is what is kept, in CodeDeploy's names; ``application`` and ``name`` "" where it says neither.

    ``warnings`` tell what was accepted and has no effect.
    """

    document: Mapping[str, Any]
    application: str = ""
    name: str = ""
    warnings: tuple[str, ...] = ()


def parse_group(text: str) -> ParsedGroup:
    """Read a group's document, YAML or JSON. Raises InvalidDocument with all faults, each with its line."""
    reader, root = read_document(text, "deployment group")
    entries = reader.fields(root, "", _KNOWN, refused=_REFUSED, ignored=_WITHOUT_EFFECT | _ANSWERED)
    application = reader.name(entries.get("applicationName"), "applicationName")
    name = reader.name(entries.get("deploymentGroupName"), "deploymentGroupName")
    document: dict[str, Any] = {}
    if "deploymentConfigName" in entries:
        document["deploymentConfigName"] = reader.name(entries["deploymentConfigName"], "deploymentConfigName")
    document |= read_machines(reader, entries, "")
    for key, read in (
        ("deploymentStyle", _style),
        ("loadBalancerInfo", _balancer),
        ("blueGreenDeploymentConfiguration", _blue_green),
        ("alarmConfiguration", read_alarms),
        ("autoRollbackConfiguration", read_rollback),
        ("triggerConfigurations", _triggers),
        ("ecsServices", _services),
    ):
        if key in entries:
            document[key] = read(reader, entries[key], key)
    if "outdatedInstancesStrategy" in entries:
        words = ("UPDATE", "IGNORE")
        node = entries["outdatedInstancesStrategy"]
        document["outdatedInstancesStrategy"] = reader.word(node, "outdatedInstancesStrategy", words, "UPDATE")
    document |= _ours(reader, entries)
    _check_together(reader, root, document)
    reader.check()
    return ParsedGroup(document, application, name, tuple(reader.notes))


def _ours(reader: StrictReader, entries: dict[str, yaml.Node]) -> dict[str, Any]:
    found = read_ours(reader, entries)
    if "link" in entries:
        found["link"] = read_link(reader, entries["link"], "link")
    if "appSpecFilename" in entries:
        text = reader.limited(entries["appSpecFilename"], "appSpecFilename", 255, 1)
        if text.startswith("/") or ".." in text.split("/"):
            reader.fault(entries["appSpecFilename"], "appSpecFilename has to be a path within the bundle")
        found["appSpecFilename"] = text
    if "nativePackage" in entries:
        found["nativePackage"] = read_native(reader, entries["nativePackage"], "nativePackage")
    if "containerHost" in entries:
        found["containerHost"] = reader.name(entries["containerHost"], "containerHost")
    if "pipelines" in entries:
        found["pipelines"] = read_names(reader, entries["pipelines"], "pipelines")
    for key in ("healthChecks", "hooks"):
        if key in entries:
            found[key] = reader.plain(entries[key], key)
    if found.get("healthChecks") is not None:
        faults: list[str] = []
        checks_of(found["healthChecks"], faults)
        for fault in faults:
            reader.fault(entries["healthChecks"], fault)
    return found


def _style(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, str]:
    entries = reader.fields(node, where, {"deploymentType", "deploymentOption"})
    found = {}
    for key, words in (
        ("deploymentType", ("IN_PLACE", "BLUE_GREEN")),
        ("deploymentOption", ("WITHOUT_TRAFFIC_CONTROL", "WITH_TRAFFIC_CONTROL")),
    ):
        found[key] = reader.word(entries.get(key), f"{where}.{key}", words, words[0])
    return found


def _balancer(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    refused = {"elbInfoList": "name pools of routers in targetGroupInfoList, as ROUTER/pool"}
    entries = reader.fields(node, where, {"targetGroupInfoList", "targetGroupPairInfoList"}, refused=refused)
    found: dict[str, Any] = {}
    if "targetGroupInfoList" in entries:
        path = f"{where}.targetGroupInfoList"
        found["targetGroupInfoList"] = _pools(reader, entries["targetGroupInfoList"], path, MOST_POOLS)
    if "targetGroupPairInfoList" in entries:
        path = f"{where}.targetGroupPairInfoList"
        pairs = reader.listed(entries["targetGroupPairInfoList"], path, 1)
        found["targetGroupPairInfoList"] = [_pair(reader, item, at) for at, item in pairs]
    return found


def _pools(reader: StrictReader, node: yaml.Node | None, where: str, most: int) -> list[dict[str, str]]:
    found = []
    for path, item in reader.listed(node, where, most):
        entries = reader.fields(item, path, {"name"})
        name = reader.text(entries.get("name"), f"{path}.name")
        if not _POOL.match(name):
            reader.fault(item, f"{path}.name is ROUTER/pool: a router of the server's settings, and a pool of it")
        found.append({"name": name})
    return found


def _pair(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    entries = reader.fields(node, where, {"targetGroups", "prodTrafficRoute", "testTrafficRoute"})
    groups = _pools(reader, entries.get("targetGroups"), f"{where}.targetGroups", 2)
    if len(groups) != 2 or groups[0] == groups[1]:
        reader.fault(node, f"{where}.targetGroups: two different pools, for blue and green")
    found: dict[str, Any] = {"targetGroups": groups}
    for key in ("prodTrafficRoute", "testTrafficRoute"):
        if key in entries:
            route = reader.fields(entries[key], f"{where}.{key}", {"listenerArns"})
            arns = reader.listed(route.get("listenerArns"), f"{where}.{key}.listenerArns", 1)
            found[key] = {"listenerArns": [reader.limited(item, path, 255, 1) for path, item in arns]}
    return found


def _blue_green(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    known = {"terminateBlueInstancesOnDeploymentSuccess", "deploymentReadyOption", "greenFleetProvisioningOption"}
    entries = reader.fields(node, where, known)
    found: dict[str, Any] = {}
    for key, action, words, wait in (
        (
            "terminateBlueInstancesOnDeploymentSuccess",
            "action",
            ("TERMINATE", "KEEP_ALIVE"),
            "terminationWaitTimeInMinutes",
        ),
        ("deploymentReadyOption", "actionOnTimeout", ("CONTINUE_DEPLOYMENT", "STOP_DEPLOYMENT"), "waitTimeInMinutes"),
    ):
        if key in entries:
            path = f"{where}.{key}"
            given = reader.fields(entries[key], path, {action, wait})
            found[key] = {action: reader.word(given.get(action), f"{path}.{action}", words, words[0])}
            minutes = reader.whole(given.get(wait), f"{path}.{wait}", (0, MOST_WAIT_MINUTES))
            if minutes is not None:
                found[key][wait] = minutes
    if "greenFleetProvisioningOption" in entries:
        path = f"{where}.greenFleetProvisioningOption"
        given = reader.fields(
            entries["greenFleetProvisioningOption"], path, {"action", "tagFilters", "ec2TagSet", "targets"}
        )
        action_text = reader.text(given.get("action"), f"{path}.action", "DISCOVER_EXISTING")
        if action_text != "DISCOVER_EXISTING":
            reader.fault(node, f"{path}.action is DISCOVER_EXISTING here: the server makes no machines")
        found["greenFleetProvisioningOption"] = {
            "action": "DISCOVER_EXISTING",
            **read_machines(reader, given, f"{path}."),
        }
    return found


def _triggers(reader: StrictReader, node: yaml.Node, where: str) -> list[dict[str, Any]]:
    found = []
    for path, item in reader.listed(node, where, MOST_TRIGGERS):
        entries = reader.fields(item, path, {"triggerName", "triggerTargetArn", "triggerEvents"})
        events = reader.listed(entries.get("triggerEvents"), f"{path}.triggerEvents", len(TRIGGER_EVENTS))
        found.append(
            {
                "triggerName": reader.limited(entries.get("triggerName"), f"{path}.triggerName", 256),
                "triggerTargetArn": reader.limited(entries.get("triggerTargetArn"), f"{path}.triggerTargetArn", 2048),
                "triggerEvents": [reader.word(each, at, TRIGGER_EVENTS) for at, each in events],
            }
        )
    if found:
        reader.notes.append(f"{where} has no effect here: webhooks and subscriptions tell of deployments")
    return found


def _services(reader: StrictReader, node: yaml.Node, where: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    numbers = {"desiredCount": (1, 100), "healthCheckGracePeriodSeconds": (1, 7200)}
    for path, item in reader.listed(node, where, 1):
        entries = reader.fields(item, path, {"serviceName", "clusterName", *numbers})
        names = (key for key in sorted(entries) if key not in numbers)
        found.append({key: reader.name(entries[key], f"{path}.{key}") for key in names})
        for key, limits in numbers.items():
            number = reader.whole(entries.get(key), f"{path}.{key}", limits)
            if number is not None:
                found[-1][key] = number
        if "serviceName" not in entries:
            reader.fault(item, f"{path}: serviceName is missing")
    return found


def _check_together(reader: StrictReader, root: yaml.Node, document: Mapping[str, Any]) -> None:
    style = document.get("deploymentStyle", {})
    has_pools = any(document.get("loadBalancerInfo", {}).values())
    if style.get("deploymentOption") == "WITH_TRAFFIC_CONTROL" and not has_pools:
        reader.fault(root, "deploymentStyle is WITH_TRAFFIC_CONTROL, and loadBalancerInfo names no pool")
    is_blue_green = style.get("deploymentType") == "BLUE_GREEN"
    if is_blue_green and "blueGreenDeploymentConfiguration" not in document:
        reader.fault(root, "deploymentType is BLUE_GREEN, and blueGreenDeploymentConfiguration is missing")
    if not is_blue_green and "blueGreenDeploymentConfiguration" in document:
        reader.fault(root, "blueGreenDeploymentConfiguration is for the deploymentType BLUE_GREEN")
