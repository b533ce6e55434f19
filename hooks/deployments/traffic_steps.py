"""How traffic goes over to a new task set: a configuration's ``trafficRoutingConfig`` as steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrafficStep:
    """The new task set gets ``percent`` of the traffic, and the next step comes after ``seconds``."""

    percent: int
    seconds: float = 0.0


def traffic_steps(config: Mapping[str, Any]) -> tuple[TrafficStep, ...]:
    """The steps of a deployment configuration, the last one at 100 percent. One without routing has it all at once."""
    routing = config.get("trafficRoutingConfig") or {}
    match routing.get("type", "AllAtOnce"):
        case "TimeBasedCanary":
            canary = routing["timeBasedCanary"]
            return (TrafficStep(canary["canaryPercentage"], canary["canaryInterval"] * 60.0), TrafficStep(100))
        case "TimeBasedLinear":
            linear = routing["timeBasedLinear"]
            percent, seconds = linear["linearPercentage"], linear["linearInterval"] * 60.0
            return (*(TrafficStep(reached, seconds) for reached in range(percent, 100, percent)), TrafficStep(100))
        case _:
            return (TrafficStep(100),)
