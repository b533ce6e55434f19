"""Which targets a deployment lets go next, or how it ends (CodeDeploy "Working with deployment configurations"). Pure.

The same view always gives the same step, so that asking again after a crash, or twice, is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from hooks.deployments.request import ONE_AT_A_TIME

FLEET_PERCENT = "FLEET_PERCENT"
HOST_COUNT = "HOST_COUNT"
HEALTH_CONSTRAINTS = "HEALTH_CONSTRAINTS"
HEALTH_CONSTRAINTS_INVALID = "HEALTH_CONSTRAINTS_INVALID"


class DeploymentStatus(StrEnum):
    """CodeDeploy's statuses of a deployment."""

    CREATED = "Created"
    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    BAKING = "Baking"
    READY = "Ready"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"


class TargetStatus(StrEnum):
    """CodeDeploy's statuses of a target. ``Ready``: it waits until the deployment goes on for all of them."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    READY = "Ready"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    UNKNOWN = "Unknown"


class Age(IntEnum):
    """What a target has of the group, in the order in which CodeDeploy takes them."""

    UNKNOWN = 0
    OLD = 1
    CURRENT = 2


@dataclass(frozen=True, slots=True)
class Minimum:
    """How many of a fleet have to be healthy at any time: a number, or a percentage that is rounded up."""

    kind: str = HOST_COUNT
    value: int = 0

    @staticmethod
    def of(document: Mapping[str, Any] | None) -> Minimum:
        """A ``minimumHealthyHosts`` document; without one there is no minimum."""
        return Minimum(document["type"], int(document["value"])) if document else Minimum()

    def among(self, count: int) -> int:
        """The number for a fleet of ``count``. One target alone can only be taken, whatever share of it has to stay."""
        if self.kind == HOST_COUNT:
            return self.value
        if count == 1 and self.value < 100:
            return 0
        return -(-count * self.value // 100)


@dataclass(frozen=True, slots=True)
class Zonal:
    """One zone after the other (``zonalConfig``), with a time to watch after each but the last."""

    minimum: Minimum = Minimum()
    first_seconds: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment configuration asks for. ``is_one_at_a_time``: all but one have to be healthy, however many."""

    minimum: Minimum = Minimum()
    is_one_at_a_time: bool = False
    max_concurrent: int | None = None
    zonal: Zonal | None = None

    @staticmethod
    def of(name: str, document: Mapping[str, Any], max_concurrent: int | None = None) -> Rules:
        """The rules of a configuration; ``CodeDeployDefault.OneAtATime`` is one at a time and not 99 %."""
        zonal = document.get("zonalConfig")
        caps = [each for each in (max_concurrent, document.get("maxConcurrent")) if each]
        watch = zonal or {}
        later = int(watch.get("monitorDurationInSeconds") or 0)
        first = watch.get("firstZoneMonitorDurationInSeconds")
        return Rules(
            Minimum.of(document.get("minimumHealthyHosts")),
            name == ONE_AT_A_TIME,
            min(caps, default=None),
            Zonal(Minimum.of(watch.get("minimumHealthyHostsPerZone")), later if first is None else int(first), later)
            if zonal is not None
            else None,
        )

    def minimum_of(self, count: int) -> int:
        """How many of ``count`` targets have to be healthy."""
        return max(0, count - 1) if self.is_one_at_a_time else self.minimum.among(count)

    @property
    def most(self) -> int | None:
        """How many may be under way at a time, beside what the minimum allows."""
        return 1 if self.is_one_at_a_time else self.max_concurrent


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target as far as it matters here. ``was_healthy`` and ``age`` are from before the deployment.

    One that is ``Skipped`` belongs to the fleet and is not deployed to: it counts as it was. ``is_silent``: its agent has
    not been heard of lately; ``is_lost``: for so long that nobody waits for it any more.
    """

    name: str
    status: TargetStatus = TargetStatus.PENDING
    was_healthy: bool = True
    age: Age = Age.UNKNOWN
    zone: str = ""
    is_silent: bool = False
    is_lost: bool = False

    @property
    def is_healthy(self) -> bool:
        """Whether it serves now: one that is under way does not, as far as anybody can promise."""
        if self.status in {TargetStatus.PENDING, TargetStatus.SKIPPED}:
            return self.was_healthy
        return self.status is TargetStatus.SUCCEEDED

    @property
    def counts(self) -> bool:
        """Whether others may be taken because of it: what nobody has heard of lately may serve nobody."""
        return self.is_healthy and not self.is_silent

    @property
    def rank(self) -> tuple[bool, int]:
        """Unhealthy ones first, then by what they have."""
        return (self.was_healthy, self.age)


@dataclass(frozen=True, slots=True)
class View:
    """A fleet in its order. ``monitored`` are the zones after which it has been watched long enough."""

    targets: tuple[TargetView, ...]
    rules: Rules = Rules()
    monitored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LetGo:
    """The deployment goes to these targets now."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Monitor:
    """Nothing is let go for so long: a zone is done, and is watched before the next one."""

    zone: str
    seconds: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These targets have failed without having been begun on: their agents are lost, and nothing else can be done."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """It has ended so. ``code`` is CodeDeploy's error code, None for a success."""

    status: DeploymentStatus
    code: str | None
    message: str


