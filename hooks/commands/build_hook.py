"""``entrepot build project hook``: where a forge tells a project of pushes."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("ID", "id"),
    ("PROVIDER", "provider"),
    ("ADDRESS", "payloadUrl"),
    ("SECRET", "secretFingerprint"),
    ("PULL REQUESTS BY HAND", "pullRequestBuildPolicy.requiresCommentApproval"),
    ("CREATED", "createdAt"),
)
_POLICIES = ("FORK_PULL_REQUESTS", "ALL_PULL_REQUESTS", "DISABLED")
_filters = click.option(
    "--filters", type=click.File(encoding="utf-8"), help="CodeBuild's filterGroups as JSON; - for stdin."
)
_by_hand = click.option(
    "--by-hand", "policy", type=click.Choice(_POLICIES), help="Pull requests that are not built alone."
)


@click.group()
def hook() -> None:
    """Hooks of pushes: list, create, change, delete."""


@example("entrepot build project hook list unit")
@hook.command("list")
@click.argument("project")
@json_option
@with_client
def list_hooks(client: Client, project: str, *, as_json: bool) -> None:
    """List a project's hooks."""
    print_rows(client.items("build-projects", project, "webhooks"), _COLUMNS, as_json=as_json)


@example("entrepot build project hook create unit --provider github")
@hook.command()
@click.argument("project")
@click.option("--provider", required=True, type=click.Choice(("github", "gitlab", "gitea", "generic")))
@_filters
@_by_hand
@json_option
@with_client
def create(
    client: Client, project: str, *, provider: str, filters: IO[str] | None, policy: str | None, as_json: bool
) -> None:
    """Make a hook; prints its address and its secret, which is told this once."""
    body = {"provider": provider, **_said(filters, policy)}
    _tell(client.send("POST", "build-projects", project, "webhooks", body=body), as_json=as_json)


@example("entrepot build project hook change unit 0f3c…  --rotate-secret")
@hook.command()
@click.argument("project")
@click.argument("hook_id", metavar="HOOK")
@_filters
@_by_hand
@click.option("--rotate-secret", is_flag=True, help="A new secret; the old one ends at once.")
@json_option
@with_client
def change(
    client: Client,
    project: str,
    hook_id: str,
    *,
    filters: IO[str] | None,
    policy: str | None,
    rotate_secret: bool,
    as_json: bool,
) -> None:
    """Change a hook's filters or policy, or give it a new secret."""
    body = {"rotateSecret": rotate_secret, **_said(filters, policy)}
    _tell(client.send("PATCH", "build-projects", project, "webhooks", hook_id, body=body), as_json=as_json)


@example("entrepot build project hook delete unit 0f3c…")
@hook.command()
@click.argument("project")
@click.argument("hook_id", metavar="HOOK")
@json_option
@with_client
def delete(client: Client, project: str, hook_id: str, *, as_json: bool) -> None:
    """Delete a hook."""
    client.send("DELETE", "build-projects", project, "webhooks", hook_id)
    say(f"hook {hook_id} was deleted")
    if as_json:
        print_json({"id": hook_id, "deleted": True})


def _said(filters: IO[str] | None, policy: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if filters is not None:
        try:
            said["filterGroups"] = json.load(filters)
        except ValueError as error:
            raise Failed(f"the filters cannot be read: {error}") from error
    if policy is not None:
        said["pullRequestBuildPolicy"] = {"requiresCommentApproval": policy}
    return said


def _tell(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(f"{made['payloadUrl']}\t{made['secret'] or ''}")
