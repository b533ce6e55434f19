"""Client commands, given what only the composition root may name: the formats' tools, and the data directory's tokens."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import cast

import click

import hooks.commands
import registry.commands
from config.cli.images import images
from config.cli.local_build import run as run_build
from config.cli.runner import register
from config.cli.runner import run as run_runner
from hooks.commands.package_life import life
from registry.format import Tool
from registry.formats import FORMATS
from registry.native import PackageInstaller


def _tools() -> Mapping[str, Mapping[str, Tool]]:
    return {name: importlib.import_module(f"registry.formats.{name}.login").TOOLS for name in FORMATS}


def _new_token(
    data: Path,
    name: str,
    *,
    actions: tuple[str, ...],
    repositories: tuple[str, ...],
    packages: tuple[str, ...],
    networks: tuple[str, ...],
    life: timedelta,
    label: str,
) -> tuple[str, str]:
    # Imported when used: it brings the database along, which no client command needs.
    from config.cli.care import new_token

    return new_token(
        data,
        name,
        actions=actions,
        repositories=repositories,
        packages=packages,
        networks=networks,
        life=life,
        label=label,
    )


def _installer(name: str) -> PackageInstaller | None:
    """What installs packages of a format on the machine of a deployment; None where nothing does."""
    place = f"registry.formats.{name}.native"
    if name not in FORMATS or importlib.util.find_spec(place) is None:
        return None
    found: PackageInstaller = importlib.import_module(place).INSTALLER
    return found


(login, token, repo, package, package_group, user, domain, policy, role, group, explain, advisory) = (
    registry.commands.commands(_tools(), _new_token)
)
pipeline, build, webhook, secret, parameter, deploy, runner, agent, apply, board, figures, destination = (
    hooks.commands.commands([run_build, images], [register, run_runner], _installer)
)
cast("click.Group", package).add_command(life)