Step = LetGo | Monitor | GiveUp | End


def plan(view: View) -> Step | None:
    """The step to take now; None while there is nothing to do but to wait for targets that are under way."""
    minimum = view.rules.minimum_of(len(view.targets))
    if minimum > len(view.targets):
        told = f"at least {minimum} targets have to be healthy, and there are {len(view.targets)}"
        return End(DeploymentStatus.FAILED, HEALTH_CONSTRAINTS_INVALID, told)
    if view.rules.zonal is not None:
        return _by_zone(view, view.rules.zonal, minimum)
    step = _next(view, view.targets, _spare(view.targets, minimum))
    if step is not None:
        return step
    if _waits_for_silent(view, view.targets):
        return _given_up(view.targets)
    return _result(view, minimum)


def _by_zone(view: View, zonal: Zonal, minimum: int) -> Step | None:
    zones = sorted({target.zone for target in view.targets if target.status is not TargetStatus.SKIPPED})
    for zone in zones:
        here = [target for target in view.targets if target.zone == zone]
        at_least = zonal.minimum.among(len(here))
        spare = min(_spare(view.targets, minimum), _spare(here, at_least))
        step = _next(view, here, spare)
        if step is not None or any(target.status is TargetStatus.IN_PROGRESS for target in here):
            return step
        if _waits_for_silent(view, here):
            return _given_up(here)
        left = _waiting(here)
        if left or _healthy(here) < at_least:
            told = f"zone {zone!r} has {_healthy(here)} healthy targets and needs {at_least}"
            return _failed(view, told if _spare(here, at_least) <= 0 else "", minimum)
        seconds = zonal.first_seconds if zone == zones[0] else zonal.seconds
        if seconds and zone != zones[-1] and zone not in view.monitored:
            return Monitor(zone, seconds)
    return _result(view, minimum)


def _next(view: View, among: Sequence[TargetView], spare: int) -> LetGo | None:
    under_way = sum(target.status is TargetStatus.IN_PROGRESS for target in view.targets)
    room = len(view.targets) if view.rules.most is None else view.rules.most - under_way
    chosen: list[str] = []
    heard = [target for target in _waiting(among) if not target.is_silent]
    for target in sorted(heard, key=lambda each: each.rank):
        if len(chosen) >= room:
            break
        # Whatever does not serve anyway costs nothing.
        if target.was_healthy:
            if spare <= 0:
                break
            spare -= 1
        chosen.append(target.name)
    return LetGo(tuple(chosen)) if chosen else None


def _waits_for_silent(view: View, among: Sequence[TargetView]) -> bool:
    """Whether nothing can be said before a silent agent is heard of again, or is given up."""
    waiting = _waiting(among)
    if not waiting or any(target.status is TargetStatus.IN_PROGRESS for target in view.targets):
        return False
    may_come_back = any(
        target.is_silent and not target.is_lost and target.status is not TargetStatus.FAILED for target in view.targets
    )
    return may_come_back or any(target.is_lost for target in waiting)


def _given_up(among: Sequence[TargetView]) -> GiveUp | None:
    lost = tuple(target.name for target in _waiting(among) if target.is_lost)
    return GiveUp(lost) if lost else None


def _result(view: View, minimum: int) -> End | None:
    if any(target.status is TargetStatus.IN_PROGRESS for target in view.targets):
        return None
    taken = [target for target in view.targets if target.status is not TargetStatus.SKIPPED]
    succeeded = sum(target.status is TargetStatus.SUCCEEDED for target in taken)
    if _waiting(taken) or _healthy(view.targets) < minimum or (taken and not succeeded):
        return _failed(view, "" if succeeded or _waiting(taken) else "none of the targets succeeded", minimum)
    told = f"{succeeded} of {len(taken)} targets succeeded" if taken else "all targets have this revision already"
    return End(DeploymentStatus.SUCCEEDED, None, told)


def _failed(view: View, why: str, minimum: int) -> End:
    healthy = _healthy(view.targets)
    left = len(_waiting(view.targets))
    silent = sum(target.is_silent and target.is_healthy for target in view.targets)
    of_silent = f" (the agents of {silent} of them are silent)" if silent else ""
    told = why or (
        f"too many targets failed, or too few are healthy: {healthy} of {len(view.targets)}{of_silent}, "
        f"and {minimum} have to be"
    )
    return End(
        DeploymentStatus.FAILED, HEALTH_CONSTRAINTS, told + (f"; {left} targets were left as they are" if left else "")
    )


def _waiting(targets: Iterable[TargetView]) -> list[TargetView]:
    return [target for target in targets if target.status is TargetStatus.PENDING]


def _healthy(targets: Iterable[TargetView]) -> int:
    return sum(target.is_healthy for target in targets)


def _spare(targets: Iterable[TargetView], minimum: int) -> int:
    """How many healthy ones may be taken away now."""
    return sum(target.counts for target in targets) - minimum
