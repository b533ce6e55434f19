"""``entrepot runner``: runners on the server, for administrators."""

from __future__ import annotations

from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("STATE", "state"),
    ("HOST", "host"),
    ("VERSION", "version"),
    ("ENVIRONMENTS", "environments"),
    ("SLOTS", "slots"),
    ("BUILDS", "building"),
    ("PROJECTS", "projects"),
    ("DOMAINS", "domains"),
    ("SEEN", "seenAt"),
)


@click.group()
def runner() -> None:
    """Runners of builds on other machines: add, list, show, revoke, delete, register, run."""


@example("entrepot runner add big-machine --project release")
@runner.command()
@click.argument("name")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="Only builds of this project; repeatable.")
@click.option(
    "--domain", "domains", multiple=True, metavar="NAME", help="Only builds of sources in this domain; repeatable."
)
@json_option
@with_client
def add(client: Client, name: str, projects: tuple[str, ...], domains: tuple[str, ...], *, as_json: bool) -> None:
    """Make a runner, and print the token that `entrepot runner register` takes: once, within the hour."""
    _print_token(client.send("POST", "runners", body={"name": name, "projects": projects, "domains": domains}), as_json)


@example("entrepot runner token big-machine")
@runner.command()
@click.argument("name")
@json_option
@with_client
def token(client: Client, name: str, *, as_json: bool) -> None:
    """Print another registration token: for a runner that lost its identity, or is to get a new one."""
    _print_token(client.send("POST", "runners", name, "registration-token"), as_json)


def _print_token(given: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(given)
        return
    click.echo(given["registrationToken"])
    say(f"good once, until {given['expiresAt']}, for: entrepot runner register --url … --data DIR --token -")


@example("entrepot runner list")
@runner.command("list")
@json_option
@with_client
def list_(client: Client, *, as_json: bool) -> None:
    """List the runners, with what each does now."""
    found = list(client.items("runners"))
    print_rows(found if as_json else [_row(each) for each in found], _COLUMNS, as_json=as_json)


@example("entrepot runner show big-machine")
@runner.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, *, as_json: bool) -> None:
    """Show a runner."""
    found = client.get("runners", name)
    if as_json:
        print_json(found)
    else:
        print_rows([_row(found)], _COLUMNS, as_json=False)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    building = [f"{each['project']}:{each['number']}" for each in found["builds"]]
    joined = {name: ", ".join(found[name]) for name in ("environments", "projects", "domains")}
    return {**found, **joined, "building": ", ".join(building)}


@example("entrepot runner revoke big-machine")
@runner.command()
@click.argument("name")
@json_option
@with_client
def revoke(client: Client, name: str, *, as_json: bool) -> None:
    """Take nothing from a runner any more, from its next request on; what it runs goes to others."""
    found = client.send("POST", "runners", name, "revoke")
    if as_json:
        print_json(found)
    else:
        say(f"runner {name} is revoked")


@example("entrepot runner delete big-machine")
@runner.command()
@click.argument("name")
@json_option
@with_client
def delete(client: Client, name: str, *, as_json: bool) -> None:
    """Revoke a runner and forget it."""
    client.send("DELETE", "runners", name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        say(f"runner {name} is deleted")
