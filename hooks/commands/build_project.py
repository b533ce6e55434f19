"""``entrepot build project``: what is built, from where, and with which credential."""

from __future__ import annotations

from typing import IO, Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("REPOSITORY", "repository"),
    ("SOURCE", "sourceType"),
    ("LOCATION", "location"),
    ("DESCRIPTION", "description"),
    ("UPDATED", "updatedAt"),
)


@click.group()
def project() -> None:
    """Build projects: apply, list, show, delete, and the credentials of their sources."""


@example("entrepot build project apply project.yml")
@project.command()
@click.argument("document", metavar="FILE", type=click.File(encoding="utf-8"))
@click.option("--name", help="The project's name, where the document has none.")
@json_option
@with_client
def apply(client: Client, document: IO[str], *, name: str | None, as_json: bool) -> None:
    """Create or update a project from CodeBuild's project document (YAML or JSON; - for stdin)."""
    text = document.read()
    saved = client.send("PUT", "build-projects", name or _name_in(text), body={"document": text})
    for warning in saved["warnings"]:
        say(f"warning: {warning}")
    if as_json:
        print_json(saved)
        return
    click.echo(f"{saved['name']}\t{saved['change']}")


@example("entrepot build project list")
@project.command("list")
@json_option
@with_client
def list_projects(client: Client, *, as_json: bool) -> None:
    """List projects."""
    print_rows(client.items("build-projects", limit=100), _COLUMNS, as_json=as_json)


@example("entrepot build project show unit")
@project.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, *, as_json: bool) -> None:
    """Print a project's document as JSON, ready to be applied again; with --json all that is known of it."""
    found = client.get("build-projects", name)
    print_json(found if as_json else found["document"])


@example("entrepot build project delete unit")
@project.command()
@click.argument("name")
@json_option
@with_client
def delete(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a project with its credentials, uploads and hooks. Its builds stay."""
    client.send("DELETE", "build-projects", name)
    say(f"build project {name} was deleted")
    if as_json:
        print_json({"name": name, "deleted": True})


@example("entrepot build project credential unit --token-from token.txt")
@project.command()
@click.argument("name")
@click.option(
    "--token-from", "secret", type=click.File(encoding="utf-8"), help="File with the token or key; - for stdin."
)
@click.option("--username", default="", help="The user whose password or token it is.")
@click.option(
    "--known-hosts", type=click.File(encoding="utf-8"), help="It is an SSH key; this file has the host's keys."
)
@click.option("--source", "identifier", default="", metavar="ID", help="Of which secondary source.")
@click.option("--remove", is_flag=True, help="Forget the credential.")
@json_option
@with_client
def credential(
    client: Client,
    name: str,
    *,
    secret: IO[str] | None,
    username: str,
    known_hosts: IO[str] | None,
    identifier: str,
    remove: bool,
    as_json: bool,
) -> None:
    """Give a git source the credential it is fetched with. It is told to nobody again."""
    if remove == (secret is not None):
        raise click.UsageError("give --token-from FILE, or --remove")
    if secret is None:
        client.send("DELETE", "build-projects", name, "source-credential", sourceIdentifier=identifier or None)
        if as_json:
            print_json({"name": name, "sourceIdentifier": identifier, "removed": True})
        return
    kind = "SSH_KEY" if known_hosts is not None else "BASIC_AUTH" if username else "PERSONAL_ACCESS_TOKEN"
    text = secret.read()
    body: dict[str, Any] = {
        "authType": kind,
        "token": text if kind == "SSH_KEY" else text.partition("\n")[0].strip(),
        "username": username,
        "knownHosts": known_hosts.read() if known_hosts is not None else "",
        "sourceIdentifier": identifier,
    }
    saved = client.send("PUT", "build-projects", name, "source-credential", body=body)
    say(f"{identifier or 'the source'} of {name} is fetched with a {kind}")
    if as_json:
        print_json(saved)


def _name_in(text: str) -> str:
    """The name that stands in a document: it is a part of the address that the document is sent to."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Failed(f"the document cannot be read: {error}") from error
    if isinstance(found, dict) and len(found) == 1:
        inner = next(iter(found.values()))
        found = inner if isinstance(inner, dict) else found
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str):
        raise click.UsageError("the document has no name; give --name")
    return name
