"""A deployment while it goes on: a table of targets that is drawn anew on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from registry.commands.client import Client, Failed, Refused, Unreachable
from registry.commands.output import cell, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

WAIT_SECONDS = 1.0
UNREACHABLE_SECONDS = 300.0
_AWAY = frozenset({502, 503, 504})
"""Answers of a server (or of what is before it) that is away for now."""
_PENDING = "Pending"
_MARKS = {"Succeeded": "✓", "Failed": "✗", "InProgress": "…", "Skipped": "-"}
_COLOURS = {"Succeeded": "green", "Failed": "red", "InProgress": "cyan", "Ready": "yellow", "Stopped": "red"}

Tell = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def waiting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--wait`` and ``--watch``, for commands that make or change a deployment."""

    @click.option("--wait", is_flag=True, help="Wait for its end; the exit status is 0 if it succeeded, else 1.")
    @click.option("--watch", is_flag=True, help="Wait, and show the targets and their lifecycle events meanwhile.")
    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return command


def tell(client: Client, found: dict[str, Any], *, wait: bool, watch: bool, as_json: bool) -> None:
    """Print a deployment's id, and with ``wait`` or ``watch`` how it goes. Raises Failed unless it then succeeds."""
    if not as_json:
        click.echo(found["deploymentId"])
    if wait or watch:
        found = ended(client, found, watch=watch)
    if as_json:
        print_json(found)
    if wait or watch:
        check_succeeded(found)


def check_succeeded(found: dict[str, Any]) -> None:
    """Say how a deployment has ended. Raises Failed unless it has succeeded."""
    if found["status"] != "Succeeded":
        raise Failed(result(found))
    say(result(found))


def result(found: dict[str, Any]) -> str:
    """How a deployment stands, in a line."""
    text = f"deployment {found['deploymentId']}: {found['status']}"
    if found["complete"] and (total := sum(found["deploymentOverview"].values())):
        text += f" ({found['deploymentOverview']['Succeeded']} of {total} targets)"
    error = found["errorInformation"]
    if error is not None:
        text += f", {error['code']}: {error['message']}"
    rollback = found["rollbackInfo"]
    if rollback is not None and rollback["rollbackDeploymentId"]:
        text += f"; rolled back by {rollback['rollbackDeploymentId']}"
    return cell(text)


def waits(found: dict[str, Any]) -> list[str]:
    """Why a deployment waits, a line for each reason."""
    told = []
    for each in found.get("waitReasons", ()):
        until = f" (until {each['until']})" if each["until"] else ""
        told.append(cell(f"waits: {each['text']}{until}"))
    return told


def ended(client: Client, found: dict[str, Any], *, watch: bool) -> dict[str, Any]:
    """The deployment when it has ended; a server that is away for less than five minutes is waited for."""
    patience = UNREACHABLE_SECONDS
    with _lines() if not (watch and sys.stderr.isatty()) else _table() as show:
        while True:
            try:
                show(found, _targets(client, found["deploymentId"]))
                if found["complete"]:
                    return found
                time.sleep(WAIT_SECONDS)
                found = client.get("deployments", found["deploymentId"])
                patience = UNREACHABLE_SECONDS
            except (Unreachable, Refused) as error:
                patience -= WAIT_SECONDS
                if patience <= 0 or (isinstance(error, Refused) and error.status not in _AWAY):
                    raise
                time.sleep(WAIT_SECONDS)


def _targets(client: Client, deployment_id: str) -> list[dict[str, Any]]:
    return list(client.items("deployments", deployment_id, "targets", limit=1000))


@contextmanager
def _lines() -> Iterator[Tell]:
    """A line for each thing that changes."""
    seen: dict[tuple[str, str, str], str] = {}

    def changed(key: tuple[str, str, str], status: str) -> bool:
        before = seen.get(key, _PENDING)
        seen[key] = status
        return status != before

    def show(found: dict[str, Any], targets: list[dict[str, Any]]) -> None:
        status = "paused" if found["isPaused"] and not found["complete"] else found["status"]
        if not found["complete"] and changed(("", "", ""), status):
            say(f"deployment {found['deploymentId']}: {status}")
        for each in [] if found["complete"] else found.get("waitReasons", ()):
            if each["kind"] != "turn" and changed(("waits", each["kind"], ""), each["text"]):
                say(cell(f"deployment {found['deploymentId']} waits: {each['text']}"))
        for target in targets:
            name = label(target)
            for event in target["lifecycleEvents"]:
                if changed((name, event["lifecycleEventName"], ""), event["status"]):
                    say(f"{name}: {event['lifecycleEventName']}: {event['status']}{_why(event)}")
            if target["status"] != "InProgress" and changed((name, "", ""), target["status"]):
                say(f"{name}: {target['status']}")

    yield show


@contextmanager
def _table() -> Iterator[Tell]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as live:

        def show(found: dict[str, Any], targets: list[dict[str, Any]]) -> None:
            live.update(drawn(found, targets), refresh=True)

        yield show


def drawn(found: dict[str, Any], targets: list[dict[str, Any]]) -> Table:
    """The targets of a deployment as a table, the events of each in a row."""
    from rich.table import Table
    from rich.text import Text

    title = f"{found['applicationName']}/{found['deploymentGroupName']} {found['version']}: {found['status']}"
    table = Table(title=Text("\n".join([cell(title), *waits(found)])), title_justify="left")
    for heading in ("Target", "Status", "Lifecycle events"):
        table.add_column(heading)
    for target in targets:
        events = [each for each in target["lifecycleEvents"] if each["status"] != _PENDING]
        shown = " ".join(f"{_MARKS.get(each['status'], '?')} {each['lifecycleEventName']}" for each in events[-3:])
        failed = next((each for each in target["lifecycleEvents"] if each["status"] == "Failed"), None)
        shown += _why(failed) if failed is not None else ""
        colour = _COLOURS.get(target["status"], "")
        table.add_row(Text(cell(label(target))), Text(target["status"], style=colour), Text(cell(shown)))
    return table


def label(target: dict[str, Any]) -> str:
    """A target's name, with its side where there are two."""
    return f"{target['name']} ({target['instanceLabel']})" if target["instanceLabel"] else str(target["name"])


def _why(event: dict[str, Any]) -> str:
    told = event["diagnostics"]
    if told is None or event["status"] != "Failed":
        return ""
    script = f" {told['scriptName']}:" if told["scriptName"] else ""
    return cell(f" ({told['errorCode']}:{script} {told['message']})")
