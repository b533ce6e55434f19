"""``entrepot pipeline``: connections to forges, and where they tell pipelines of pushes."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from registry.commands.client import Client, with_client
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, print_rows, say

_CONNECTIONS = (
    ("NAME", "name"),
    ("PROVIDER", "provider"),
    ("ADDRESS", "url"),
    ("REPOSITORY", "repository"),
    ("CREDENTIAL", "authType"),
    ("CREATED", "createdAt"),
)
_HOOKS = (
    ("ID", "id"),
    ("SOURCE", "action"),
    ("PROVIDER", "provider"),
    ("ADDRESS", "payloadUrl"),
    ("SECRET", "secretFingerprint"),
    ("CREATED", "createdAt"),
)


@click.group()
def connection() -> None:
    """Connections to forges: put, list, delete."""


@example(
    "entrepot pipeline connection put forge --forge-url https://forge.example --repository dev --token-from token.txt"
)
@connection.command()
@click.argument("name")
@click.option("--forge-url", "url", required=True, help="Repositories below this address are fetched with it.")
@click.option("--repository", type=REPOSITORY, required=True, help="Whose readers may see what comes from there.")
@click.option("--provider", default="generic", type=click.Choice(("github", "gitlab", "gitea", "generic")))
@click.option(
    "--token-from", "secret", type=click.File(encoding="utf-8"), help="File with the token or key; - for stdin."
)
@click.option("--username", default="", help="The user whose password or token it is.")
@click.option(
    "--known-hosts", type=click.File(encoding="utf-8"), help="It is an SSH key; this file has the host's keys."
)
@json_option
@with_client
def put(
    client: Client,
    name: str,
    *,
    url: str,
    repository: Place,
    provider: str,
    secret: IO[str] | None,
    username: str,
    known_hosts: IO[str] | None,
    as_json: bool,
) -> None:
    """Make a connection, or change it. What it fetches with is told to nobody again."""
    body: dict[str, object] = {
        "url": url,
        "domain": repository.domain,
        "repository": repository.repository,
        "provider": provider,
    }
    if secret is not None:
        kind = "SSH_KEY" if known_hosts is not None else "BASIC_AUTH" if username else "PERSONAL_ACCESS_TOKEN"
        text = secret.read()
        body["credential"] = {
            "authType": kind,
            "secret": text if kind == "SSH_KEY" else text.strip(),
            "username": username,
            "knownHosts": known_hosts.read() if known_hosts is not None else "",
        }
    made = client.send("PUT", "git-connections", name, body=body)
    if as_json:
        print_json(made)
        return
    say(f"connection {name} leads to {made['url']}, with {made['authType'] or 'no credential'}")


@example("entrepot pipeline connection list")
@connection.command("list")
@json_option
@with_client
def list_connections(client: Client, *, as_json: bool) -> None:
    """List connections."""
    print_rows(client.items("git-connections"), _CONNECTIONS, as_json=as_json)


@example("entrepot pipeline connection delete forge")
@connection.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_connection(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a connection with its credential; sources that name it fetch nothing from now on."""
    client.send("DELETE", "git-connections", name)
    say(f"connection {name} was deleted")
    if as_json:
        print_json({"name": name, "deleted": True})


@example("entrepot pipeline detach release")
@click.command()
@click.argument("pipeline")
@json_option
@with_client
def detach(client: Client, pipeline: str, *, as_json: bool) -> None:
    """Let a definition that comes from its source stay as it is, and be applied by hand again."""
    client.send("DELETE", "pipelines", pipeline, "definition-source")
    say(f"what is pushed changes pipeline {pipeline} no more")
    if as_json:
        print_json({"name": pipeline, "detached": True})


@click.group("webhook")
def pipeline_hook() -> None:
    """Where forges tell a pipeline of pushes: create, list, delete."""


