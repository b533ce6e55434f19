"""``entrepot user``: accounts, as an administrator sees and ends them over the server's interface."""

from __future__ import annotations

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("MAY", "actions"),
    ("DISABLED", "isDisabled"),
    ("SERVICE", "isService"),
    ("SECOND FACTOR", "hasSecondFactor"),
    ("REPOSITORIES", "repositories"),
    ("GROUPS", "groups"),
    ("ROLES", "roleCount"),
    ("LAST SIGN-IN", "lastSignInAt"),
    ("LAST USED", "lastUsedAt"),
    ("CREATED", "createdAt"),
)
_ON_TERMINAL = ("NAME", "MAY", "DISABLED", "LAST USED", "GROUPS", "LAST SIGN-IN", "SERVICE", "SECOND FACTOR", "ROLES")


@click.group()
def user() -> None:
    """Users: list, disable, enable, delete."""


@example("entrepot user list --state disabled\nentrepot user list --group release-managers --json")
@user.command("list")
@click.option("--search", metavar="TEXT", help="A part of the name.")
@click.option("--state", type=click.Choice(["active", "disabled"]), help="Only these.")
@click.option("--kind", type=click.Choice(["person", "service"]), help="Only these.")
@click.option("--group", metavar="NAME", help="Only members of this group.")
@json_option
@with_client
def list_users(
    client: Client, search: str | None, state: str | None, kind: str | None, group: str | None, *, as_json: bool
) -> None:
    """List accounts (administrators)."""
    found = client.items("users", search=search, state=state, kind=kind, group=group, limit=200)
    print_rows(found, _COLUMNS, as_json=as_json, on_terminal=_ON_TERMINAL)


@example("entrepot user disable alice")
@user.command()
@click.argument("name")
@json_option
@with_client
def disable(client: Client, name: str, *, as_json: bool) -> None:
    """Shut an account out: none of its tokens and browsers counts from now on. Nothing is deleted."""
    _switch(client, name, is_disabled=True, as_json=as_json)


@example("entrepot user enable alice")
@user.command()
@click.argument("name")
@json_option
@with_client
def enable(client: Client, name: str, *, as_json: bool) -> None:
    """Let an account in again, with the rights and tokens it had."""
    _switch(client, name, is_disabled=False, as_json=as_json)


def _switch(client: Client, name: str, *, is_disabled: bool, as_json: bool) -> None:
    changed = client.send("PATCH", "users", name, body={"isDisabled": is_disabled})
    say(f"user {name} is {'disabled' if is_disabled else 'enabled'}")
    if as_json:
        print_json(changed)


@example("entrepot user delete alice --yes")
@user.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_client
def delete(client: Client, name: str, *, yes: bool, as_json: bool) -> None:
    """Delete an account with its tokens, browsers, memberships and roles. What it published stays."""
    if not yes:
        detail = client.get("users", name)
        what = f"{detail['tokenCount']} tokens and {len(detail['roles'])} roles"
        click.confirm(f"Delete user {name} with {what} for good?", abort=True, err=True)
    client.send("DELETE", "users", name)
    say(f"user {name} is deleted")
    if as_json:
        print_json({"name": name, "deleted": True})
