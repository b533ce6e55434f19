"""The platform ``ECS``: services in containers, deployed blue/green as ECS does it, on hosts with the Docker API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hooks.deployments.appspec_services import ServiceSpec, parse_service_spec
from hooks.deployments.outcomes import ErrorCode, EventFailed, EventResult, EventStatus
from hooks.deployments.phases import MONITOR_HEALTH, TERMINATE, bake_minutes
from hooks.deployments.platform import (
    Actor,
    DeploymentFacts,
    EventPlan,
    Later,
    PlatformUnavailable,
    Remains,
    TargetPlan,
)
from hooks.deployments.platforms.container import shifting
from hooks.deployments.platforms.container.group import ServiceGroup, read_group
from hooks.deployments.platforms.container.hook_runs import run_hook
from hooks.deployments.platforms.container.host import ContainerHost, HostRefused
from hooks.deployments.platforms.container.routes import Routes
from hooks.deployments.platforms.container.settings import HostSettings, Pace
from hooks.deployments.platforms.container.work import Ask, Work
from hooks.deployments.task_definition import TaskDefinition, read_task_definition
from hooks.deployments.traffic.router import RoutingError, TrafficRouter
from registry.clock import Clock
from registry.errors import InvalidDocument

_BEFORE_TEST = ("BeforeInstall", "Install", "AfterInstall")
_TEST = ("AllowTestTraffic", "AfterAllowTestTraffic")
_AFTER_TEST = ("BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic")
_PAUSE_SECONDS = 1.0


class ContainerPlatform:
    """Implements ``hooks.deployments.platform.DeploymentPlatform``.

    ``ask`` asks ``healthChecks`` of a group; ``routers`` and ``hosts`` are those of the server's settings, by name.
    """

    name = "ECS"

    def __init__(
        self,
        hosts: Mapping[str, HostSettings],
        routers: Mapping[str, TrafficRouter],
        *,
        clock: Clock,
        ask: Ask,
        pace: Pace | None = None,
    ) -> None:
        """Touches nothing yet."""
        self._settings = hosts
        self._routers = routers
        self._clock = clock
        self._ask = ask
        self._pace = pace or Pace()
        self._hosts: dict[str, ContainerHost] = {}
        self._lock = threading.Lock()

    def check_group(self, document: Mapping[str, Any]) -> Sequence[str]:
        """As the contract says."""
        group, faults = read_group(document)
        if group is None:
            return faults
        return list(self._unknown(group))

    def _unknown(self, group: ServiceGroup) -> Sequence[str]:
        found = []
        if group.host not in self._settings:
            found.append(f"there is no container host {group.host!r} in the server's settings")
        if group.router not in self._routers:
            found.append(f"there is no router {group.router!r} in the server's settings")
        return found

    def check_revision(self, revision: Mapping[str, Any]) -> Sequence[str]:
        """As the contract says."""
        return _read_revision(revision)[1]

    def find_targets(self, session: Session, about: DeploymentFacts) -> Sequence[TargetPlan]:
        """The one service of the group."""
        _ = session
        group, _faults = read_group(about.group)
        if group is None:
            return []
        return [TargetPlan(group.service, details={"host": group.host, "service": group.service})]

    def events(self, about: DeploymentFacts, target: TargetPlan) -> Sequence[EventPlan]:
        """ECS's, and at the end that of the original's termination. All are the engine's: there is no agent."""
        _ = target
        group, _faults = read_group(about.group)
        test = _TEST if group is not None and group.test_listener else ()
        bakes = bake_minutes(about.group, about.options, is_blue_green=True, is_rollback=about.is_rollback)
        watched = (MONITOR_HEALTH,) if bakes and not about.is_rollback else ()
        names = (*_BEFORE_TEST, *test, *_AFTER_TEST, *watched, TERMINATE)
        return [EventPlan(name, Actor.ENGINE) for name in names]

    def carry_out(
        self, about: DeploymentFacts, target: TargetPlan, event: str, is_stopped: Callable[[], bool]
    ) -> EventResult | Later:
        """As the contract says."""
        if is_stopped():
            return Later(_PAUSE_SECONDS, target.details)
        try:
            work = self._work(about, target, event)
            return _carry_out(work)
        except EventFailed as error:
            return EventResult(event, EventStatus.FAILED, error.code, str(error))
        except HostRefused as error:
            return EventResult(event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, str(error))
        except RoutingError as error:
            if error.may_pass:
                raise PlatformUnavailable(str(error)) from error
            return EventResult(event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, str(error))

    def undo(self, about: DeploymentFacts, target: TargetPlan) -> Later | Remains | None:
        """Give the original its requests back, and end the new task set."""
        try:
            return shifting.go_back(self._work(about, target, "undo"))
        except (EventFailed, HostRefused, RoutingError) as error:
            raise PlatformUnavailable(str(error)) from error

    def _work(self, about: DeploymentFacts, target: TargetPlan, event: str) -> Work:
        group, faults = read_group(about.group)
        if group is None or self._unknown(group):
            told = faults or self._unknown(group) if group else faults
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, "; ".join(told))
        read, faults = _read_revision(about.revision)
        if read is None:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, "; ".join(faults))
        spec, task = read
        host = self._host(group.host)
        return Work(
            about=about,
            target=target,
            event=event,
            group=group,
            spec=spec,
            task=task,
            host=host,
            routes=Routes(self._routers[group.router], group, host.settings),
            pace=self._pace,
            now=self._clock(),
            ask=self._ask,
        )

    def _host(self, name: str) -> ContainerHost:
        with self._lock:
            return self._hosts.setdefault(name, ContainerHost(name, self._settings[name]))


