"""How far a deployment is, and which lifecycle events may begin then. Pure.

In place there is the one phase ``DEPLOY``. Blue/green: the replacements are made ready (``DEPLOY``), perhaps somebody is
waited for (``READY_WAIT``), the replacements get the traffic (``REROUTE``), the originals lose it (``DRAIN``), perhaps
that is watched for a time (``BAKE``), and the originals are let go (``TERMINATE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from hooks.deployments.lifecycle import Course

TERMINATE = "TerminateOriginal"
"""The engine's event that lets an original go for good: the last one of what has an original beside its replacement."""
MONITOR_HEALTH = "MonitorHealth"
"""The event of a target that serves, for as long as the deployment bakes: its health checks, again and again."""
_REROUTING = frozenset({"BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"})


class Phase(StrEnum):
    """Where a deployment stands; ``NEW`` before it has begun."""

    NEW = ""
    DEPLOY = "Deploy"
    READY_WAIT = "ReadyWait"
    REROUTE = "Reroute"
    DRAIN = "Drain"
    BAKE = "Bake"
    TERMINATE = "Terminate"

    @property
    def has_rerouted(self) -> bool:
        """Whether all traffic has changed sides."""
        return self in {Phase.BAKE, Phase.TERMINATE}


def opens(phase: Phase, event: str, fleet: str, *, is_blue_green: bool) -> bool:
    """Whether an event of a target of ``fleet`` may begin in a phase; in place everything may but what is for later."""
    if event == MONITOR_HEALTH:
        return phase is Phase.BAKE
    if not is_blue_green:
        return True
    if event == TERMINATE:
        return phase is Phase.TERMINATE
    if event in _REROUTING:
        return phase in {Phase.REROUTE, Phase.DRAIN, Phase.BAKE, Phase.TERMINATE}
    _ = fleet
    return True


def course_of(fleet: str, *, is_balanced: bool, is_rollback: bool) -> Course:
    """The course of a machine: in place without a fleet, else that of its side."""
    match fleet, is_rollback:
        case "", _:
            return Course.IN_PLACE_BALANCED if is_balanced else Course.IN_PLACE
        case "Blue", False:
            return Course.BLUE_GREEN_ORIGINAL
        case "Blue", True:
            return Course.BLUE_GREEN_ROLLBACK_ORIGINAL
        case _, False:
            return Course.BLUE_GREEN_REPLACEMENT
        case _:
            return Course.BLUE_GREEN_ROLLBACK_REPLACEMENT


def ready_wait_minutes(group: Mapping[str, Any]) -> int | None:
    """How long somebody is waited for before traffic changes sides; None: it does at once."""
    option = (group.get("blueGreenDeploymentConfiguration") or {}).get("deploymentReadyOption") or {}
    if option.get("actionOnTimeout") != "STOP_DEPLOYMENT":
        return None
    return int(option.get("waitTimeInMinutes") or 0)


def termination_wait_minutes(group: Mapping[str, Any]) -> int | None:
    """How long the originals are kept after a success; None: for ever (``KEEP_ALIVE``)."""
    blue_green = group.get("blueGreenDeploymentConfiguration") or {}
    option = blue_green.get("terminateBlueInstancesOnDeploymentSuccess") or {}
    if option.get("action", "TERMINATE") != "TERMINATE":
        return None
    return int(option.get("terminationWaitTimeInMinutes") or 0)


def bake_minutes(
    group: Mapping[str, Any], options: Mapping[str, Any], *, is_blue_green: bool, is_rollback: bool
) -> int:
    """How long a deployment is watched after the last target has its traffic: its bake time, or until originals go."""
    asked = int(options.get("bakeTimeInMinutes", group.get("bakeTimeInMinutes")) or 0)
    keeps_originals = is_blue_green and not is_rollback
    return max(asked, (termination_wait_minutes(group) or 0) if keeps_originals else 0)
