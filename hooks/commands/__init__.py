"""Client commands of hooks: they talk HTTP to a server, and import neither its web framework nor its database."""

from __future__ import annotations

import click


def commands() -> list[click.Command]:
    """``pipeline``, ``build``, ``webhook``, ``secret`` and ``parameter``."""
    from hooks.commands.build import build
    from hooks.commands.build_lint import lint
    from hooks.commands.pipeline import pipeline
    from hooks.commands.secret import parameter, secret
    from hooks.commands.webhook import webhook

    build.add_command(lint)
    return [pipeline, build, webhook, secret, parameter]
