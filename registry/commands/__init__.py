"""Client commands: they talk HTTP to a server, and import neither its web framework nor its database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from registry.commands.token import NewTokenOnData
    from registry.format import Tool


def commands(tools: Mapping[str, Mapping[str, Tool]], new_token_on_data: NewTokenOnData) -> list[click.Command]:
    """``login``, ``token``, ``repo``, ``package``, ``package-group``, those of access: ``user`` … ``explain``, ``advisory``.

    ``tools``: format → name → client tool. ``new_token_on_data`` makes a token on a data directory, without a server.
    """
    from registry.commands.access import domain, explain, group, policy, role
    from registry.commands.advisory import advisory
    from registry.commands.login import login_command
    from registry.commands.package_group import package_group
    from registry.commands.repo import repo
    from registry.commands.token import token_group
    from registry.commands.user import user
    from registry.commands.versions import package

    access = [user, domain, policy, role, group, explain, advisory]
    return [login_command(tools), token_group(new_token_on_data), repo, package, package_group, *access]
