"""What the lifecycle events of one deployment do on its host and its router, each from wherever a call before it got to.

Nothing is remembered but by labels on the host, shares in the router, and times in the target's details.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from hooks.deployments.appspec_services import ServiceSpec
from hooks.deployments.health.checks import HttpCheck, TcpCheck
from hooks.deployments.health.probing import Answer
from hooks.deployments.outcomes import ErrorCode, EventFailed, EventResult, EventStatus
from hooks.deployments.platform import DeploymentFacts, Later, TargetPlan
from hooks.deployments.platforms.container.group import ServiceGroup
from hooks.deployments.platforms.container.host import Container, ContainerHost, HostRefused, PortTaken
from hooks.deployments.platforms.container.routes import Routes
from hooks.deployments.platforms.container.sets import (
    COLOUR,
    COUNT,
    ORIGINAL,
    PORT,
    REVISION,
    SLOT,
    TASK,
    TaskSet,
    common_labels,
    free_port,
    limits_of,
    options_of,
    other,
    revision_of,
    task_sets,
    too_much,
)
from hooks.deployments.platforms.container.settings import Pace
from hooks.deployments.task_definition import TaskDefinition

Ask = Callable[[HttpCheck | TcpCheck, str, int], Answer]
"""A check, asked of an address and a port."""

_PORT_TRIES = 5
_DIAL_SECONDS = 2.0
_NEW = frozenset({"created", "configured", "initialized"})


@dataclass
class Work:
    """A deployment as it is worked on in one call of an event."""

    about: DeploymentFacts
    target: TargetPlan
    event: str
    group: ServiceGroup
    spec: ServiceSpec
    task: TaskDefinition
    host: ContainerHost
    routes: Routes
    pace: Pace
    now: datetime
    ask: Ask

    # --- how an event goes on and ends

    @property
    def seconds(self) -> float:
        """The time, as it is kept in details."""
        return self.now.timestamp()

    @cached_property
    def progress(self) -> Mapping[str, Any]:
        """What an earlier call of this event has kept."""
        kept: Mapping[str, Any] = self.target.details.get("progress") or {}
        return kept if kept.get("event") == self.event else {}

    def later(self, seconds: float, message: str = "", **progress: Any) -> Later:
        """Go on with what has been reached."""
        kept = {**self.progress, **progress, "event": self.event}
        return Later(seconds, {**self.target.details, "progress": kept}, message)

    def done(self, message: str = "") -> EventResult:
        """The event has succeeded."""
        return EventResult(self.event, EventStatus.SUCCEEDED, message=message)

    def failed(self, message: str, code: ErrorCode = ErrorCode.UNKNOWN_ERROR, log: str = "") -> EventResult:
        """The event has failed."""
        return EventResult(self.event, EventStatus.FAILED, code, message, log=log)

    # --- task sets

    def sets(self) -> dict[str, TaskSet]:
        """All that the group has on the host now."""
        return dict(task_sets(self.host, self.about.group_id))

    def own(self, sets: Mapping[str, TaskSet]) -> TaskSet | None:
        """The deployment's set: the one it has made, or, going back to what is there still, that one."""
        made = sets.get(self.about.deployment_id)
        if made is not None or not self.about.is_rollback:
            return made
        wanted = revision_of(self.about.revision)
        same = [found for found in sets.values() if found.revision == wanted and found.is_whole]
        return max(same, key=lambda found: found.created, default=None)

    def needed(self) -> TaskSet:
        """The deployment's set, all of it. Raises EventFailed when it is gone."""
        own = self.own(self.sets())
        if own is None or not own.is_whole:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, "containers of the new task set are gone from the host")
        return own

    def is_taken_again(self, own: TaskSet | None) -> bool:
        """Whether the set is an earlier deployment's, which this one goes back to."""
        return own is not None and own.deployment != self.about.deployment_id

    # --- Install

    def install(self) -> EventResult | Later:
        """Make the task set beside the one that serves, start it, and wait until it is healthy."""
        own = self.own(self.sets())
        if own is not None and self.is_taken_again(own) and not self.unhealthy(own)[0]:
            return self.done(f"the task set of {own.deployment} is there still, and is taken again")
        self._complete()
        own = self.needed()
        until = self.progress.get("until", self.seconds + self._grace())
        why, broken = self.unhealthy(own)
        if not why:
            return self.done(f"{_counted(own.count)} healthy")
        if broken is not None or self.seconds >= until:
            log = self.host.log((broken or own.containers[0]).id)
            return self.failed(why, ErrorCode.SCRIPT_FAILED, log)
        return self.later(self.pace.poll, f"waits for the new task set: {why}", until=until)

    def _grace(self) -> float:
        check = self.task.container.health
        least = check.start_period + check.retries * (check.interval + check.timeout) if check else 0
        return float(self.group.grace_seconds or max(least, self.pace.grace))

    def image(self) -> str:
        """The image's identifier on the host. Raises HostRefused."""
        name = self.task.container.image
        found = self.host.image(name)
        if found is None and self.host.settings.pulls and not name.startswith("sha256:"):
            self.host.pull(name)
            found = self.host.image(name)
        if found is None:
            pulls = self.host.settings.pulls
            why = "" if pulls else " and none is pulled there (deployments.container_hosts: pulls)"
            raise HostRefused(f"image {name} is not on the container host {self.host.name}{why}")
        return found

    def _complete(self) -> None:
        """Have all containers of the set there and started, whichever of them a call before has made."""
        sets = self.sets()
        own = sets.pop(self.about.deployment_id, None)
        if own is None:
            serving = self.routes.serving(list(sets.values()))
            colour = other(serving.colour) if serving else self.routes.leading()
            original = serving.deployment if serving else ""
        else:
            colour, original = own.colour, own.original
        image = ""
        for slot in range(self.group.count):
            container = own.slots.get(slot) if own else None
            if container is None:
                image = image or self.image()
                self._launch(slot, image, {COLOUR: colour, ORIGINAL: original})
            elif container.state in _NEW:
                self._start(container)

    def _launch(self, slot: int, image: str, labels: Mapping[str, str]) -> None:
        plan, settings = self.task.container, self.host.settings
        taken: set[int] = set()
        for _ in range(_PORT_TRIES):
            port = free_port(self.host, taken)
            if port is None:
                break
            bound = {f"{self.spec.container_port}/tcp": (settings.publish_address, port)}
            made = self.host.create(
                f"entrepot-{self.about.deployment_id}-{slot}",
                image,
                {**limits_of(plan, settings), "port_bindings": bound, "restart_policy": {"Name": "always"}},
                ports=[self.spec.container_port],
                stop_timeout=plan.stop_seconds,
                labels={
                    **plan.labels,
                    **common_labels(self.about, self.group, TASK),
                    **labels,
                    SLOT: str(slot),
                    COUNT: str(self.group.count),
                    PORT: str(port),
                    REVISION: revision_of(self.about.revision),
                },
                **options_of(plan),
            )
            try:
                self.host.start(made)
            except PortTaken:
                self.host.remove(made)
                taken.add(port)
            else:
                return
        raise HostRefused(f"{settings.publish_address} has no port free for {self.group.service}")

    def _start(self, container: Container) -> None:
        try:
            self.host.start(container.id)
        except PortTaken:
            self.host.remove(container.id)  # it is made again, at another port
            raise

    # --- health

    def unhealthy(self, found: TaskSet) -> tuple[str, Container | None]:
        """Why a set is not well ("" when it is), and the container that has ended too often to become so."""
        for slot, container in sorted(found.slots.items()):
            state = self.host.state(container.id)
            if state.restarts > self.pace.tolerated_restarts:
                memory = ", at last without memory" if state.is_out_of_memory else ""
                # One that runs again just now has no exit code.
                code = "" if state.is_running else f", at last with exit code {state.exit_code}"
                told = f"container {slot} ends by itself, {state.restarts} times by now"
                return told + code + memory, container
            if not state.is_running:
                return f"container {slot} does not run (exit code {state.exit_code})", None
            why = self._unwell(container)
            if why:
                return f"container {slot}: {why}", None
        return "", None

    def _unwell(self, container: Container) -> str:
        check, address, port = self.task.container.health, self.host.settings.address, int(container.labels[PORT])
        if check is not None:
            try:
                code = self.host.run_inside(container.id, check.command, check.timeout)
            except HostRefused as error:  # it has just ended, or has no such program
                return str(error)
            if code != 0:
                ending = f"ends with {code}" if code is not None else f"takes longer than {check.timeout} s"
                return f"its health check {ending}"
        for asked in self.group.checks:
            answer = self.ask(asked, address, port)
            if not answer.passed:
                return f"check {asked.name}: {answer.detail}"
        if check is not None or self.group.checks:
            return ""
        try:
            socket.create_connection((address, port), timeout=_DIAL_SECONDS).close()
        except OSError as error:
            return f"nobody answers at {address}:{port} ({error.strerror or error})"
        return ""

    def preflight(self) -> str:
        """What would make a later event fail for certain; "" when nothing does."""
        for event, name in self.spec.hooks.items():
            if self.group.hook(name) is None:
                return f"the hook of {event}, {name}, is none of the group's hooks"
        if "AfterAllowTestTraffic" in self.spec.hooks and not self.group.test_listener:
            return "there is a hook for AfterAllowTestTraffic, and the group has no testTrafficRoute"
        return too_much(self.task.container, self.group, self.host.settings)


def _counted(count: int) -> str:
    return "1 container is" if count == 1 else f"{count} containers are"
