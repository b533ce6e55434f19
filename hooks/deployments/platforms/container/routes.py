"""Where a service's requests go: two pools of a router, and the listeners that share requests out between them.

Every call says how things shall be. A router that has forgotten its members over a restart is told again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hooks.deployments.platforms.container.group import COLOURS, ServiceGroup
from hooks.deployments.platforms.container.sets import TaskSet, other
from hooks.deployments.platforms.container.settings import HostSettings
from hooks.deployments.traffic.router import TrafficRouter, refuse


@dataclass(frozen=True, slots=True)
class Routes:
    """The pools and listeners of one service. Methods raise RoutingError."""

    router: TrafficRouter
    group: ServiceGroup
    settings: HostSettings

    def pool(self, colour: str) -> str:
        """The pool of a colour."""
        return self.group.pools[COLOURS.index(colour)]

    def share(self, colour: str, listener: str = "") -> int:
        """Percent of the requests at a listener (production's) that go to a colour."""
        listener = listener or self.group.listener
        shares = self.router.shares(listener)
        if set(shares) != set(self.group.pools):
            pools = " and ".join(self.group.pools)
            refuse(f"listener {listener} has the pools {', '.join(sorted(shares))}; the group has {pools}")
        return shares[self.pool(colour)]

    def leading(self) -> str:
        """The colour that has most of production's requests."""
        return max(COLOURS, key=self.share)

    def serving(self, others: Sequence[TaskSet]) -> TaskSet | None:
        """The task set in production among several; None when there is none.

        The leading pool says which; of those that are there no more because the router has forgotten them, the newest.
        """
        leading = self.leading()
        present = {member.name for member in self.router.members(self.pool(leading))}

        def rank(found: TaskSet) -> tuple[bool, int, bool, int]:
            known = sum(member.name in present for member in found.members(self.settings))
            return found.colour == leading, known, found.is_whole, found.created

        return max(others, key=rank, default=None)

    def bring(self, found: TaskSet, *, alone: bool = False) -> None:
        """Have a set's containers take requests in its pool; ``alone``: and nobody else there."""
        pool = self.pool(found.colour)
        wanted = {member.name: member for member in found.members(self.settings)}
        for member in wanted.values():
            self.router.register(pool, member)
        if alone:
            for state in self.router.members(pool):
                if state.name not in wanted:
                    self.router.drain(pool, state.name)
                    self.router.deregister(pool, state.name)

    def is_well(self, found: TaskSet) -> bool:
        """Whether the router's own checks, if it has any, have nothing against a set."""
        pool = self.pool(found.colour)
        return all(self.router.healthy(pool, member.name) is not False for member in found.members(self.settings))

    def shift(self, listener: str, colour: str, percent: int) -> None:
        """Let a colour have so many percent of the requests at a listener, the other one the rest."""
        self.router.shift(listener, {self.pool(colour): percent, self.pool(other(colour)): 100 - percent})

    def withdraw(self, found: TaskSet) -> bool:
        """Give a set no new requests; whether the last one has ended."""
        pool = self.pool(found.colour)
        names = [member.name for member in found.members(self.settings)]
        for name in names:
            self.router.drain(pool, name)
        return all(self.router.is_drained(pool, name) for name in names)

    def forget(self, found: TaskSet) -> None:
        """Have a set in its pool no longer."""
        for member in found.members(self.settings):
            self.router.deregister(self.pool(found.colour), member.name)
