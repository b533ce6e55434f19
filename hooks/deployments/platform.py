"""What a deployment platform is: where an application runs, and how its lifecycle events are carried out there.

A platform is one module below ``hooks.deployments.platforms`` and one line in ``config``. It knows neither strategies nor
statuses of deployments: which target is let go, and when, is the engine's (``hooks.deployments.engine``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from sqlalchemy.orm import Session

from hooks.deployments.outcomes import EventResult

OF_AN_EVENT = frozenset(
    {"drainingSince", "allowingSince", "health", "progress", "brokenAt", "watched", "askedAt", "hookUntil"}
)
"""Names in a target's details for how far an event is. They go when it is done once more."""
_RETRIES = "retries"


def again(details: Mapping[str, Any], event: str) -> dict[str, Any]:
    """A target's details for an event that is done once more, from its beginning."""
    kept = {name: value for name, value in details.items() if name not in OF_AN_EVENT}
    return {**kept, _RETRIES: {**kept.get(_RETRIES, {}), event: retries_of(details, event) + 1}}


def retries_of(details: Mapping[str, Any], event: str) -> int:
    """How often an event of a target was begun anew after a failure."""
    return int((details.get(_RETRIES) or {}).get(event, 0))


class Actor(Enum):
    """Who carries an event out: the agent on the target's machine, or the engine, by ``DeploymentPlatform.carry_out``."""

    AGENT = "agent"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """A deployment as platforms see it. The documents are those it was made with; ``options`` are those of its start.

    ``is_rollback``: it brings an earlier revision back. ``previous_revision`` None: the group had none. ``hook_answers``:
    Pending, Succeeded or Failed for each ``HookCall`` so far, by its key.
    """

    deployment_id: str
    application: str
    domain: str
    group_id: str
    group_name: str
    group: Mapping[str, Any]
    config: Mapping[str, Any]
    revision: Mapping[str, Any]
    previous_revision: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    is_rollback: bool = False
    hook_answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """A target to be: where a deployment goes. ``fleet`` as in ``hooks.models.deployment.DeploymentTarget``."""

    name: str
    agent_id: str | None = None
    fleet: str = ""
    zone: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventPlan:
    """A lifecycle event to be."""

    name: str
    actor: Actor


@dataclass(frozen=True, slots=True)
class HookCall:
    """The hook ``hook`` of an event is to be carried out by whoever is behind a webhook, which is told once for each key."""

    key: str
    webhook: int
    hook: str
    event: str


@dataclass(frozen=True, slots=True)
class Later:
    """An event goes on after ``seconds``, when ``carry_out`` is called for it again; nobody waits for it meanwhile.

    ``details`` replace the target's: what has been reached so far, for the next call. ``calls``: who is told meanwhile.
    """

    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    calls: HookCall | None = None


@dataclass(frozen=True, slots=True)
class AgentsPart:
    """The agent does its part of an event now; when that has succeeded ``carry_out`` is called again.

    ``details`` replace the target's.
    """

    details: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


class Remains(Enum):
    """What serves where a target was put right: the original again, what the deployment has brought all the same, nothing."""

    ORIGINAL = "original"
    NEW = "new"
    NOTHING = "nothing"


class PlatformUnavailable(Exception):
    """An event could not be tried now (a router, a container engine is away); it is tried again."""


class DeploymentPlatform(Protocol):
    """Where applications run. Safe for many threads."""

    name: str
    """CodeDeploy's ``computePlatform``."""

    def check_group(self, document: Mapping[str, Any]) -> Sequence[str]:
        """What is wrong with a group's document for this platform, all of it. Pure."""

    def check_revision(self, revision: Mapping[str, Any]) -> Sequence[str]:
        """What is wrong with a revision for this platform, as far as can be told without opening it. Pure."""

    def find_targets(self, session: Session, about: DeploymentFacts) -> Sequence[TargetPlan]:
        """Where a group's deployment would go now, in the caller's transaction. Empty: nowhere (NO_INSTANCES)."""

    def events(self, about: DeploymentFacts, target: TargetPlan) -> Sequence[EventPlan]:
        """A target's lifecycle events in their order. Pure."""

    def carry_out(
        self, about: DeploymentFacts, target: TargetPlan, event: str, is_stopped: Callable[[], bool]
    ) -> EventResult | Later | AgentsPart:
        """Do an event of ``Actor.ENGINE``: outside of any transaction, perhaps more than once, with the same effect.

        "Ran and failed" is a result. ``MonitorHealth`` goes on later for as long as the target is well: the engine ends it.
        Raises PlatformUnavailable where it could not be tried.
        """

    def undo(self, about: DeploymentFacts, target: TargetPlan) -> Later | Remains | None:
        """Put right what a deployment that broke off has left half done at a target: traffic above all. Idempotent.

        Raises PlatformUnavailable; it is called until it succeeds: None, or what is there then, where that is the platform's
        to say.
        """
