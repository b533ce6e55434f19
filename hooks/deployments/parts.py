"""What the engine is given from outside: platforms, the server's seal and clock, and how alarms are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from hooks.deployments.platform import DeploymentFacts, DeploymentPlatform
from registry.clock import Clock


class Sealer(Protocol):
    """Encrypts small things at rest. ``context`` is bound to the result: it opens under the same one only."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


class Watched(Enum):
    """What an alarm says."""

    OK = "OK"
    FIRING = "ALARM"
    UNREADABLE = "INSUFFICIENT_DATA"


@dataclass(frozen=True, slots=True)
class AlarmState:
    """One alarm of a deployment as it is now; ``reason`` is for people."""

    name: str
    state: Watched
    reason: str = ""


def no_alarms(_about: DeploymentFacts, _names: Mapping[str, object]) -> list[AlarmState]:
    """There are none that could be asked."""
    return []


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine waits, in seconds. CodeDeploy's own times."""

    begin: float = 300.0
    """For an agent to begin an event that it may begin."""
    event: float = 3600.0
    in_place: float = 8 * 3600.0
    blue_green: float = 109 * 3600.0
    tick: float = 15.0
    """Between two looks at a deployment that goes on."""
    queued_tick: float = 300.0


@dataclass(frozen=True, slots=True)
class Parts:
    """``platforms`` are by CodeDeploy's ``computePlatform``.

    ``alarms`` asks those of a deployment that are outside (by the alarms' documents; called outside of any transaction).
    """

    platforms: Mapping[str, DeploymentPlatform]
    clock: Clock
    sealer: Sealer
    alarms: Callable[[DeploymentFacts, Mapping[str, object]], list[AlarmState]] = no_alarms
    patience: Patience = field(default_factory=Patience)
