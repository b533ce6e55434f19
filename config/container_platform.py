"""Services in containers, put together: the hosts of the settings, the routers, and what checks may ask."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from config.settings import Settings
from hooks.deployments.health.probing import Prober
from hooks.deployments.platform import DeploymentPlatform
from hooks.deployments.traffic.router import TrafficRouter
from registry.clock import Clock
from registry.upstream.guard import AddressPolicy


def prober(settings: Settings) -> Prober:
    """Asks ``healthChecks`` of containers, at the hosts' addresses and nowhere else."""
    addresses = {host.address for host in settings.container_hosts.values()}
    networks = tuple(ipaddress.ip_network(address) for address in sorted(addresses))
    return Prober(AddressPolicy(networks), ca_bundle=settings.deployments.check_ca_bundle or None)


def platform(settings: Settings, routers: Mapping[str, TrafficRouter], clock: Clock) -> DeploymentPlatform:
    """Services in containers, on the hosts of the settings."""
    # Imported when there are hosts: it brings the engine's client library along.
    from hooks.deployments.platforms.container.platform import ContainerPlatform

    return ContainerPlatform(settings.container_hosts, routers, clock=clock, ask=prober(settings).check)
