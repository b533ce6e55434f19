"""Client commands of hooks: they talk HTTP to a server, and import neither its web framework nor its database."""

from __future__ import annotations

import click


def commands() -> list[click.Command]:
    """``pipeline``, ``build`` and ``webhook``."""
    from hooks.commands.build import build
    from hooks.commands.build_project import project
    from hooks.commands.build_start import retry, start
    from hooks.commands.pipeline import pipeline
    from hooks.commands.webhook import webhook

    for command in (start, retry, project):
        build.add_command(command)
    return [pipeline, build, webhook]
