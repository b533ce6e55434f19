"""A platform without machines: its targets are said in the group's document. For trying the engine, and its tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from hooks.deployments.hook_calls import HOOK_SECONDS, ask
from hooks.deployments.lifecycle import ENGINE_EVENTS
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.phases import MONITOR_HEALTH, TERMINATE, bake_minutes, course_of
from hooks.deployments.platform import (
    Actor,
    AgentsPart,
    DeploymentFacts,
    EventPlan,
    Later,
    PlatformUnavailable,
    Remains,
    TargetPlan,
)

KEY = "dummyTargets"
EVENTS = "dummyEvents"
HOOKS = "dummyHooks"
_LOOK_SECONDS = 5.0


@dataclass
class DummyPlatform:
    """``dummyTargets`` of a group: names, or ``{"name", "fleet", "zone", "agent"}``. ``dummyEvents``: only these of the course.

    ``dummyHooks``: by event the number of a webhook that carries its hook out.
    Events of targets with an ``agent`` are the agent's, except for traffic's; all others are the engine's, and end as
    ``outcomes`` says: by (target, event) a list of what its calls return or raise, one after the other; then they
    succeed. What bakes is watched where the group has ``healthChecks``, and well. ``done`` are the calls, as (target,
    event), in their order; an undo's event is called ``undo``.
    """

    name: str = "Server"
    outcomes: dict[tuple[str, str], list[EventResult | Later | AgentsPart | Remains | PlatformUnavailable]] = field(
        default_factory=dict
    )
    done: list[tuple[str, str]] = field(default_factory=list)
    clock: Callable[[], float] = time.time

    def check_group(self, document: Mapping[str, Any]) -> Sequence[str]:
        """Targets are asked for."""
        return [] if isinstance(document.get(KEY), list) else [f"{KEY} has to be a list of targets"]

    def check_revision(self, revision: Mapping[str, Any]) -> Sequence[str]:
        """Whatever has a type will do."""
        return [] if revision.get("revisionType") else ["revisionType is missing"]

    def find_targets(self, session: Session, about: DeploymentFacts) -> Sequence[TargetPlan]:
        """Those of the document."""
        _ = session
        return [_target_of(each) for each in about.group.get(KEY) or []]

    def events(self, about: DeploymentFacts, target: TargetPlan) -> Sequence[EventPlan]:
        """Those of the target's course; an original is let go at the end."""
        course = course_of(
            target.fleet, is_balanced=bool(about.group.get("loadBalancerInfo")), is_rollback=about.is_rollback
        )
        only = about.group.get(EVENTS) or course.events
        names = [name for name in course.events if name in only]
        plans = [EventPlan(name, _actor_of(name, target)) for name in names]
        if _is_watched(about, target):
            plans.append(EventPlan(MONITOR_HEALTH, Actor.ENGINE))
        if target.fleet == "Blue" and not about.is_rollback:
            plans.append(EventPlan(TERMINATE, Actor.ENGINE))
        return plans

    def carry_out(
        self, about: DeploymentFacts, target: TargetPlan, event: str, is_stopped: Callable[[], bool]
    ) -> EventResult | Later | AgentsPart:
        """What ``outcomes`` says."""
        _ = is_stopped
        webhook = (about.group.get(HOOKS) or {}).get(event)
        if webhook is not None:
            return ask(about, target, event, hook=event, webhook=webhook, seconds=HOOK_SECONDS, now=self.clock())
        answer = self._answer(target.name, event)
        if answer is None and event == MONITOR_HEALTH:
            return Later(_LOOK_SECONDS)
        return EventResult(event, EventStatus.SUCCEEDED) if answer is None or isinstance(answer, Remains) else answer

    def undo(self, about: DeploymentFacts, target: TargetPlan) -> Later | Remains | None:
        """What ``outcomes`` says of ``undo``."""
        _ = about
        answer = self._answer(target.name, "undo")
        return answer if isinstance(answer, Later | Remains) else None

    def _answer(self, target: str, event: str) -> EventResult | Later | AgentsPart | Remains | None:
        self.done.append((target, event))
        left = self.outcomes.get((target, event))
        answer = left.pop(0) if left else None
        if isinstance(answer, PlatformUnavailable):
            raise answer
        return answer


def failed(event: str, message: str = "it was told to fail") -> EventResult:
    """An event that ran and failed, for ``outcomes``."""
    return EventResult(event, EventStatus.FAILED, ErrorCode.SCRIPT_FAILED, message)


def _is_watched(about: DeploymentFacts, target: TargetPlan) -> bool:
    bakes = bake_minutes(about.group, about.options, is_blue_green=target.fleet != "", is_rollback=about.is_rollback)
    return bool(about.group.get("healthChecks") and bakes and target.fleet != "Blue" and not about.is_rollback)


def _target_of(each: str | Mapping[str, Any]) -> TargetPlan:
    if isinstance(each, str):
        return TargetPlan(each)
    return TargetPlan(each["name"], each.get("agent"), each.get("fleet", ""), each.get("zone", ""))


def _actor_of(event: str, target: TargetPlan) -> Actor:
    is_traffic = event in ENGINE_EVENTS and event.endswith("Traffic")
    return Actor.AGENT if target.agent_id is not None and not is_traffic else Actor.ENGINE