def _carry_out(work: Work) -> EventResult | Later:
    match work.event:
        case "Install":
            return work.install()
        case "AllowTestTraffic":
            return shifting.allow_test_traffic(work)
        case "AllowTraffic":
            return shifting.allow_traffic(work)
        case event if event == MONITOR_HEALTH:
            return shifting.monitor(work)
        case event if event == TERMINATE:
            return shifting.terminate_original(work)
        case "BeforeInstall":
            why = work.preflight()
            return work.failed(why) if why else run_hook(work)
        case _:
            return run_hook(work)


def _read_revision(revision: Mapping[str, Any]) -> tuple[tuple[ServiceSpec, TaskDefinition] | None, tuple[str, ...]]:
    """What a revision holds and no faults, or None and all of them."""
    kind = revision.get("revisionType")
    if kind not in {"AppSpecContent", "String"}:
        return None, (f"revisionType {kind!r}: a service is deployed of AppSpecContent and a taskDefinition",)
    given = revision.get("appSpecContent") or {}
    content = given.get("content")
    if not isinstance(content, str):
        return None, ("appSpecContent.content is missing",)
    try:
        spec = parse_service_spec(content)
    except InvalidDocument as error:
        return None, (str(error),)
    if given.get("taskDefinition") is None:
        return None, ("appSpecContent.taskDefinition is missing: a revision holds its task definition's document",)
    task, faults = read_task_definition(given["taskDefinition"])
    if task is None:
        return None, faults
    faults = tuple(_contradictions(spec, task))
    return (None if faults else (spec, task)), faults


def _contradictions(spec: ServiceSpec, task: TaskDefinition) -> Sequence[str]:
    found = []
    if spec.family and spec.family != task.family:
        found.append(f"the appspec names the task definition {spec.family}; the revision's is {task.family}")
    if spec.container_name != task.container.name:
        found.append(
            f"ContainerName is {spec.container_name}; the task definition's container is {task.container.name}"
        )
    if spec.container_port not in task.container.ports:
        found.append(f"ContainerPort {spec.container_port} is none of the container's portMappings")
    return found
