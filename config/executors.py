"""Everything that can run builds on this machine, by the word that projects use for it (``environment.type``)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from config.settings import Settings
from hooks.builds.compute import BUILD_IMAGE, ImageNames, Share
from hooks.builds.executor import Executor
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.launch import Limits
from hooks.builds.local_caches import LocalCaches, LocalLimits
from hooks.builds.workspace import UserRange
from registry import formats

Registry = tuple[str, int] | Callable[[], socket.socket]
"""Where builds reach the registry: an address, or what makes the other end of each connection."""


def executors(settings: Settings, registry: Registry | None = None) -> Mapping[str, Executor]:
    """The executors that the settings speak of; whether each works here it says itself. The first is the usual one.

    ``registry`` is where their builds reach it, if not where the settings say that the server is.
    """
    registry = registry or settings.registry_address
    table: list[Executor] = [ProcessExecutor(replace(process_settings(settings), registry_address=registry))]
    if settings.builds_container.socket:
        table.append(_container(settings, registry))
    return {executor.name: executor for executor in table}


def types(settings: Settings) -> Sequence[str]:
    """The words that projects may use."""
    return tuple(executors(settings))


def process_settings(settings: Settings) -> ProcessSettings:
    """Builds in bubblewrap sandboxes."""
    return ProcessSettings(
        work_dir=settings.workspace_path,
        registry_address=settings.registry_address,
        readonly_paths=tuple(path for known in formats.all_formats().values() for path in known.build_paths()),
        users=UserRange(settings.builds.first_user_id, settings.builds.user_ids),
        limits=_limits(settings, settings.builds.memory_limit_bytes),
    )


def local_caches(settings: Settings) -> LocalCaches | None:
    """The caches that stay on this machine, empty; None where none do."""
    most = settings.builds.local_cache_limit_bytes
    if not most:
        return None
    return LocalCaches(settings.workspace_path, LocalLimits(settings.builds.cache_limit_bytes, most))


def _container(settings: Settings, registry: Registry) -> Executor:
    # Imported when it is chosen: it brings the engine's client library along.
    from hooks.builds.executors.container import ContainerExecutor, ContainerSettings

    chosen = settings.builds_container
    chosen_settings = ContainerSettings(
        socket=chosen.socket,
        work_dir=settings.workspace_path / "containers",
        registry_address=registry,
        users=UserRange(chosen.first_user_id, settings.builds.user_ids),
        limits=_limits(settings, chosen.memory_limit_bytes),
        processors=chosen.processors,
        most=Share(chosen.most_memory_bytes, chosen.most_processors),
        images=ImageNames(chosen.image or BUILD_IMAGE, chosen.images, chosen.allowed_images),
        pulls=chosen.pulls,
        moved_images=chosen.moved_images,
        full_network=chosen.full_network,
        runs_as_root=chosen.runs_as_root,
        capabilities=chosen.capabilities,
        has_writable_root=chosen.writable_root,
        disk_bytes=chosen.disk_limit_bytes,
        allows_privileged=chosen.allows_privileged,
    )
    return ContainerExecutor(chosen_settings)


def _limits(settings: Settings, memory_bytes: int) -> Limits:
    return Limits(
        memory_bytes=memory_bytes,
        processes=settings.builds.process_limit,
        workspace_bytes=settings.builds.workspace_limit_bytes,
        artifact_bytes=settings.builds.artifact_limit_bytes,
    )
