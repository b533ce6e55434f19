"""What a group's document comes to for one deployment: defaults filled in, the start's own options over it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.deployments.documents.tags import Selection


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """A group as the engine works with it.

    ``machines`` are the group's own, ``replacements`` those of blue/green, ``chosen`` and ``names`` what the start has
    narrowed them to (None: all). ``pools`` are ``ROUTER/pool``, ``pairs`` of them blue and green. Waits are in minutes;
    ``ready_wait_minutes`` None: traffic is rerouted at once; ``stops_unless_continued``: after it the deployment is
    stopped rather than rerouted. ``rollback_events`` are CodeDeploy's words, none where rolling back is not wanted.
    ``alarms`` are their documents, none where they are not enabled.
    """

    machines: Selection
    replacements: Selection
    chosen: Selection | None
    names: frozenset[str] | None
    is_blue_green: bool
    controls_traffic: bool
    pools: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    ready_wait_minutes: int | None
    stops_unless_continued: bool
    terminates_blue: bool
    termination_wait_minutes: int
    alarms: tuple[Mapping[str, Any], ...]
    ignores_poll_alarm_failure: bool
    rollback_events: frozenset[str]
    updates_outdated: bool
    link: str
    appspec_filename: str
    max_concurrent: int | None
    bake_minutes: int
    is_guided: bool
    health_checks: Any

    @staticmethod
    def of(document: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> GroupSettings:
        """From a group's checked document and a deployment's options."""
        given = options or {}
        style = document.get("deploymentStyle", {})
        balancer = document.get("loadBalancerInfo", {})
        blue_green = document.get("blueGreenDeploymentConfiguration", {})
        ready = blue_green.get("deploymentReadyOption", {})
        blue = blue_green.get("terminateBlueInstancesOnDeploymentSuccess", {})
        alarms = given.get("overrideAlarmConfiguration") or document.get("alarmConfiguration", {})
        rollback = given.get("autoRollbackConfiguration") or document.get("autoRollbackConfiguration", {})
        chosen = given.get("targetInstances")
        stops = ready.get("actionOnTimeout") == "STOP_DEPLOYMENT"
        return GroupSettings(
            machines=Selection.of(document),
            replacements=Selection.of(blue_green.get("greenFleetProvisioningOption", {})),
            chosen=Selection.of(chosen) if chosen else None,
            names=frozenset(given["targets"]) if given.get("targets") else None,
            is_blue_green=style.get("deploymentType") == "BLUE_GREEN",
            controls_traffic=style.get("deploymentOption") == "WITH_TRAFFIC_CONTROL",
            pools=tuple(each["name"] for each in balancer.get("targetGroupInfoList", ())),
            pairs=tuple(_pair(each["targetGroups"]) for each in balancer.get("targetGroupPairInfoList", ())),
            ready_wait_minutes=ready.get("waitTimeInMinutes", 0) if stops else None,
            stops_unless_continued=stops,
            terminates_blue=blue.get("action", "TERMINATE") == "TERMINATE",
            termination_wait_minutes=blue.get("terminationWaitTimeInMinutes", 0),
            alarms=tuple(alarms.get("alarms", ())) if alarms.get("enabled") else (),
            ignores_poll_alarm_failure=bool(alarms.get("ignorePollAlarmFailure")),
            rollback_events=frozenset(rollback.get("events", ())) if rollback.get("enabled") else frozenset(),
            updates_outdated=document.get("outdatedInstancesStrategy", "UPDATE") == "UPDATE",
            link=document.get("link", ""),
            appspec_filename=document.get("appSpecFilename", "appspec.yml"),
            max_concurrent=given.get("maxConcurrent", document.get("maxConcurrent")),
            bake_minutes=given.get("bakeTimeInMinutes", document.get("bakeTimeInMinutes", 0)),
            is_guided=bool(given.get("guidedFailure", document.get("guidedFailure", False))),
            health_checks=document.get("healthChecks"),
        )


def _pair(groups: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    return groups[0]["name"], groups[1]["name"]
