"""``entrepot``: the one command."""

from __future__ import annotations

import importlib
from typing import Any

import click

# Name → (module, attribute). What serves is imported only by the commands that serve.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("config.cli.server", "serve"),
    "worker": ("config.cli.server", "worker"),
    "migrate": ("config.cli.server", "migrate_command"),
    "check-config": ("config.cli.server", "check_config"),
    "fsck": ("config.cli.care", "fsck_command"),
    "sweep": ("config.cli.care", "sweep_command"),
    "keys": ("config.cli.care", "keys"),
    "user": ("config.cli.care", "user"),
    "login": ("config.cli.client", "login"),
    "token": ("config.cli.client", "token"),
    "repo": ("config.cli.client", "repo"),
    "package": ("config.cli.client", "package"),
    "pipeline": ("config.cli.client", "pipeline"),
    "build": ("config.cli.client", "build"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        _ = ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported now."""
        _ = ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: Any = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="entrepot", prog_name="entrepot")
def main() -> None:
    """Entrepot: a package registry with builds, approvals and promotion in it.

    Server commands take --data DIR (or ENTREPOT_DATA); client commands read ENTREPOT_URL and ENTREPOT_TOKEN.

    Example: entrepot serve --data ./data
    """


if __name__ == "__main__":
    main()
