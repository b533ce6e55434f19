"""``entrepot deploy alarm``: alarms whose state is told from outside, by domain and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("STATE", "state"),
    ("REASON", "reason"),
    ("BY", "createdBy"),
    ("UPDATED", "updatedAt"),
)
_DOMAIN: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--domain", default="default", show_default=True, help="The alarm's domain."
)


@click.group()
def alarm() -> None:
    """Alarms that are told from outside, which stop the deployments that they watch over: list, tell, delete."""


@example("entrepot deploy alarm list --domain default")
@alarm.command("list")
@_DOMAIN
@json_option
@with_client
def list_alarms(client: Client, *, domain: str, as_json: bool) -> None:
    """List the alarms of a domain with their states."""
    print_rows(client.items("domains", domain, "deployment-alarms"), _COLUMNS, as_json=as_json)


@example("""entrepot deploy alarm tell pager ALARM --reason "too many errors"
entrepot deploy alarm tell pager OK""")
@alarm.command("tell")
@click.argument("name")
@click.argument("state", type=click.Choice(["OK", "ALARM", "INSUFFICIENT_DATA"]))
@click.option("--reason", default="", help="Why, for people.")
@_DOMAIN
@json_option
@with_client
def tell(client: Client, name: str, state: str, *, reason: str, domain: str, as_json: bool) -> None:
    """Tell the state of an alarm, which is made with the first one (CloudWatch's SetAlarmState)."""
    body = {"state": state, "reason": reason}
    found = client.send("PUT", "domains", domain, "deployment-alarms", name, body=body)
    if as_json:
        print_json(found)
    else:
        say(f"alarm {name} of domain {domain} is {state}")


@example("entrepot deploy alarm delete pager")
@alarm.command()
@click.argument("name")
@_DOMAIN
@json_option
@with_client
def delete(client: Client, name: str, *, domain: str, as_json: bool) -> None:
    """Forget an alarm; groups that name it have no data of it then."""
    client.send("DELETE", "domains", domain, "deployment-alarms", name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        say(f"alarm {name} of domain {domain} is forgotten")
