"""The platform ``Server``: machines with agents, by their tags; a router takes them out of the traffic and puts them back.

Nothing is remembered but in the target's details: everything here may be asked again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.documents.settings import GroupSettings
from hooks.deployments.health.checks import CommandCheck, HttpCheck, TcpCheck, checks_of, commands_of
from hooks.deployments.health.judging import Health, Tally, after, altogether
from hooks.deployments.health.probing import Answer
from hooks.deployments.lifecycle import CHECK_COMMANDS, ENGINE_EVENTS
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.phases import MONITOR_HEALTH, TERMINATE, bake_minutes, course_of
from hooks.deployments.platform import (
    Actor,
    AgentsPart,
    DeploymentFacts,
    EventPlan,
    Later,
    PlatformUnavailable,
    TargetPlan,
)
from hooks.deployments.rows import BLUE, GREEN, ROLLBACK
from hooks.deployments.traffic.router import Member, RoutingError, TrafficRouter, host_and_port
from hooks.models.deployment import Deployment, DeploymentAgent, DeploymentGroup, DeploymentTarget
from registry.clock import Clock

CHECK_HEALTH = "CheckHealth"
"""An event of the engine after ValidateService: the group's ``healthChecks``, asked from here."""
DRAIN_SECONDS = 300.0
"""So long requests that run may take to end (a load balancer's usual deregistration delay); then it goes on."""
HEALTHY_SECONDS = 300.0
"""So long the router's own check may take to find a target well."""
_PAUSE_SECONDS = 1.0
_COMMANDS_PAUSE_SECONDS = 15.0
_BEFORE_INSTALL = frozenset({"", "BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic", "DownloadBundle"})


class Check(Protocol):
    """``health.probing.Prober.check``."""

    def __call__(self, check: HttpCheck | TcpCheck, host: str, port: int | None) -> Answer:
        """Ask one target, once."""
        ...


