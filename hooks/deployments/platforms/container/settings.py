"""What the server's configuration says of container hosts, and how patient their platform is. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

MAX_PORT = 65536
_AMOUNTS = ("memory_bytes", "most_memory_bytes", "cpu_units", "most_cpu_units", "processes", "most_containers")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """A host of containers. Whoever may use its API is as good as root there, so it stands in the server's settings alone.

    ``api`` is ``unix:///PATH`` or ``tcp://HOST:PORT``; the latter with TLS by ``tls_directory`` (``ca.pem``,
    ``cert.pem``, ``key.pem``). Containers' ports are published at ``publish_address`` (the host's, an IP address) with
    numbers from ``first_port`` to ``last_port``; ``router_address`` is where the router reaches them, "" for the same.
    ``network`` is one of the engine's, "bridge" its usual one; never the host's own. ``capabilities`` are what a
    container keeps of those that the engine gives.
    """

    api: str
    tls_directory: str = ""
    publish_address: str = "127.0.0.1"
    router_address: str = ""
    first_port: int = 20000
    last_port: int = 20999
    network: str = "bridge"
    pulls: bool = False
    memory_bytes: int = 512 * 1024**2
    most_memory_bytes: int = 4 * 1024**3
    cpu_units: int = 1024
    most_cpu_units: int = 4096
    processes: int = 512
    most_containers: int = 10
    capabilities: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where published ports are reached."""
        return self.router_address or self.publish_address

    def faults(self) -> list[str]:
        """What is wrong with it, each beginning with the setting's name."""
        found = []
        if not self.api.startswith(("unix:///", "tcp://")):
            found.append("api is unix:///PATH or tcp://HOST:PORT")
        if self.network in {"host", "none"} or self.network.startswith("container:"):
            found.append("network is one of the engine's own; services share none with the host or another container")
        if not 0 < self.first_port <= self.last_port < MAX_PORT:
            found.append("first_port and last_port are 1 to 65535, the first one first")
        for name in ("publish_address", "router_address"):
            if getattr(self, name):
                try:
                    ipaddress.ip_address(getattr(self, name))
                except ValueError:
                    found.append(f"{name} is an IP address")
        found += [f"{name} must be more than 0" for name in _AMOUNTS if getattr(self, name) < 1]
        if self.memory_bytes > self.most_memory_bytes or self.cpu_units > self.most_cpu_units:
            found.append("most_memory_bytes and most_cpu_units are no less than what a container gets without asking")
        return found


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the platform in seconds, and how often in a row a container may fail its checks under traffic."""

    poll: float = 2.0
    watch: float = 10.0
    """Between two looks at a task set that has traffic, while the next step is waited for."""
    grace: float = 300.0
    """For a new task set to be healthy, where the group's service says nothing else."""
    drain: float = 300.0
    """For the last requests to end; what lasts longer is cut off."""
    hook: float = 3600.0
    tolerated_failures: int = 3
    tolerated_restarts: int = 2
