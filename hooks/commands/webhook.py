"""``entrepot webhook``: who outside is told of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import DURATION, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_FIELDS = (
    ("ID", "id"),
    ("URL", "url"),
    ("PAYLOAD", "payload"),
    ("KINDS", "kinds"),
    ("DOMAIN", "domain"),
    ("REPOSITORY", "repository"),
    ("FORMAT", "format"),
    ("PACKAGE", "package"),
    ("ENABLED", "isEnabled"),
    ("WHY NOT", "disabledReason"),
    ("OWNER", "owner"),
    ("SECRET", "secretFingerprint"),
)
_ON_TERMINAL = (
    "ID",
    "URL",
    "KINDS",
    "ENABLED",
    "PAYLOAD",
    "DOMAIN",
    "REPOSITORY",
    "FORMAT",
    "PACKAGE",
    "OWNER",
    "WHY NOT",
)
_DELIVERIES = (
    ("ID", "id"),
    ("KIND", "kind"),
    ("SUBJECT", "subject"),
    ("STATE", "state"),
    ("ATTEMPTS", "attempts"),
    ("REASON", "reason"),
    ("CREATED", "createdAt"),
    ("NEXT", "dueAt"),
)
_TOLD = ("ID", "STATE", "KIND", "ATTEMPTS", "CREATED", "SUBJECT", "REASON", "NEXT")
_FILTERS = (
    click.option("--kind", "kinds", multiple=True, metavar="PATTERN", help="Kinds of events, with *; repeatable."),
    click.option("--domain", help="Events of this domain; without it of the whole server."),
    click.option("--repository", metavar="PATTERN", help="Events of these repositories, with *."),
    click.option("--format", "format", metavar="PATTERN", help="Events of packages of this format."),
    click.option("--package", metavar="PATTERN", help="Events of these packages, with *."),
    click.option("--description", metavar="TEXT", help="What it is for."),
    click.option(
        "--payload",
        type=click.Choice(["CloudEvents", "EventBridge", "Chat"]),
        help="What is sent: CloudEvents, as AWS's services tell of themselves, or a text for a chat program.",
    ),
)


def _filters(function: Any) -> Any:
    for option in reversed(_FILTERS):
        function = option(function)
    return function


@click.group()
def webhook() -> None:
    """Webhooks: list, show, create, change, delete, enable, disable, ping, rotate, deliveries, delivery, redeliver."""


@example("entrepot webhook kinds")
@webhook.command()
@json_option
@with_client
def kinds(client: Client, *, as_json: bool) -> None:
    """List the kinds of events there are."""
    print_rows(client.get("event-kinds")["items"], (("KIND", "kind"), ("TELLS", "tells")), as_json=as_json)


@example("entrepot webhook list")
@webhook.command("list")
@json_option
@with_client
def list_webhooks(client: Client, *, as_json: bool) -> None:
    """List your webhooks; all of them as an administrator of the server."""
    print_rows(client.get("webhooks")["items"], _FIELDS, as_json=as_json, on_terminal=_ON_TERMINAL)


@example("entrepot webhook show 3")
@webhook.command()
@click.argument("number", type=int)
@json_option
@with_client
def show(client: Client, number: int, *, as_json: bool) -> None:
    """Show a webhook."""
    print_record(client.get("webhooks", number), _FIELDS, as_json=as_json)


@example("entrepot webhook create https://ci.example/hooks --domain default --kind 'asset.*' --kind 'version.*'")
@webhook.command()
@click.argument("address", metavar="URL")
@_filters
@json_option
@with_client
def create(client: Client, address: str, *, as_json: bool, **given: Any) -> None:
    """Make a webhook. Its secret is printed this once: the receiver verifies with it what comes."""
    made = client.send("POST", "webhooks", body={"url": address, **_given(**given)})
    _print_secret(made, f"webhook {made['webhook']['id']} is made; its secret is shown this once", as_json=as_json)


@example("entrepot webhook change 3 --kind '*.failed'")
@webhook.command()
@click.argument("number", type=int)
@click.option("--to", "address", metavar="URL", help="Send to another URL.")
@_filters
@json_option
@with_client
def change(client: Client, number: int, *, as_json: bool, address: str | None, **given: Any) -> None:
    """Change what is given and leave the rest; '' takes a filter away."""
    body = _given(**given)
    if address is not None:
        body["url"] = address
    print_record(client.send("PATCH", "webhooks", number, body=body), _FIELDS, as_json=as_json)


@example("entrepot webhook delete 3 --yes")
@webhook.command()
@click.argument("number", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_client
def delete(client: Client, number: int, *, yes: bool, as_json: bool) -> None:
    """Remove a webhook with the records of its deliveries."""
    if not yes:
        address = client.get("webhooks", number)["url"]
        click.confirm(f"Delete webhook {number} ({address}) and what is known of its deliveries?", abort=True, err=True)
    client.send("DELETE", "webhooks", number)
    say(f"webhook {number} is deleted")
    if as_json:
        print_json({"id": number, "deleted": True})


@example("entrepot webhook enable 3")
@webhook.command()
@click.argument("number", type=int)
@json_option
@with_client
def enable(client: Client, number: int, *, as_json: bool) -> None:
    """Switch a webhook on again."""
    print_record(client.send("POST", "webhooks", number, "enable"), _FIELDS, as_json=as_json)


@example("entrepot webhook disable 3")
@webhook.command()
@click.argument("number", type=int)
@json_option
@with_client
def disable(client: Client, number: int, *, as_json: bool) -> None:
    """Switch a webhook off: nothing more is sent."""
    print_record(client.send("POST", "webhooks", number, "disable"), _FIELDS, as_json=as_json)


@example("entrepot webhook ping 3")
@webhook.command()
@click.argument("number", type=int)
@json_option
@with_client
def ping(client: Client, number: int, *, as_json: bool) -> None:
    """Try a webhook out; prints the delivery."""
    sent = client.send("POST", "webhooks", number, "ping")
    print_record(sent, (("DELIVERY", "delivery"),), as_json=as_json)


@example("entrepot webhook rotate 3 --overlap-hours 48")
@webhook.command()
@click.argument("number", type=int)
@click.option("--overlap-hours", type=click.IntRange(0, 168), default=24, help="Both secrets sign for so long (24).")
@json_option
@with_client
def rotate(client: Client, number: int, *, as_json: bool, overlap_hours: int) -> None:
    """Give a webhook a new secret, which is printed this once."""
    made = client.send("POST", "webhooks", number, "secret", body={"overlapHours": overlap_hours})
    _print_secret(made, f"webhook {number} has a new secret, shown this once", as_json=as_json)


@example("entrepot webhook deliveries 3 --state Failed")
@webhook.command()
@click.argument("number", type=int)
@click.option("--state", type=click.Choice(["Pending", "Succeeded", "Failed", "Discarded"]), help="Only these.")
@json_option
@with_client
def deliveries(client: Client, number: int, *, as_json: bool, state: str | None) -> None:
    """List what was sent to a webhook, newest first."""
    print_rows(
        client.items("webhooks", number, "deliveries", limit=100, state=state),
        _DELIVERIES,
        as_json=as_json,
        on_terminal=_TOLD,
    )


@example("entrepot webhook delivery 3 msg_2c7a8e9d1f204b6ab1c3d5e7f9021436")
@webhook.command()
@click.argument("number", type=int)
@click.argument("delivery_id", metavar="DELIVERY")
@json_option
@with_client
def delivery(client: Client, number: int, delivery_id: str, *, as_json: bool) -> None:
    """Show how each attempt of a delivery went."""
    found = client.get("webhooks", number, "deliveries", delivery_id)
    if as_json:
        print_json(found)
        return
    columns = (("NUMBER", "number"), ("AT", "at"), ("MS", "tookMs"), ("STATUS", "status"), ("ERROR", "error"))
    print_rows(found["attempts"], (*columns, ("ANSWER", "answer")), as_json=False)


@example("entrepot webhook redeliver 3 --failed-within 2d")
@webhook.command()
@click.argument("number", type=int)
@click.argument("delivery_id", metavar="[DELIVERY]", required=False)
@click.option("--failed-within", type=DURATION, help="Everything that failed and came up within so long: 2d, 12h.")
@json_option
@with_client
def redeliver(
    client: Client, number: int, delivery_id: str | None, *, as_json: bool, failed_within: timedelta | None
) -> None:
    """Send one delivery again, or all that failed; each under its own webhook-id, as before."""
    if (delivery_id is None) == (failed_within is None):
        raise click.UsageError("name a delivery, or --failed-within")
    if delivery_id is not None:
        done = client.send("POST", "webhooks", number, "deliveries", delivery_id)
    else:
        assert failed_within is not None
        since = (datetime.now(UTC) - failed_within).isoformat()
        done = client.send("POST", "webhooks", number, "deliveries", body={"since": since})
    print_record(done, (("DELIVERIES", "deliveries"),), as_json=as_json)


def _given(*, kinds: tuple[str, ...], **rest: Any) -> dict[str, Any]:
    body = {name: value for name, value in rest.items() if value is not None}
    return {**body, "kinds": list(kinds)} if kinds else body


def _print_secret(made: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    say(sentence)
    click.echo(made["secret"])
