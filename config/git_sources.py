"""What fetches git sources on a machine that runs builds: git in a sandbox behind the guarded proxy. Needs no database."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from config.settings import Settings
from hooks.builds.egress import Egress
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.git_fetch import GitFetcher, GitRules
from registry.upstream.guard import AddressPolicy


def git_fetcher(settings: Settings, builds: ProcessSettings) -> GitFetcher:
    """What fetches git sources on this machine, in sandboxes like those of ``builds``."""
    policy = AddressPolicy(tuple(ipaddress.ip_network(text) for text in settings.upstream.allowed_networks))
    directories = settings.builds.git_directories
    limits = replace(builds.limits, processes=min(builds.limits.processes, 128))
    executor = ProcessExecutor(
        replace(builds, registry_address=Egress(policy).connect, readonly_paths=directories, limits=limits)
    )
    return GitFetcher(executor, GitRules(settings.builds.git_schemes, directories), builds.work_dir)
