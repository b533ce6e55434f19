"""``entrepot repo``: repositories."""

from __future__ import annotations

from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.connection import connection
from registry.commands.options import REPOSITORY, SIZE, Place, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_COLUMNS = (
    ("DOMAIN", "domain"),
    ("NAME", "name"),
    ("UPSTREAMS", "upstreams"),
    ("PACKAGES", "packageCount"),
    ("DESCRIPTION", "description"),
)
_FIELDS = (
    ("domain", "domain"),
    ("name", "name"),
    ("description", "description"),
    ("upstreams", "upstreams"),
    ("external connections", "externalConnections"),
    ("packages", "packageCount"),
    ("anonymous reading", "anonymousRead"),
)


@click.group()
def repo() -> None:
    """Repositories: list, show, create, update, delete, endpoint, quota, connection."""


repo.add_command(connection)


@example("entrepot repo list --json")
@repo.command("list")
@json_option
@with_client
def list_repositories(client: Client, *, as_json: bool) -> None:
    """List the repositories you may read."""
    print_rows(client.items("repositories", limit=200), _COLUMNS, as_json=as_json)


@example("entrepot repo show prod")
@repo.command()
@click.argument("repository", type=REPOSITORY)
@json_option
@with_client
def show(client: Client, repository: Place, *, as_json: bool) -> None:
    """Show a repository: what it asks upstream, and who may read it."""
    print_record(_readable(client.get(*repository.path), as_json=as_json), _FIELDS, as_json=as_json)


@example("entrepot repo create tools --upstream public --description 'What our builds use'")
@repo.command()
@click.argument("repository", type=REPOSITORY)
@click.option("--description", default="", help="What it is for.")
@click.option("--upstream", "upstreams", multiple=True, metavar="NAME", help="Asked next, in this order; repeatable.")
@click.option(
    "--external",
    "external",
    multiple=True,
    metavar="FORMAT[=URL]",
    help="An index outside; without a URL the one the format's own tools point at. Repeatable.",
)
@click.option("--anonymous-read", is_flag=True, help="Let everybody read it.")
@json_option
@with_client
def create(
    client: Client,
    repository: Place,
    description: str,
    upstreams: tuple[str, ...],
    external: tuple[str, ...],
    *,
    anonymous_read: bool,
    as_json: bool,
) -> None:
    """Make a repository."""
    body = {
        "name": repository.repository,
        "description": description,
        "upstreams": list(upstreams),
        "externalConnections": {name: url or None for name, _, url in (word.partition("=") for word in external)},
        "anonymousRead": anonymous_read,
    }
    made = client.send("POST", "domains", repository.domain, "repositories", body=body)
    say(f"made {made['domain']}/{made['name']}")
    print_record(_readable(made, as_json=as_json), _FIELDS, as_json=as_json)


@example(
    "entrepot repo update staging --upstream dev --upstream public\nentrepot repo update staging --no-anonymous-read"
)
@repo.command()
@click.argument("repository", type=REPOSITORY)
@click.option("--description", help="What it is for.")
@click.option("--upstream", "upstreams", multiple=True, metavar="NAME", help="All it asks, in this order; repeatable.")
@click.option("--no-upstreams", is_flag=True, help="Ask no other repository.")
@click.option("--anonymous-read/--no-anonymous-read", default=None, help="Let everybody read it, or not any more.")
@json_option
@with_client
def update(
    client: Client,
    repository: Place,
    *,
    description: str | None,
    upstreams: tuple[str, ...],
    no_upstreams: bool,
    anonymous_read: bool | None,
    as_json: bool,
) -> None:
    """Change what is given and leave the rest. The upstreams given take the place of those before."""
    if upstreams and no_upstreams:
        raise click.UsageError("--upstream and --no-upstreams say different things")
    given = {
        "description": description,
        "upstreams": list(upstreams) if upstreams or no_upstreams else None,
        "anonymousRead": anonymous_read,
    }
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("say what is to change")
    changed = client.send("PATCH", *repository.path, body=body)
    say(f"changed {changed['domain']}/{changed['name']}")
    print_record(_readable(changed, as_json=as_json), _FIELDS, as_json=as_json)


@example("entrepot repo endpoint dev --format generic")
@repo.command()
@click.argument("repository", type=REPOSITORY)
@click.option("--format", "format_name", metavar="FORMAT", required=True, help="The clients' package format.")
@json_option
@with_client
def endpoint(client: Client, repository: Place, format_name: str, *, as_json: bool) -> None:
    """Print the address of a repository for the clients of a format."""
    found = client.get(*repository.path, "endpoint", format=format_name)
    if as_json:
        print_json(found)
    else:
        click.echo(found["repositoryEndpoint"])


@example("entrepot repo quota dev --set 50GiB")
@repo.command()
@click.argument("repository", type=REPOSITORY)
@click.option("--set", "bound", type=SIZE, metavar="SIZE", help="Most that may be published, like 50GiB.")
@click.option("--remove", is_flag=True, help="Let any amount be published.")
@json_option
@with_client
def quota(client: Client, repository: Place, bound: int | None, *, remove: bool, as_json: bool) -> None:
    """Show, set or remove the bound of what may be published in a repository."""
    if bound is not None and remove:
        raise click.UsageError("--set and --remove say different things")
    path = (*repository.path, "quota")
    changes = bound is not None or remove
    found = client.send("PUT", *path, body={"bytes": bound}) if changes else client.get(*path)
    print_record(found, (("quota in bytes", "bytes"), ("used bytes", "usedBytes")), as_json=as_json)


@example("entrepot repo delete tools")
@repo.command()
@click.argument("repository", type=REPOSITORY)
@click.option("--force", is_flag=True, help="Delete it with the packages in it.")
@json_option
@with_client
def delete(client: Client, repository: Place, *, force: bool, as_json: bool) -> None:
    """Delete a repository that no other one asks. Rights that named it end with it."""
    client.send("DELETE", *repository.path, force="true" if force else None)
    say(f"deleted {repository.domain}/{repository.repository}")
    if as_json:
        print_json({"domain": repository.domain, "name": repository.repository})


def _readable(record: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    if as_json:
        return record
    connections = [f"{entry['format']}={entry['url'] or 'default'}" for entry in record["connections"]]
    return {**record, "externalConnections": connections}
