"""What the hooks' routes need beside the registry's services, assembled once per process by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hooks.builds.logs import LogStore
from hooks.builds.runner_claims import RunnerClaims
from hooks.builds.runner_work import RunnerWork
from hooks.builds.tailing import Tails
from hooks.deployments.agent_work import AgentWork
from hooks.deployments.parts import Parts as DeploymentParts
from hooks.destinations.store import Destinations
from hooks.notifications.endpoints import Sealer
from hooks.notifications.fanout import Fanout
from hooks.notifications.sending import Rules
from hooks.pipelines.parts import Parts
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict
from registry.repos.sealed_fields import SealedField
from registry.stores import DomainStores


@dataclass(frozen=True, slots=True)
class Notifications:
    """What webhooks and mails need: ``rules`` say where webhooks may go, ``sealer`` keeps their secrets.

    ``base_url`` is where links in mails lead; ``sends_mail`` whether there is a mail server.
    """

    fanout: Fanout
    rules: Rules
    sealer: Sealer
    base_url: str
    sends_mail: bool

    def require_mail(self) -> None:
        """Raise Conflict on a server without a mail server."""
        if not self.sends_mail:
            raise Conflict("this server has no mail server; an administrator can set one")


@dataclass(frozen=True, slots=True)
class RunnerServices:
    """What runners on other machines ask: for builds, and about those they have."""

    claims: RunnerClaims
    work: RunnerWork


@dataclass(frozen=True, slots=True)
class HookServices:
    """``actions`` is what the pipeline engine acts through, ``deployments`` what the deployment engine does.

    ``destinations`` keeps the registries elsewhere that versions are published to. ``logs`` reads what builds have written.
    ``sealed_fields`` are all columns that the key rings of ``stores`` seal into. ``tails`` says who may follow a log.
    """

    db: Database
    clock: Clock
    actions: Parts
    logs: LogStore
    notifications: Notifications
    stores: DomainStores
    sealed_fields: Sequence[SealedField]
    runners: RunnerServices
    deployments: DeploymentParts
    agents: AgentWork
    destinations: Destinations
    tails: Tails = field(default_factory=Tails)
