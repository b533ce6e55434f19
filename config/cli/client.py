"""Client commands, given what only the composition root may name: the formats' tools, and the data directory's tokens."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import click

import hooks.commands
import registry.commands
from config.cli.images import images
from registry.format import Tool
from registry.formats import FORMATS


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


(login, token, repo, package, package_group, domain, policy, role, group, explain) = registry.commands.commands(
    _tools(), _new_token
)
pipeline, _builds, webhook = hooks.commands.commands()


def _with_images(builds: click.Command) -> click.Group:
    # Images are made on the build machine itself: a part of the server, which is imported when it is used.
    known = builds.commands if isinstance(builds, click.Group) else {}
    return click.Group("build", {**known, "images": images}, help=builds.help)


build = _with_images(_builds)
