"""What the engine is given from outside: platforms, the server's seal and clock, and how alarms are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from hooks.deployments.health.alarms import Poll, PollFailed, PrometheusAlarm
from hooks.deployments.platform import DeploymentPlatform
from hooks.models.deployment import Deployment
from registry.clock import Clock
from registry.errors import NotFound


class Sealer(Protocol):
    """Encrypts small things at rest. ``context`` is bound to the result: it opens under the same one only."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


def nobody_to_ask(_alarm: PrometheusAlarm) -> Poll:
    """The answer where alarms are not asked."""
    return PollFailed("this process asks no alarms")


def nobody_waits(_session: Session, _row: Deployment) -> None:
    """Nobody is told of a deployment's end."""


@dataclass(frozen=True, slots=True)
class HookNotice:
    """What a webhook is told of a hook that it is to carry out."""

    webhook: int
    data: Mapping[str, Any]


def nobody_to_call(_session: Session, notice: HookNotice, _now: datetime) -> None:
    """Tells nobody of hooks: there are no webhooks here."""
    raise NotFound("webhook", str(notice.webhook))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine waits, in seconds. CodeDeploy's own times."""

    begin: float = 300.0
    """For an agent to begin an event that it may begin, and for one that has become silent to be heard of again."""
    silent: float = 60.0
    """An agent that has not asked for so long is silent: its target is not begun on, and does not count as healthy."""
    event: float = 3600.0
    in_place: float = 8 * 3600.0
    blue_green: float = 109 * 3600.0
    tick: float = 15.0
    """Between two looks at a deployment that goes on."""
    queued_tick: float = 300.0

    @staticmethod
    def with_agents(silent_seconds: float, lost_seconds: float) -> Patience:
        """As an operator has chosen for agents."""
        return Patience(begin=lost_seconds, silent=silent_seconds, tick=min(15.0, silent_seconds / 4))


@dataclass(frozen=True, slots=True)
class Parts:
    """``platforms`` are by CodeDeploy's ``computePlatform``.

    ``poll`` asks an alarm that is outside; it is called outside of any transaction. ``on_end`` is told of each deployment
    that has ended, in the transaction of its end and under its lock. ``call_hook`` sees to it, in the caller's transaction,
    that a webhook is told; it raises NotFound, Conflict or Denied where that cannot be.
    """

    platforms: Mapping[str, DeploymentPlatform]
    clock: Clock
    sealer: Sealer
    poll: Callable[[PrometheusAlarm], Poll] = nobody_to_ask
    patience: Patience = field(default_factory=Patience)
    on_end: Callable[[Session, Deployment], None] = nobody_waits
    call_hook: Callable[[Session, HookNotice, datetime], None] = nobody_to_call
