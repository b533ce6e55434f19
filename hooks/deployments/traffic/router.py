"""What a deployment asks of a router: CodeDeploy's target groups as named pools, its listeners as shares of pools.

Every call says how things shall be, not what to do: said again it changes nothing. That is how an engine goes on after
a crash, and how it puts right what a router forgot over a restart.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from registry.errors import Problem

MAX_WEIGHT = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15})):(?P<port>[0-9]{1,5})\Z")


class RoutingError(Problem):
    """Something was not done, or not found out; ``str()`` says what and why.

    ``may_pass``: the router could not be reached or was busy, and the same call may succeed later. Otherwise it was
    refused (an unknown pool, an impossible share): repeating it brings the same.
    """

    code = "routing_failed"

    def __init__(self, what: str, *, may_pass: bool) -> None:
        super().__init__(what)
        self.may_pass = may_pass


def refuse(what: str) -> NoReturn:
    """Raise the error of what will not be done however often it is said."""
    raise RoutingError(what, may_pass=False)


def unreached(what: str) -> NoReturn:
    """Raise the error of what may be done when it is said again."""
    raise RoutingError(what, may_pass=True)


@dataclass(frozen=True, slots=True)
class Member:
    """A target in a pool: its name there, and ``host:port`` (an IP address, IPv6 in brackets), in its one spelling.

    Raises RoutingError.
    """

    name: str
    address: str

    def __post_init__(self) -> None:
        checked_name("member", self.name)
        object.__setattr__(self, "address", address_of(*host_and_port(self.address)))


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member as the router has it.

    ``is_drained``: it takes no new requests by our word. ``sessions`` are the requests under way, None where the router
    cannot say; ``is_healthy`` is what the router's own check says, None where it has none.
    """

    name: str
    address: str
    is_drained: bool
    weight: int
    sessions: int | None
    is_healthy: bool | None


class TrafficRouter(Protocol):
    """One router. Called by many threads and processes. Every method raises RoutingError."""

    def members(self, pool: str) -> tuple[MemberState, ...]:
        """Who is in a pool, by name."""

    def register(self, pool: str, member: Member) -> None:
        """Have it in the pool, at this address, taking requests: also one that was drained, or was here elsewhere.

        A new one has the weight 1, another one keeps its own. Whether it *can* answer is the caller's to know.
        """

    def drain(self, pool: str, name: str) -> None:
        """Give it no new requests; what runs ends by itself. One that is not there is given none anyway."""

    def is_drained(self, pool: str, name: str) -> bool:
        """Whether it gets no new requests and the last one has ended. True for one that is not there."""

    def deregister(self, pool: str, name: str) -> None:
        """Have it in the pool no longer. What still runs ends by itself."""

    def set_weights(self, pool: str, weights: Mapping[str, int]) -> None:
        """How many requests each gets against the others of its pool: 0 (none) to 256. Others keep their weights."""

    def healthy(self, pool: str, name: str) -> bool | None:
        """What the router's own check says of it; None where it has none, False for one that is not there."""

    def shares(self, listener: str) -> Mapping[str, int]:
        """How many of 100 requests at a listener go to each of its pools."""

    def shift(self, listener: str, shares: Mapping[str, int]) -> None:
        """Set what ``shares`` tells: of all pools of the listener, 100 together.

        Refused when a pool would get requests in which nobody takes any.
        """


def checked_name(kind: str, name: str) -> str:
    """A name that means itself in every router's language. Raises RoutingError."""
    if not _NAME.match(name):
        refuse(f"{kind} {name[:80]!r}: a name has 1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', a letter or digit first")
    return name


def host_and_port(address: str) -> tuple[str, int]:
    """``10.0.0.4:8080`` or ``[fd00::4]:8080`` in its parts, in one spelling. Raises RoutingError."""
    match = _ADDRESS.match(address)
    try:
        if match is not None and 0 < int(match["port"]) < 65536:
            return str(ipaddress.ip_address(match["v6"] or match["v4"])), int(match["port"])
    except ValueError:
        pass
    refuse(f"address {address[:80]!r} is not an IP address and a port, as in 10.0.0.4:8080 or [fd00::4]:8080")


def address_of(host: str, port: int) -> str:
    """Back from ``host_and_port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def checked_weights(weights: Mapping[str, int]) -> Mapping[str, int]:
    """Weights as they may be. Raises RoutingError."""
    for name, weight in weights.items():
        checked_name("member", name)
        if not 0 <= weight <= MAX_WEIGHT:
            refuse(f"the weight of {name} is {weight}; it is 0 to {MAX_WEIGHT}")
    return weights


def check_shares(router: TrafficRouter, listener: str, shares: Mapping[str, int], pools: set[str]) -> None:
    """Refuse shares that are not of these ``pools``, not 100, or lead to where nobody takes requests."""
    if set(shares) != pools:
        refuse(f"listener {listener} has the pools {', '.join(sorted(pools))}; shares are of all of them and no other")
    if any(share < 0 for share in shares.values()) or sum(shares.values()) != 100:
        refuse(f"the shares of listener {listener} have to be 100 together, none below 0")
    for pool, share in shares.items():
        if share and not any(not member.is_drained and member.weight for member in router.members(pool)):
            refuse(f"listener {listener}: nobody in pool {pool} takes requests, so that it can have no share of them")
