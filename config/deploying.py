"""Deployments, put together: which platforms there are, and what the engine and its jobs are given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from config import checking, container_platform, notifying
from config.settings import Settings
from hooks.deployments import care, jobs, uploads
from hooks.deployments.health.probing import Prober
from hooks.deployments.parts import Parts, Patience
from hooks.deployments.platform import DeploymentPlatform
from hooks.deployments.platforms.server import ServerPlatform
from hooks.deployments.traffic.router import TrafficRouter
from hooks.jobs.context import Handler
from hooks.pipelines.deploy_jobs import on_deployment_ended
from registry.clock import Clock
from registry.services import Services


def platforms(
    settings: Settings, routers: Mapping[str, TrafficRouter], prober: Prober, clock: Clock
) -> Mapping[str, DeploymentPlatform]:
    """Every deployment platform there is: one line for each."""
    found: list[DeploymentPlatform] = [ServerPlatform(routers, check=prober.check, clock=clock)]
    if settings.container_hosts:
        found.append(container_platform.platform(settings, routers, clock))
    return {platform.name: platform for platform in found}


def parts(settings: Settings, services: Services) -> Parts:
    """What the engine is given. To be made once for each process, after a fork."""
    prober = checking.prober(settings)
    return Parts(
        platforms(settings, _routers(settings), prober, services.clock),
        services.clock,
        services.stores.server_keyring(),
        prober.poll,
        patience=Patience.with_agents(
            settings.deployments.agent_silent_seconds, settings.deployments.agent_lost_seconds
        ),
        on_end=on_deployment_ended,
        call_hook=notifying.hook_caller(settings, services),
    )


def _routers(settings: Settings) -> Mapping[str, TrafficRouter]:
    if not settings.routers:
        return {}
    from config import routers  # only where there are any: it brings every type of them along

    return routers.routers(settings.routers)


def handlers(deployments: Parts) -> Mapping[str, Handler]:
    """Job kind → handler, for those of the default queue and those of deployments' own."""
    return jobs.handlers(deployments)


def forget_old(services: Services, settings: Settings) -> None:
    """Let go of deployments that ended long ago, and of uploaded bundles that nothing needs any more."""
    if settings.deployments.keep_days:
        before = services.clock() - timedelta(days=settings.deployments.keep_days)
        while services.db.retry(lambda session: care.forget_old(session, before)):
            pass
    services.db.retry(lambda session: uploads.forget_uploads(session, services.clock()))
