"""``entrepot build project hook``: where a forge tells a project of pushes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
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
    ("STARTS", "buildType"),
    ("APPROVAL NEEDED BY", "pullRequestBuildPolicy.requiresCommentApproval"),
    ("CREATED", "createdAt"),
)
_POLICIES = ("FORK_PULL_REQUESTS", "ALL_PULL_REQUESTS", "DISABLED")
_WAITING = (
    ("HOOK", "hook"),
    ("PULL REQUEST", "trigger"),
    ("COMMIT", "commit"),
    ("SINCE", "receivedAt"),
)


def _settings(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what a hook does; the command gets them as ``said``, what is to be sent."""

    @functools.wraps(command)
    def called(*arguments: Any, **given: Any) -> None:
        names = ("filters", "build_type", "policy", "roles", "accounts")
        command(*arguments, said=_said(**{name: given.pop(name) for name in names}), **given)

    for option in (
        click.option(
            "--approver",
            "accounts",
            multiple=True,
            help="Account id of the forge; may be given several times, '' for none.",
        ),
        click.option(
            "--approver-role", "roles", multiple=True, help="CodeBuild's approverRoles: GITHUB_ADMIN …; '' for none."
        ),
        click.option(
            "--approval",
            "--by-hand",
            "policy",
            type=click.Choice(_POLICIES),
            help="Pull requests that wait for an approver's comment.",
        ),
        click.option(
            "--build-type", type=click.Choice(("BUILD", "BUILD_BATCH")), help="A build (default), or a batch build."
        ),
        click.option(
            "--filters", type=click.File(encoding="utf-8"), help="CodeBuild's filterGroups as JSON; - for stdin."
        ),
    ):
        called = option(called)
    return called


@click.group()
def hook() -> None:
    """Hooks of pushes: list, create, change, delete, waiting."""


@example("entrepot build project hook list unit")
@hook.command("list")
@click.argument("project")
@json_option
@with_client
def list_hooks(client: Client, project: str, *, as_json: bool) -> None:
    """List a project's hooks."""
    print_rows(client.items("build-projects", project, "webhooks"), _COLUMNS, as_json=as_json)


@example("entrepot build project hook waiting unit")
@hook.command()
@click.argument("project")
@json_option
@with_client
def waiting(client: Client, project: str, *, as_json: bool) -> None:
    """List pull requests that wait for an approver's comment."""
    hooks = client.items("build-projects", project, "webhooks")
    rows = [{"hook": each["id"], **one} for each in hooks for one in each["waiting"]]
    print_rows(rows, _WAITING, as_json=as_json)


@example("entrepot build project hook create unit --provider github --approver 4711")
@hook.command()
@click.argument("project")
@click.option("--provider", required=True, type=click.Choice(("github", "gitlab", "gitea", "generic")))
@_settings
@json_option
@with_client
def create(client: Client, project: str, *, provider: str, said: dict[str, Any], as_json: bool) -> None:
    """Make a hook; prints its address and its secret, which is told this once."""
    body = {"provider": provider, **said}
    _tell(client.send("POST", "build-projects", project, "webhooks", body=body), as_json=as_json)


@example("entrepot build project hook change unit 0f3c…  --rotate-secret")
@hook.command()
@click.argument("project")
@click.argument("hook_id", metavar="HOOK")
@_settings
@click.option("--rotate-secret", is_flag=True, help="A new secret; the old one ends at once.")
@json_option
@with_client
def change(
    client: Client,
    project: str,
    hook_id: str,
    *,
    said: dict[str, Any],
    rotate_secret: bool,
    as_json: bool,
) -> None:
    """Change a hook's filters, what it starts or its policy, or give it a new secret."""
    body = {"rotateSecret": rotate_secret, **said}
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


def _said(
    filters: IO[str] | None,
    build_type: str | None,
    policy: str | None,
    roles: Sequence[str],
    accounts: Sequence[str],
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if filters is not None:
        try:
            said["filterGroups"] = json.load(filters)
        except ValueError as error:
            raise Failed(f"the filters cannot be read: {error}") from error
    if build_type is not None:
        said["buildType"] = build_type
    approval: dict[str, Any] = {} if policy is None else {"requiresCommentApproval": policy}
    for name, given in (("approverRoles", roles), ("approverAccountIds", accounts)):
        if given:
            approval[name] = [each for each in given if each]
    if approval:
        said["pullRequestBuildPolicy"] = approval
    return said


def _tell(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(f"{made['payloadUrl']}\t{made['secret'] or ''}")
