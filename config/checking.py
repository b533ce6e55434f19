"""Health checks and alarms of deployments, put together: what may be asked, and whose certificates count."""

from __future__ import annotations

import ipaddress

from config.settings import Settings
from hooks.deployments.health.probing import Prober
from registry.upstream.guard import AddressPolicy


def prober(settings: Settings) -> Prober:
    """Asks targets and Prometheus. To be made once for each process, after a fork."""
    chosen = settings.deployments
    networks = tuple(ipaddress.ip_network(text) for text in chosen.check_networks)
    return Prober(AddressPolicy(networks), ca_bundle=chosen.check_ca_bundle or None)
