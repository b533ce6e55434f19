"""What the deployment engine is given on this server: where applications run, the seal of logs, the clock."""

from __future__ import annotations

from hooks.deployments.health.probing import Prober
from hooks.deployments.parts import Parts
from hooks.deployments.platform import DeploymentPlatform
from hooks.deployments.platforms.server import ServerPlatform
from registry.services import Services
from registry.upstream.guard import AddressPolicy


def deployment_parts(services: Services) -> Parts:
    """The engine's parts; a further platform is a line here."""
    prober = Prober(AddressPolicy())
    platforms: tuple[DeploymentPlatform, ...] = (ServerPlatform({}, check=prober.check, clock=services.clock),)
    return Parts({platform.name: platform for platform in platforms}, services.clock, services.stores.server_keyring())