class ServerPlatform:
    """Implements ``hooks.deployments.platform.DeploymentPlatform``. ``routers`` are those of the settings, by name."""

    name = "Server"

    def __init__(self, routers: Mapping[str, TrafficRouter], *, check: Check, clock: Clock) -> None:
        """Touches nothing."""
        self._routers = routers
        self._check = check
        self._clock = clock

    def check_group(self, document: Mapping[str, Any]) -> Sequence[str]:
        """As the contract says."""
        settings = GroupSettings.of(document)
        faults: list[str] = []
        if document.get("healthChecks") is not None:
            checks_of(document["healthChecks"], faults)
        unknown = sorted({pool.partition("/")[0] for pool in settings.pools} - set(self._routers))
        faults += [f"there is no router {name!r} in the server's settings" for name in unknown]
        if settings.controls_traffic and not settings.pools:
            faults.append("WITH_TRAFFIC_CONTROL needs pools of a router in loadBalancerInfo.targetGroupInfoList")
        if settings.is_blue_green and not settings.controls_traffic:
            faults.append("BLUE_GREEN needs WITH_TRAFFIC_CONTROL: a router sends the traffic to the new machines")
        return faults

    def check_revision(self, revision: Mapping[str, Any]) -> Sequence[str]:
        """As the contract says."""
        if revision.get("revisionType") == "AppSpecContent":
            return ["an AppSpecContent is for containers; machines are deployed a bundle or a package"]
        return []

    def find_targets(self, session: Session, about: DeploymentFacts) -> Sequence[TargetPlan]:
        """The machines that have enrolled and whose tags or names are asked for, and to which this domain may deploy.

        Blue/green: what serves since the last time is never a replacement.
        """
        settings = GroupSettings.of(about.group, about.options)
        agents = [
            row
            for row in session.scalars(
                select(DeploymentAgent).where(
                    DeploymentAgent.revoked_at.is_(None), DeploymentAgent.enrolled_at.is_not(None)
                )
            )
            if not row.domains or about.domain in row.domains
        ]
        mine = [row for row in agents if settings.machines.has(row.name, row.tags)]
        if not settings.is_blue_green:
            chosen = settings.chosen
            return [_plan(row, "") for row in mine if chosen is None or chosen.has(row.name, row.tags)]
        serving = _serving(session, about.group_id)
        green = settings.chosen or settings.replacements
        replacing = {row.name for row in agents if green.has(row.name, row.tags)}
        both = {row.name: row for row in agents if row.name in replacing} | {row.name: row for row in mine}
        if settings.chosen is None and replacing & serving:
            replacing = set(both)  # they have changed places before, and do so again
        replacing -= serving
        return [_plan(row, "Green" if name in replacing else "Blue") for name, row in both.items()]

    def events(self, about: DeploymentFacts, target: TargetPlan) -> Sequence[EventPlan]:
        """As the contract says."""
        settings = GroupSettings.of(about.group)
        is_balanced = settings.controls_traffic and bool(settings.pools)
        course = course_of(target.fleet, is_balanced=is_balanced, is_rollback=about.is_rollback)
        plans = []
        for name in course.events:
            is_traffic = name in ENGINE_EVENTS and name.endswith("Traffic")
            plans.append(EventPlan(name, Actor.ENGINE if is_traffic else Actor.AGENT))
            if name == "ValidateService" and _asked_from_here(about):
                plans.append(EventPlan(CHECK_HEALTH, Actor.ENGINE))
            if name == "ValidateService" and commands_of(about.group):
                plans.append(EventPlan(CHECK_COMMANDS, Actor.AGENT))
        if _is_watched(about, target, is_blue_green=settings.is_blue_green):
            plans.append(EventPlan(MONITOR_HEALTH, Actor.ENGINE))
        if target.fleet == "Blue" and not about.is_rollback:
            plans.append(EventPlan(TERMINATE, Actor.ENGINE))
        return plans

    def carry_out(
        self, about: DeploymentFacts, target: TargetPlan, event: str, is_stopped: Callable[[], bool]
    ) -> EventResult | Later | AgentsPart:
        """As the contract says."""
        _ = is_stopped
        acts: Mapping[str, Callable[[DeploymentFacts, TargetPlan], EventResult | Later | AgentsPart]] = {
            "BlockTraffic": self._block,
            "AllowTraffic": self._allow,
            CHECK_HEALTH: self._ask,
            MONITOR_HEALTH: self._monitor,
            TERMINATE: self._let_go,
        }
        try:
            return acts[event](about, target)
        except RoutingError as error:
            if error.may_pass:
                raise PlatformUnavailable(str(error)) from error
            return _failed(event, str(error))

    def undo(self, about: DeploymentFacts, target: TargetPlan) -> Later | None:
        """Give a machine its traffic back, as soon as it is well; take that of a replacement that is not to have it."""
        try:
            for router, pool in self._pools(about):
                if target.fleet == "Green":
                    router.deregister(pool, target.name)
                elif not self._serves(router, pool, target):
                    self._require_well(about, target)
                    router.register(pool, _member(target))
        except RoutingError as error:
            raise PlatformUnavailable(str(error)) from error
        return None

    # --- the events

    def _block(self, about: DeploymentFacts, target: TargetPlan) -> EventResult | Later:
        since, now = _since(target, "drainingSince"), self._clock()
        pools = self._pools(about)
        for router, pool in pools:
            router.drain(pool, target.name)
        if all(router.is_drained(pool, target.name) for router, pool in pools):
            return _done("BlockTraffic", "no request is under way")
        if since is not None and now - since > timedelta(seconds=DRAIN_SECONDS):
            return _done("BlockTraffic", f"some requests had not ended after {DRAIN_SECONDS:g} seconds")
        return _again(target, "drainingSince", since or now, "requests are under way")

    def _allow(self, about: DeploymentFacts, target: TargetPlan) -> EventResult | Later:
        since, now = _since(target, "allowingSince"), self._clock()
        pools = self._pools(about)
        if since is None:
            for router, pool in pools:
                router.register(pool, _member(target))
        if not any(router.healthy(pool, target.name) is False for router, pool in pools):
            return _done("AllowTraffic")
        if since is not None and now - since > timedelta(seconds=HEALTHY_SECONDS):
            return _failed("AllowTraffic", "the router does not find it well")
        return _again(target, "allowingSince", since or now, "the router does not find it well yet")

    def _let_go(self, about: DeploymentFacts, target: TargetPlan) -> EventResult:
        for router, pool in self._pools(about):
            router.deregister(pool, target.name)
        return _done(TERMINATE)

    def _ask(self, about: DeploymentFacts, target: TargetPlan) -> EventResult | Later:
        checks = _asked_from_here(about)
        health, kept, said = self._asked(checks, target, "health", Health.INITIAL)
        if health is Health.HEALTHY:
            return _done(CHECK_HEALTH)
        if health is Health.UNHEALTHY:
            return _failed(CHECK_HEALTH, said)
        return Later(min(check.pace.interval_seconds for check in checks), kept, said)

    def _monitor(self, about: DeploymentFacts, target: TargetPlan) -> EventResult | Later | AgentsPart:
        """Ask a machine that serves once more; for what commands say, its agent is asked in between."""
        checks, commands = _asked_from_here(about), commands_of(about.group)
        health, kept, said = self._asked(checks, target, "watched", Health.HEALTHY)
        if health is Health.UNHEALTHY:
            return _failed(MONITOR_HEALTH, said)
        seconds: float = min(each.pace.interval_seconds for each in (*checks, *commands))
        if commands and target.agent_id is not None:
            since, now = _since(target, "askedAt"), self._clock()
            pause = max(_COMMANDS_PAUSE_SECONDS, min(each.pace.interval_seconds for each in commands))
            if target.details.get("isAsked"):
                # It is back: the pause is from now on, so that what is asked from here has its turns between.
                kept, since = {**kept, "askedAt": now.isoformat(), "isAsked": False}, now
            if since is None or now - since >= timedelta(seconds=pause):
                return AgentsPart({**kept, "askedAt": now.isoformat(), "isAsked": True}, said)
            seconds = seconds if checks else pause
        return Later(seconds, kept, said)

    def _asked(
        self, checks: Sequence[HttpCheck | TcpCheck], target: TargetPlan, key: str, before: Health
    ) -> tuple[Health, Mapping[str, Any], str]:
        """A machine's health with one more answer to each check, its details with that, and what was wrong."""
        host, port = _place(target)
        if host is None and checks:
            return Health.UNHEALTHY, target.details, "the machine has no address at which it could be asked"
        kept: Mapping[str, Any] = target.details.get(key) or {}
        tallies: dict[str, Tally] = {}
        said = ""
        for check in checks:
            answer = self._check(check, host or "", port)
            known = kept.get(check.name) or [before.value, 0, 0]
            tally = Tally(Health(known[0]), known[1], known[2])
            tallies[check.name] = after(tally, passed=answer.passed, pace=check.pace)
            if not answer.passed:
                said = f"{check.name}: {answer.detail}"
        told = {name: [each.health.value, each.passed_in_a_row, each.failed_in_a_row] for name, each in tallies.items()}
        return altogether(tally.health for tally in tallies.values()), {**target.details, key: told}, said

    # --- what is needed for them

    def _pools(self, about: DeploymentFacts) -> list[tuple[TrafficRouter, str]]:
        """Each pool with its router; none without traffic control. Raises RoutingError for an unknown router."""
        settings = GroupSettings.of(about.group)
        if not settings.controls_traffic:
            return []
        found = []
        for each in settings.pools:
            name, _, pool = each.partition("/")
            if name not in self._routers:
                raise RoutingError(f"there is no router {name!r} in the server's settings", may_pass=False)
            found.append((self._routers[name], pool))
        return found

    @staticmethod
    def _serves(router: TrafficRouter, pool: str, target: TargetPlan) -> bool:
        return any(each.name == target.name and not each.is_drained for each in router.members(pool))

    def _require_well(self, about: DeploymentFacts, target: TargetPlan) -> None:
        """A machine that may be broken gets no requests: raises PlatformUnavailable, until it is found well."""
        is_untouched = target.fleet == "Blue" or target.details.get("brokenAt") in _BEFORE_INSTALL
        if is_untouched:
            return
        checks = _asked_from_here(about)
        host, port = _place(target)
        if not checks or host is None:
            told = "it got no traffic back: its group has no health checks that could tell whether it is well"
            raise PlatformUnavailable(told)
        for check in checks:
            answer = self._check(check, host, port)
            if not answer.passed:
                raise PlatformUnavailable(f"it got no traffic back: {check.name}: {answer.detail}")


