"""A package version without a bundle, on this machine: what the signed command says of it, and whether it is let."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hooks.deployments.agent.line import Line
from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.documents.native import parse_native
from hooks.deployments.host import bundle
from hooks.deployments.host.native import NativePackage, Sources, make_bundle
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.signed_commands import Command
from registry.errors import InvalidDocument
from registry.native import NativeVersion, PackageInstaller

Installers = Callable[[str], PackageInstaller | None]
"""A format's installer by its name; None for one whose packages are not installed as they are."""


def made(
    command: Command, settings: AgentSettings, installers: Installers, into: Path, sources: Sources, line: Line
) -> bundle.Made:
    """The bundle of a command's package, made at ``into``. Raises BundleError, OSError, EventFailed."""
    package = _package(command, line.url)
    told = command.revision["package"]["format"]
    installer = installers(str(told))
    if installer is None:
        raise bundle.BundleError(f"packages of the format {told} are not installed as they are; name an asset of it")
    if package.document.runs_package_code and not settings.scripts:
        raise bundle.BundleError("scripts are switched off here, and the group says runPackageCode")
    log = ScriptLog(into.parent / "logs" / "native.log", line.now, lambda _: None)
    try:
        return make_bundle(package, installer, sources, into, log)
    finally:
        log.close()


def _package(command: Command, url: str) -> NativePackage:
    if not command.native:
        raise bundle.BundleError("the deployment group has no nativePackage, which says where packages are installed")
    try:
        document = parse_native(command.native)
        told = command.revision["package"]
        namespace, name, version, place, repository, format_ = (
            str(told[key]) for key in ("namespace", "name", "version", "domain", "repository", "format")
        )
        files = {str(each): str(digest) for each, digest in told["assets"].items()}
    except (InvalidDocument, KeyError, AttributeError) as error:
        raise bundle.BundleError(f"the revision cannot be read: {error}") from error
    return NativePackage(
        NativeVersion(namespace, name, version),
        files,
        f"{url.rstrip('/')}/{format_}/{place}/{repository}/",
        document,
        os.environ.get("REQUESTS_CA_BUNDLE", ""),
    )
