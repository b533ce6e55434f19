"""``entrepot destination``: registries elsewhere that versions are published to. Secrets come from stdin, and never out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("FORMAT", "format"),
    ("URL", "url"),
    ("INDEX", "indexUrl"),
    ("REPOSITORIES", "repositories"),
    ("CREDENTIAL", "hasCredential"),
    ("CHANGED", "updatedAt"),
    ("BY", "updatedBy"),
)


@click.group()
def destination() -> None:
    """Destinations of publishing: set, list, show, delete."""


@example("entrepot destination set ours https://registry.example/ --format FORMAT --repository default/prod --token")
@destination.command("set")
@click.argument("name")
@click.option("--format", "format_name", required=True, metavar="FORMAT", help="The packages' format.")
@click.argument("place", metavar="URL")
@click.option(
    "--index-url", default="", help="Where it is looked up what is there, if the upload's address is another."
)
@click.option(
    "--repository", "repositories", multiple=True, required=True, metavar="DOMAIN/NAME",
    help="Which repositories may publish there; * matches; repeatable.",
)  # fmt: skip
@click.option("--user", default="", help="Read a password for this user from stdin.")
@click.option("--token", "is_token", is_flag=True, help="Read a token from stdin, which is sent as Bearer.")
@click.option("--no-credential", is_flag=True, help="Take the credential away.")
@click.option(
    "--ca-bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Certificates (PEM) instead of the usual ones; an empty file brings those back.",
)  # fmt: skip
@json_option
@with_client
def set_destination(
    client: Client,
    name: str,
    *,
    format_name: str,
    place: str,
    index_url: str,
    repositories: tuple[str, ...],
    user: str,
    is_token: bool,
    no_credential: bool,
    ca_bundle: Path | None,
    as_json: bool,
) -> None:
    """Make a destination that versions are sent to, or change it; without --user and --token its credential stays as it is."""
    if sum((bool(user), is_token, no_credential)) > 1:
        raise click.UsageError("--user, --token and --no-credential exclude each other")
    body: dict[str, Any] = {
        "format": format_name,
        "url": place,
        "indexUrl": index_url,
        "repositories": list(repositories),
        "noCredential": no_credential,
    }
    if user or is_token:
        body |= {"user": user, "secret": _secret()}
    if ca_bundle is not None:
        body["caBundle"] = ca_bundle.read_text("utf-8")
    found = client.send("PUT", "destinations", name, body=body)
    if as_json:
        print_json(found)
        return
    say(f"destination {name} is set; {', '.join(found['repositories'])} may publish there")


def _secret() -> str:
    value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise click.UsageError("the secret is read from stdin, and there was none")
    return value


@example("entrepot destination list")
@destination.command("list")
@json_option
@with_client
def list_destinations(client: Client, *, as_json: bool) -> None:
    """List destinations by name; credentials are not shown."""
    print_rows(client.get("destinations")["items"], _COLUMNS, as_json=as_json)


@example("entrepot destination show partners")
@destination.command("show")
@click.argument("name")
@json_option
@with_client
def show_destination(client: Client, name: str, *, as_json: bool) -> None:
    """Show a destination; its credential is not shown."""
    print_record(client.get("destinations", name), _COLUMNS, as_json=as_json)


@example("entrepot destination delete partners")
@destination.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_destination(client: Client, name: str, *, as_json: bool) -> None:
    """Forget a destination with its credential."""
    client.send("DELETE", "destinations", name)
    if as_json:
        print_json({"name": name, "deleted": True})
        return
    say(f"destination {name} is deleted")
