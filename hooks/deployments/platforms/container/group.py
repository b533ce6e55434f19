"""A deployment group of the platform: its host, its service, the pools and listeners of its router, its hooks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hooks.deployments.health.checks import CommandCheck, HttpCheck, TcpCheck, checks_of

MAX_HOOK_SECONDS = 3600
MAX_CONTAINERS = 100
COLOURS = ("blue", "green")
_SERVERS_OWN = ("ec2TagFilters", "onPremisesInstanceTagFilters", "ec2TagSet", "onPremisesTagSet", "targets", "link")
_OWN_URLS = ("http://{host}:{port}/", "https://{host}:{port}/")
_HOOK_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class HookCommand:
    """What a hook's name in an appspec stands for: a command in a container of the new image."""

    command: tuple[str, ...]
    timeout_seconds: int = MAX_HOOK_SECONDS


@dataclass(frozen=True, slots=True)
class HookWebhook:
    """What a hook's name in an appspec stands for: a webhook of this server, by its number, whose receiver answers."""

    webhook: int
    timeout_seconds: int = MAX_HOOK_SECONDS


@dataclass(frozen=True, slots=True)
class ServiceGroup:
    """A group as the platform works with it.

    ``pools`` are blue's and green's, in the router called ``router``, which has the ``listener`` of production and
    perhaps one for tests (""). ``count`` is how many containers a task set has. ``grace_seconds`` 0: the usual time.
    """

    host: str
    service: str
    router: str
    pools: tuple[str, str]
    listener: str
    test_listener: str = ""
    count: int = 1
    grace_seconds: int = 0
    hooks: Mapping[str, HookCommand | HookWebhook] = field(default_factory=dict)
    checks: tuple[HttpCheck | TcpCheck, ...] = ()

    def hook(self, name: str) -> HookCommand | HookWebhook | None:
        """What a hook's name stands for; of a function's ARN, its last part is enough."""
        return self.hooks.get(name) or self.hooks.get(name.rpartition(":")[2])


def read_group(document: Mapping[str, Any]) -> tuple[ServiceGroup | None, tuple[str, ...]]:
    """A group and no faults, or None and all of them."""
    faults = list(_misplaced(document))
    services = document.get("ecsServices") or []
    if len(services) != 1 or not services[0].get("serviceName"):
        faults.append("ecsServices: one service with its serviceName is missing")
    service = services[0] if services else {}
    host = document.get("containerHost") or service.get("clusterName")
    if not host:
        faults.append("containerHost is missing: which of the server's container hosts runs the service?")
    pairs = (document.get("loadBalancerInfo") or {}).get("targetGroupPairInfoList") or []
    if len(pairs) != 1:
        faults.append("loadBalancerInfo.targetGroupPairInfoList: one pair of pools, for blue and green, is missing")
    pair = pairs[0] if pairs else {}
    router, pools = _pools(pair, faults)
    count = _whole(service.get("desiredCount", 1), "ecsServices.desiredCount", 1, MAX_CONTAINERS, faults)
    grace = service.get("healthCheckGracePeriodSeconds", 0)
    group = ServiceGroup(
        host=str(host),
        service=str(service.get("serviceName", "")),
        router=router,
        pools=pools,
        listener=_listener(pair, "prodTrafficRoute", router, faults, is_needed=bool(pair)),
        test_listener=_listener(pair, "testTrafficRoute", router, faults),
        count=count,
        grace_seconds=_whole(grace, "ecsServices.healthCheckGracePeriodSeconds", 0, 7200, faults),
        hooks=_hooks(document.get("hooks"), faults),
        checks=_checks(document.get("healthChecks"), faults),
    )
    return (None if faults else group), tuple(faults)


def _misplaced(document: Mapping[str, Any]) -> list[str]:
    faults = [
        f"{name} is for servers; a service runs on its containerHost" for name in _SERVERS_OWN if document.get(name)
    ]
    style = document.get("deploymentStyle") or {}
    if style and (style.get("deploymentType"), style.get("deploymentOption")) != ("BLUE_GREEN", "WITH_TRAFFIC_CONTROL"):
        faults.append("deploymentStyle is BLUE_GREEN and WITH_TRAFFIC_CONTROL, or left out")
    blue_green = document.get("blueGreenDeploymentConfiguration") or {}
    if (blue_green.get("terminateBlueInstancesOnDeploymentSuccess") or {}).get("action") == "KEEP_ALIVE":
        faults.append("terminateBlueInstancesOnDeploymentSuccess: the original task set is ended; let it wait for long")
    if blue_green.get("greenFleetProvisioningOption"):
        faults.append("greenFleetProvisioningOption is for servers; a new task set is made of the revision")
    return faults


