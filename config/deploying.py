"""What the deployment engine is given on this server: where applications run, what asks alarms, the seal of logs."""

from __future__ import annotations

from collections.abc import Mapping

from config.checking import prober
from config.settings import Settings
from hooks.deployments.parts import Parts
from hooks.deployments.platform import DeploymentPlatform
from hooks.deployments.platforms.server import ServerPlatform
from hooks.deployments.traffic.router import TrafficRouter
from registry.services import Services


def deployment_parts(settings: Settings, services: Services) -> Parts:
    """The engine's parts; a further platform is a line here."""
    asking = prober(settings)
    known: Mapping[str, TrafficRouter] = {}
    if settings.routers:
        from config import routers  # only where there are any

        known = routers.routers(settings.routers)
    platforms: tuple[DeploymentPlatform, ...] = (ServerPlatform(known, check=asking.check, clock=services.clock),)
    return Parts(
        {platform.name: platform for platform in platforms},
        services.clock,
        services.stores.server_keyring(),
        poll=asking.poll,
    )
