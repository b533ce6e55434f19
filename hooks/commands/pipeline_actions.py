"""``entrepot pipeline action-type`` and ``entrepot pipeline action-webhook``: actions that others carry out."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_TYPES = (
    ("CATEGORY", "id.category"),
    ("OWNER", "id.owner"),
    ("PROVIDER", "id.provider"),
    ("VERSION", "id.version"),
    ("WORKERS", "workers"),
)
_WEBHOOKS = (
    ("NAME", "name"),
    ("SECRET", "secretFingerprint"),
    ("BY", "createdBy"),
    ("CHANGED", "updatedAt"),
    ("DESCRIPTION", "description"),
)


@click.group("action-type")
def action_type() -> None:
    """Types of actions: create, list, delete."""


@example("entrepot pipeline action-type create -f signer.json")
@action_type.command()
@click.option("-f", "--file", "document", required=True, type=click.File(encoding="utf-8"), help="- for stdin.")
@click.option("--worker", "workers", multiple=True, metavar="ACCOUNT", help="May serve it; repeatable.")
@json_option
@with_client
def create(client: Client, document: IO[str], workers: tuple[str, ...], *, as_json: bool) -> None:
    """Make a custom action type from a document of CodePipeline's CreateCustomActionType (JSON)."""
    try:
        body: Any = json.load(document)
    except ValueError as error:
        raise Failed(f"{document.name} is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Failed(f"{document.name} is no JSON object")
    body.pop("tags", None)
    made = client.send("POST", "action-types", body={**body, **({"workers": workers} if workers else {})})
    if as_json:
        print_json(made)
        return
    say(f"made {_name(made)}; its workers: {', '.join(made['workers']) or 'administrators alone'}")


@example("entrepot pipeline action-type list --owner Custom")
@action_type.command("list")
@click.option("--owner", type=click.Choice(("AWS", "Entrepot", "Custom")), help="Only those of this owner.")
@json_option
@with_client
def list_types(client: Client, owner: str | None, *, as_json: bool) -> None:
    """List what actions can be."""
    print_rows(client.items("action-types", owner=owner), _TYPES, as_json=as_json)


@example("entrepot pipeline action-type delete Build/Signer/1")
@action_type.command()
@click.argument("name", metavar="CATEGORY/PROVIDER/VERSION")
@json_option
@with_client
def delete(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a custom action type: nobody gets its jobs any more, and its version cannot be made anew."""
    parts = name.split("/")
    if len(parts) != 3 or not all(parts):
        raise click.UsageError(f"{name!r}: write CATEGORY/PROVIDER/VERSION")
    client.send("DELETE", "action-types", *parts)
    if as_json:
        print_json({"deleted": name})
        return
    say(f"deleted {name}")


@click.group("action-webhook")
def action_webhook() -> None:
    """Where actions of the provider Webhook send their jobs: put, list, delete."""


@example("entrepot pipeline action-webhook put robot https://robot.example/jobs")
@action_webhook.command()
@click.argument("name")
@click.argument("address", metavar="ADDRESS")
@click.option("--secret-file", type=click.File(encoding="utf-8"), help="Its secret (whsec_…); - for stdin.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@json_option
@with_client
def put(
    client: Client, name: str, address: str, secret_file: IO[str] | None, description: str | None, *, as_json: bool
) -> None:
    """Make a webhook, or give it another address and secret; prints a new secret, this once."""
    body: dict[str, Any] = {"url": address, "description": description}
    if secret_file is not None:
        body["secret"] = secret_file.readline().strip()
    made = client.send("PUT", "action-webhooks", name, body=body)
    if as_json:
        print_json(made)
        return
    if made["secret"]:
        click.echo(made["secret"])
    say(f"actions can name it: WebhookName: {name}")


@example("entrepot pipeline action-webhook list")
@action_webhook.command("list")
@json_option
@with_client
def list_webhooks(client: Client, *, as_json: bool) -> None:
    """List the webhooks of actions. Where they lead is told nobody."""
    print_rows(client.items("action-webhooks"), _WEBHOOKS, as_json=as_json)


@example("entrepot pipeline action-webhook delete robot")
@action_webhook.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_webhook(client: Client, name: str, *, as_json: bool) -> None:
    """Remove a webhook: actions that name it fail from here on."""
    client.send("DELETE", "action-webhooks", name)
    if as_json:
        print_json({"deleted": name})
        return
    say(f"deleted {name}")


def _name(made: dict[str, Any]) -> str:
    return f"{made['id']['category']}/{made['id']['provider']}/{made['id']['version']}"