@example("entrepot pipeline webhook create release --provider github")
@pipeline_hook.command()
@click.argument("pipeline")
@click.option("--provider", required=True, type=click.Choice(("github", "gitlab", "gitea", "generic", "hmac", "token")))
@click.option("--source", "action", default="", help="The source action, where there are several.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="JSONPATH=VALUE",
    help="Of hmac and token: what lies there has to be this; repeatable.",
)
@json_option
@with_client
def create(
    client: Client, pipeline: str, *, provider: str, action: str, filters: tuple[str, ...], as_json: bool
) -> None:
    """Make a webhook; prints its address and its secret, which is told this once."""
    for word in filters:
        if "=" not in word:
            raise click.UsageError(f"--filter {word!r}: write JSONPATH=VALUE")
    listed = [{"jsonPath": path, "matchEquals": value} for path, _, value in (each.partition("=") for each in filters)]
    body = {"provider": provider, "action": action, "filters": listed}
    made = client.send("POST", "pipelines", pipeline, "webhooks", body=body)
    if as_json:
        print_json(made)
        return
    click.echo(f"{made['payloadUrl']}\n{made['secret']}")
    say(f"let {provider} send JSON there, with that secret; it is not shown again")


@example("entrepot pipeline webhook list release")
@pipeline_hook.command("list")
@click.argument("pipeline")
@json_option
@with_client
def list_hooks(client: Client, pipeline: str, *, as_json: bool) -> None:
    """List a pipeline's webhooks."""
    print_rows(client.items("pipelines", pipeline, "webhooks"), _HOOKS, as_json=as_json)


@example("entrepot pipeline webhook delete release 0f3c…")
@pipeline_hook.command("delete")
@click.argument("pipeline")
@click.argument("hook_id", metavar="WEBHOOK")
@json_option
@with_client
def delete_hook(client: Client, pipeline: str, hook_id: str, *, as_json: bool) -> None:
    """Delete a webhook; its address answers 404 from now on."""
    client.send("DELETE", "pipelines", pipeline, "webhooks", hook_id)
    say(f"webhook {hook_id} was deleted")
    if as_json:
        print_json({"id": hook_id, "deleted": True})


@click.group("object")
def kept_object() -> None:
    """Objects that are kept for pipelines: put, list, and their buckets."""


_OBJECTS = (
    ("KEY", "key"),
    ("VERSION", "versionId"),
    ("SIZE", "sizeBytes"),
    ("SHA-256", "sha256"),
    ("BY", "createdBy"),
    ("CREATED", "createdAt"),
)


@example("entrepot pipeline object put releases site.zip ./site.zip")
@kept_object.command("put")
@click.argument("bucket")
@click.argument("key")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@with_client
def put_object(client: Client, bucket: str, key: str, file: Path, *, as_json: bool) -> None:
    """Store a file as a new version of an object; prints the version, and starts the pipelines that take it."""
    with file.open("rb") as body:
        path = ("source-buckets", bucket, "objects", *key.split("/"))
        made = client.send_file("PUT", *path, file=body, media_type="application/octet-stream")
    if as_json:
        print_json(made)
        return
    click.echo(made["versionId"])
    say(f"{bucket}/{key} has {made['sizeBytes']} bytes, SHA-256 {made['sha256']}")
    for execution in made["executions"]:
        say(f"execution {execution} has started")


@example("entrepot pipeline object list releases")
@kept_object.command("list")
@click.argument("bucket")
@json_option
@with_client
def list_objects(client: Client, bucket: str, *, as_json: bool) -> None:
    """List the objects of a bucket, each in its newest version."""
    print_rows(client.items("source-buckets", bucket, "objects"), _OBJECTS, as_json=as_json)


@example("entrepot pipeline object bucket releases --repository dev")
@kept_object.command("bucket")
@click.argument("name")
@click.option("--repository", type=REPOSITORY, help="Whose readers see what is in it.")
@click.option("--delete", "is_deleted", is_flag=True, help="Delete it with its objects.")
@json_option
@with_client
def bucket(client: Client, name: str, *, repository: Place | None, is_deleted: bool, as_json: bool) -> None:
    """Make a bucket, let it belong to another repository, or delete it."""
    if is_deleted == (repository is not None):
        raise click.UsageError("give --repository, or --delete")
    if repository is None:
        client.send("DELETE", "source-buckets", name)
        say(f"bucket {name} was deleted")
        if as_json:
            print_json({"name": name, "deleted": True})
        return
    body = {"domain": repository.domain, "repository": repository.repository}
    made = client.send("PUT", "source-buckets", name, body=body)
    if as_json:
        print_json(made)
        return
    say(f"bucket {name} belongs to {made['domain']}/{made['repository']}")
