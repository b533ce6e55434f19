"""``entrepot agent``: agents of deployments on the server, for administrators."""

from __future__ import annotations

from typing import Any

import click

from hooks.commands.package_life import print_provenance
from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("STATE", "state"),
    ("HOST", "host"),
    ("VERSION", "version"),
    ("TAGS", "tagged"),
    ("DOMAINS", "domains"),
    ("ZONE", "zone"),
    ("ADDRESS", "address"),
    ("GROUPS", "groups"),
    ("SEEN", "seenAt"),
    ("ALARM", "alarm"),
)
_tags = click.option(
    "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag that deployment groups find it by; repeatable."
)
_domains = click.option(
    "--domain", "domains", multiple=True, metavar="NAME", help="Only applications of this domain; repeatable."
)
_zone = click.option("--zone", metavar="NAME", help="Where it stands: zones fail one at a time.")
_address = click.option("--address", metavar="IP:PORT", help="Where the application answers on this machine.")


@click.group()
def agent() -> None:
    """Agents of deployments: add, list, show, tag, revoke, delete; enrol, run, status on a machine."""


def pairs(tags: tuple[str, ...]) -> list[dict[str, str]]:
    """``KEY=VALUE`` as the interface has it; a key alone has an empty value."""
    found = []
    for tag in tags:
        key, _, value = tag.partition("=")
        if not key:
            raise click.UsageError(f"{tag!r}: write KEY=VALUE")
        found.append({"key": key, "value": value})
    return found


@example("entrepot agent add web-1 --tag role=web --tag stage=prod")
@agent.command()
@click.argument("name")
@_tags
@_domains
@_zone
@_address
@json_option
@with_client
def add(
    client: Client,
    name: str,
    tags: tuple[str, ...],
    domains: tuple[str, ...],
    zone: str | None,
    address: str | None,
    *,
    as_json: bool,
) -> None:
    """Make an agent, and print the token that `entrepot agent enrol` takes: once, within 15 minutes."""
    body = {"name": name, "tags": pairs(tags), "domains": domains, "zone": zone or "", "address": address or ""}
    _print_token(client, client.send("POST", "agents", body=body), as_json)


@example("entrepot agent token web-1")
@agent.command()
@click.argument("name")
@json_option
@with_client
def token(client: Client, name: str, *, as_json: bool) -> None:
    """Print another enrolment token: for an agent that lost its key, or is to get a new one."""
    _print_token(client, client.send("POST", "agents", name, "enrolment-token"), as_json)


def _print_token(client: Client, given: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(given)
        return
    click.echo(given["enrolmentToken"])
    say(f"good once, until {given['expiresAt']}, on the machine, for:")
    say(f"entrepot agent enrol --url {client.url} --server-key {given['serverKeyId']} --data DIR --token -")


@example("entrepot agent list")
@agent.command("list")
@json_option
@with_client
def list_(client: Client, *, as_json: bool) -> None:
    """List the agents, with what each has installed."""
    found = list(client.items("agents"))
    print_rows(found if as_json else [_row(each) for each in found], _COLUMNS, as_json=as_json)


@example("entrepot agent show web-1")
@agent.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, *, as_json: bool) -> None:
    """Show an agent, and what is installed on its machine: by which deployment and execution, approved by whom, built of what.

    With --json that stands under "provenance".
    """
    found = client.get("agents", name)
    if as_json:
        print_json({**found, "provenance": client.get("agents", name, "provenance")["items"]})
        return
    print_rows([_row(found)], _COLUMNS, as_json=False)
    if found["installations"]:
        print_provenance(client, "agents", name)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_rows([_row(found)], _COLUMNS, as_json=False)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    tagged = ", ".join(f"{tag['key']}={tag['value']}" for tag in found["tags"])
    groups = [
        f"{each['applicationName']}/{each['deploymentGroupName']}: {each['deploymentId']}"
        for each in found["installations"]
    ]
    return {**found, "tagged": tagged, "domains": ", ".join(found["domains"]), "groups": ", ".join(groups)}


@example("entrepot agent tag web-1 role=web stage=prod")
@agent.command()
@click.argument("name")
@click.argument("tags", nargs=-1, metavar="[KEY=VALUE]...")
@_domains
@_zone
@_address
@json_option
@with_client
def tag(
    client: Client,
    name: str,
    tags: tuple[str, ...],
    domains: tuple[str, ...],
    zone: str | None,
    address: str | None,
    *,
    as_json: bool,
) -> None:
    """Set tags of an agent, and what else is given; the rest stays as it is."""
    change = {"domains": domains or None, "zone": zone, "address": address}
    _print(client.send("PATCH", "agents", name, body={"tags": pairs(tags), **change}), as_json)


@example("entrepot agent untag web-1 stage")
@agent.command()
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@json_option
@with_client
def untag(client: Client, name: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Take tags away from an agent, by their keys."""
    _print(client.send("PATCH", "agents", name, body={"untag": keys}), as_json)


@example("entrepot agent clear-alarm web-1")
@agent.command("clear-alarm")
@click.argument("name")
@json_option
@with_client
def clear_alarm(client: Client, name: str, *, as_json: bool) -> None:
    """Note that somebody has looked at an agent's alarm."""
    found = client.send("DELETE", "agents", name, "alarm")
    if as_json:
        print_json(found)
    else:
        say(f"agent {name} has no alarm any more")


@example("entrepot agent revoke web-1")
@agent.command()
@click.argument("name")
@json_option
@with_client
def revoke(client: Client, name: str, *, as_json: bool) -> None:
    """Take nothing from an agent any more, from its next request on; what it had begun has failed."""
    found = client.send("POST", "agents", name, "revoke")
    if as_json:
        print_json(found)
    else:
        say(f"agent {name} is revoked")


@example("entrepot agent delete web-1")
@agent.command()
@click.argument("name")
@json_option
@with_client
def delete(client: Client, name: str, *, as_json: bool) -> None:
    """Revoke an agent and forget it."""
    client.send("DELETE", "agents", name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        say(f"agent {name} is deleted")