def _serving(session: Session, group_id: str) -> set[str]:
    """The machines to which the group's last success has brought the traffic, if that was blue/green."""
    good = session.scalar(
        select(Deployment)
        .join(DeploymentGroup, DeploymentGroup.last_successful_id == Deployment.id)
        .where(DeploymentGroup.id == group_id)
    )
    if good is None:
        return set()
    fleet = BLUE if good.creator == ROLLBACK else GREEN
    side = (DeploymentTarget.deployment_id == good.id, DeploymentTarget.fleet == fleet)
    return set(session.scalars(select(DeploymentTarget.name).where(*side)))


def _plan(row: DeploymentAgent, fleet: str) -> TargetPlan:
    return TargetPlan(row.name, row.id, fleet, row.zone, {"address": row.address} if row.address else {})


def _asked_from_here(about: DeploymentFacts) -> list[HttpCheck | TcpCheck]:
    """The group's checks that are made from here."""
    if about.group.get("healthChecks") is None:
        return []
    found = checks_of(about.group["healthChecks"], [])
    return [check for check in found if not isinstance(check, CommandCheck)]


def _is_watched(about: DeploymentFacts, target: TargetPlan, *, is_blue_green: bool) -> bool:
    """Whether a target is asked while the deployment bakes. Nothing is over a deployment that goes back, as with alarms."""
    bakes = bake_minutes(about.group, about.options, is_blue_green=is_blue_green, is_rollback=about.is_rollback)
    return bool(about.group.get("healthChecks") and bakes and target.fleet != BLUE and not about.is_rollback)


def _member(target: TargetPlan) -> Member:
    address = target.details.get("address")
    if not address:
        raise RoutingError(f"machine {target.name} has no address; set the agent's", may_pass=False)
    return Member(target.name, address)


def _place(target: TargetPlan) -> tuple[str | None, int | None]:
    address = str(target.details.get("address") or "")
    if not address:
        return None, None
    try:
        return host_and_port(address)
    except RoutingError:
        return address, None


def _since(target: TargetPlan, key: str) -> datetime | None:
    text = target.details.get(key)
    return None if text is None else datetime.fromisoformat(text)


def _again(target: TargetPlan, key: str, since: datetime, message: str) -> Later:
    return Later(_PAUSE_SECONDS, {**target.details, key: since.isoformat()}, message)


def _done(event: str, message: str = "") -> EventResult:
    return EventResult(event, EventStatus.SUCCEEDED, message=message)


def _failed(event: str, message: str) -> EventResult:
    return EventResult(event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, message)
