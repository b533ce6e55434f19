"""Deployment groups and configurations in words, and how phases of a deployment are called. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.deployments.documents.settings import GroupSettings
from hooks.deployments.documents.tags import Selection, TagFilter
from hooks.deployments.phases import Phase
from hooks.deployments.request import ONE_AT_A_TIME

Fact = tuple[str, str]
"""What it is about, and what is so."""

_ROLLBACK = {
    "DEPLOYMENT_FAILURE": "it fails",
    "DEPLOYMENT_STOP_ON_ALARM": "an alarm stops it",
    "DEPLOYMENT_STOP_ON_REQUEST": "somebody stops it",
}
_IN_PLACE = ((Phase.DEPLOY, "Deploy"), (Phase.BAKE, "Bake"))
_BLUE_GREEN = (
    (Phase.DEPLOY, "Make ready"),
    (Phase.READY_WAIT, "Wait"),
    (Phase.REROUTE, "Reroute"),
    (Phase.DRAIN, "Drain"),
    (Phase.BAKE, "Bake"),
    (Phase.TERMINATE, "Let go"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of a deployment as people see it; ``tone`` is good, busy, wait, bad or idle."""

    name: str
    tone: str


# --- groups ----------------------------------------------------------------------------------------------------------


def facts_of_group(
    document: Mapping[str, Any], config_name: str, config: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> list[Fact]:
    """What a group's document comes to, with a deployment's own ``options`` over it."""
    settings = GroupSettings.of(document, options)
    is_container = config.get("computePlatform") != "Server"
    facts = [("Targets", _targets(document, settings)), ("Strategy", _strategy(settings, is_container=is_container))]
    facts += [("Pace", pace(config_name, config, settings.max_concurrent))]
    if settings.pools or settings.pairs:
        pools = [*settings.pools, *(" and ".join(pair) for pair in settings.pairs)]
        facts.append(
            ("Traffic", f"{'through' if settings.controls_traffic or is_container else 'not by'} {', '.join(pools)}")
        )
    if settings.is_blue_green or is_container:
        facts += _blue_green(settings)
    facts += list(_care(settings))
    return facts


def _targets(document: Mapping[str, Any], settings: GroupSettings) -> str:
    services = document.get("ecsServices") or ()
    if services:
        return "service " + ", ".join(
            f"{each.get('clusterName', '')}/{each.get('serviceName', '')}" for each in services
        )
    return selection(settings.machines) + (
        f"; of those only {selection(settings.chosen)}" if settings.chosen is not None else ""
    )


def selection(chosen: Selection) -> str:
    """Which machines are meant."""
    parts = [_some(sorted(chosen.names))] if chosen.names else []
    for tag_set in chosen.sets:
        lists = [" or ".join(_filter(each) for each in filters) for filters in tag_set if filters]
        parts.append("machines with " + " and ".join(f"({each})" if len(lists) > 1 else each for each in lists))
    return ", and ".join(parts) or "none are named"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - 8
    return ", ".join(names[:8]) + (f" and {rest} more" if rest > 0 else "")


def _filter(each: TagFilter) -> str:
    if each.type == "KEY_ONLY":
        return f"the tag {each.key}"
    return f"the value {each.value}" if each.type == "VALUE_ONLY" else f"{each.key}={each.value}"


def _strategy(settings: GroupSettings, *, is_container: bool) -> str:
    if is_container:
        return "blue/green: new containers beside the old ones, then the traffic changes sides"
    if settings.is_blue_green:
        return f"blue/green: {selection(settings.replacements)} take over, or the sides change places"
    return "in place" + (", each taken out of the traffic meanwhile" if settings.controls_traffic else "")


def _blue_green(settings: GroupSettings) -> list[Fact]:
    if settings.ready_wait_minutes is None:
        wait = "at once, when the new side is ready"
    else:
        wait = f"when somebody lets it, within {_minutes(settings.ready_wait_minutes)}; else it is stopped"
    if not settings.terminates_blue:
        after = "kept"
    elif settings.termination_wait_minutes:
        after = f"let go after {_minutes(settings.termination_wait_minutes)}"
    else:
        after = "let go at once"
    return [("Traffic changes sides", wait), ("The old side is", after)]


def _care(settings: GroupSettings) -> Iterator[Fact]:
    names = [str(each.get("name", "")) for each in settings.alarms]
    yield "Alarms", ", ".join(names) or "none"
    checks = [str(each.get("name", "")) for each in settings.health_checks or () if isinstance(each, Mapping)]
    if checks:
        yield "Health checks", ", ".join(checks)
    reasons = [words for event, words in _ROLLBACK.items() if event in settings.rollback_events]
    yield "Rolled back by itself", "when " + " or ".join(reasons) if reasons else "never"
    if settings.is_guided:
        yield "A target fails", "the deployment pauses, and somebody says what becomes of it"
    if settings.bake_minutes:
        yield "Watched afterwards", f"for {_minutes(settings.bake_minutes)}"
    if settings.link:
        yield "Released by", f"the link {settings.link}"
    if not settings.updates_outdated:
        yield "Machines that come later", "are left as they are"


def pace(name: str, config: Mapping[str, Any], max_concurrent: int | None = None) -> str:
    """How many at a time, or how the traffic goes over, by a configuration."""
    routing = config.get("trafficRoutingConfig")
    said = _routing(routing) if routing is not None else _hosts(name, config)
    zonal = config.get("zonalConfig")
    if zonal is not None:
        seconds = zonal.get("monitorDurationInSeconds")
        said += ", zone by zone" + (f" with {_seconds(int(seconds))} between them" if seconds else "")
    if max_concurrent:
        said += f"; at most {max_concurrent} at a time"
    return f"{said} ({name})"


def _hosts(name: str, config: Mapping[str, Any]) -> str:
    minimum = config.get("minimumHealthyHosts") or {}
    value = int(minimum.get("value", 0))
    if name == ONE_AT_A_TIME:
        return "one target at a time"
    if value == 0:
        return "all targets at once"
    if minimum.get("type") == "FLEET_PERCENT":
        return f"at least {value} % stay healthy"
    return f"at least {value} {'target stays' if value == 1 else 'targets stay'} healthy"


def _routing(routing: Mapping[str, Any]) -> str:
    match routing.get("type"):
        case "TimeBasedCanary":
            canary = routing["timeBasedCanary"]
            minutes = _minutes(canary["canaryInterval"])
            return f"{canary['canaryPercentage']} % of the traffic first, the rest after {minutes}"
        case "TimeBasedLinear":
            linear = routing["timeBasedLinear"]
            return f"{linear['linearPercentage']} % of the traffic more every {_minutes(linear['linearInterval'])}"
        case _:
            return "all of the traffic at once"


def _minutes(count: int) -> str:
    return f"{count} minute{'' if count == 1 else 's'}"


def _seconds(count: int) -> str:
    return _minutes(count // 60) if count % 60 == 0 else f"{count} seconds"


# --- deployments -----------------------------------------------------------------------------------------------------


def steps_of(phase: str, status: str, *, is_blue_green: bool, bakes: bool, waits: bool) -> list[Step]:
    """The phases of a deployment with how each stands; those that it will not come through are left out."""
    left_out = {Phase.BAKE} if not bakes else set()
    left_out |= {Phase.READY_WAIT} if not waits else set()
    known = [each for each in (_BLUE_GREEN if is_blue_green else _IN_PLACE) if each[0] not in left_out]
    places = [each for each, _ in known]
    here = Phase(phase)
    if status == "Succeeded":
        return [Step(name, "good") for _, name in known]
    if here is Phase.NEW:
        return [Step(name, "idle") for _, name in known]
    if here not in places:  # a phase that takes no time here
        here = next(
            (each for each in reversed(places) if list(Phase).index(each) <= list(Phase).index(here)), places[0]
        )
    current = {"Failed": "bad", "Stopped": "idle", "Ready": "wait"}.get(status, "busy")
    at = places.index(here)
    return [
        Step(name, "good" if place < at else current if place == at else "idle")
        for place, (_, name) in enumerate(known)
    ]