def _pools(pair: Mapping[str, Any], faults: list[str]) -> tuple[str, tuple[str, str]]:
    names = [str(each.get("name", "")).partition("/") for each in pair.get("targetGroups") or ()]
    if not pair:
        return "", ("", "")
    if len(names) != 2 or not all(router and pool for router, _, pool in names) or names[0] == names[1]:
        faults.append("targetGroups: two different pools as ROUTER/pool, for blue and green")
        return "", ("", "")
    if names[0][0] != names[1][0]:
        faults.append("targetGroups: both pools are of one router, whose listener shares its requests out between them")
    return names[0][0], (names[0][2], names[1][2])


def _listener(pair: Mapping[str, Any], key: str, router: str, faults: list[str], *, is_needed: bool = False) -> str:
    names = (pair.get(key) or {}).get("listenerArns") or []
    if not names:
        if is_needed:
            faults.append(f"{key}.listenerArns: the listener of the service is missing, as ROUTER/listener")
        return ""
    of, _, listener = str(names[0]).partition("/")
    if len(names) != 1 or not of or not listener or (router and of != router):
        faults.append(f"{key}.listenerArns: one listener of the pools' router, as {router or 'ROUTER'}/listener")
    return listener


def _hooks(document: object, faults: list[str]) -> dict[str, HookCommand | HookWebhook]:
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        faults.append("hooks has to be a mapping: name of a hook → command or webhook")
        return {}
    found: dict[str, HookCommand | HookWebhook] = {}
    for name, given in document.items():
        where = f"hooks.{str(name)[:80]}"
        if not _HOOK_NAME.match(str(name)):
            faults.append(f"{where!r} is not a hook's name")
        what = set(given) - {"timeoutSeconds"} if isinstance(given, Mapping) else set()
        if not isinstance(given, Mapping) or what not in ({"command"}, {"webhook"}):
            faults.append(f"{where} has a command or a webhook, and perhaps timeoutSeconds, nothing else")
            continue
        seconds = _number(given.get("timeoutSeconds", MAX_HOOK_SECONDS))
        timeout = _whole(seconds, f"{where}.timeoutSeconds", 1, MAX_HOOK_SECONDS, faults)
        if "webhook" in given:
            webhook = _whole(given["webhook"], f"{where}.webhook", 1, 2**31 - 1, faults)
            found[str(name)] = HookWebhook(webhook, timeout)
            continue
        command = given["command"]
        if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
            faults.append(f"{where}.command has to be a list: a program and its arguments")
            continue
        found[str(name)] = HookCommand(tuple(command), timeout)
    return found


def _checks(document: object, faults: list[str]) -> tuple[HttpCheck | TcpCheck, ...]:
    found: list[HttpCheck | TcpCheck] = []
    for check in checks_of([] if document is None else document, faults):
        if isinstance(check, CommandCheck):
            faults.append(f"healthChecks: {check.name} is a COMMAND; of a container that is its task's healthCheck")
        # A container's address is one that the server may ask (loopback, mostly); what else is there is not the group's.
        elif isinstance(check, HttpCheck) and not f"{check.url}/".startswith(_OWN_URLS):
            faults.append(f"healthChecks: {check.name} has to ask the container itself, at http://{{host}}:{{port}}/…")
        elif isinstance(check, TcpCheck) and (check.host, check.port) != ("{host}", "{port}"):
            faults.append(f"healthChecks: {check.name} has to ask the container itself, at {{host}}:{{port}}")
        else:
            found.append(check)
    return tuple(found)


def _number(value: object) -> object:
    """Documents that keep scalars as they were written have numbers as texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


def _whole(value: object, where: str, least: int, most: int, faults: list[str]) -> int:
    found = _number(value)
    if isinstance(found, int) and not isinstance(found, bool) and least <= found <= most:
        return found
    faults.append(f"{where} has to be a whole number, {least} to {most}")
    return least
