"""``entrepot user``: over the server's interface, and on the data directory itself where nobody can sign in."""

from __future__ import annotations

import importlib
from typing import Any

import click

from config.cli.client import user as over_http

# Imported when one is used: they bring the database along, which the others do not need.
ON_DATA = {
    "create": "user_create",
    "password": "user_password",
    "login-link": "user_login_link",
    "recover": "user_recover",
}
assert isinstance(over_http, click.Group)
_OVER_HTTP: click.Group = over_http


class UserGroup(click.Group):
    """The commands of both kinds under one name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, those on the data directory last."""
        return [*_OVER_HTTP.list_commands(ctx), *ON_DATA]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in ON_DATA:
            return _OVER_HTTP.get_command(ctx, cmd_name)
        command: Any = getattr(importlib.import_module("config.cli.care"), ON_DATA[cmd_name])
        return command if isinstance(command, click.Command) else None


@click.group(cls=UserGroup)
def user() -> None:
    """Users. List, disable, enable and delete ask the server; the others work on its data directory.

    Example: entrepot user create alice --data /var/lib/entrepot --action read --action publish
    """
