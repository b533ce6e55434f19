"""``entrepot build batch``: start batch builds, look at them, stop and retry them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from hooks.commands.build_start import UNREACHABLE_SECONDS, WAIT_SECONDS
from hooks.commands.start_options import Body, start_options
from registry.commands.client import Client, Failed, Unreachable, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_COLUMNS = (
    ("ID", "id"),
    ("PROJECT", "projectName"),
    ("NUMBER", "buildBatchNumber"),
    ("STATUS", "buildBatchStatus"),
    ("PHASE", "currentPhase"),
    ("BY", "initiator"),
    ("STARTED", "startTime"),
    ("ENDED", "endTime"),
)
_FIELDS = (
    ("id", "id"),
    ("project", "projectName"),
    ("number", "buildBatchNumber"),
    ("status", "buildBatchStatus"),
    ("phase", "currentPhase"),
    ("message", "message"),
    ("by", "initiator"),
    ("commit", "resolvedSourceVersion"),
    ("attempt", "attempt"),
    ("started", "startTime"),
    ("ended", "endTime"),
)
_GROUP_COLUMNS = (
    ("BUILD", "identifier"),
    ("STATUS", "status"),
    ("DEPENDS ON", "dependsOn"),
    ("ID", "build"),
    ("BEFORE", "before"),
)
_wait = click.option(
    "--wait", is_flag=True, help="Wait for the batch's end; the exit status is 0 if it succeeded, else 1."
)


@click.group()
def batch() -> None:
    """Batch builds: start, list, show, stop, retry."""


@example("entrepot build batch start unit --source-version main --wait")
@batch.command("start")
@click.argument("project")
@start_options("batch")
@click.option("--batch-timeout", metavar="MINUTES", type=click.IntRange(5, 2160), help="How long all of it may take.")
@click.option("--combine-artifacts/--no-combine-artifacts", default=None, help="Whether the artifacts become one.")
@_wait
@json_option
@with_client
def start(
    client: Client,
    project: str,
    *,
    asked: Body,
    batch_timeout: int | None,
    combine_artifacts: bool | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a batch build of a project; prints its id."""
    config = {"combineArtifacts": combine_artifacts, "timeoutInMins": batch_timeout}
    body = {**asked(client, project), "buildBatchConfigOverride": config}
    found = client.send("POST", "build-projects", project, "batches", body=body)
    say(f"batch {found['buildBatchNumber']} of {project} was started")
    _tell(client, found, wait=wait, as_json=as_json)


@example("entrepot build batch list --project unit")
@batch.command("list")
@click.option("--project", help="Of this project only.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@with_client
def list_batches(client: Client, project: str | None, limit: int, *, as_json: bool) -> None:
    """List the latest batch builds."""
    query = {} if project is None else {"project": project}
    rows = client.items("build-batches", limit=min(limit, 100), most=limit, **query)
    print_rows(rows, _COLUMNS, as_json=as_json)


@example("entrepot build batch show 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d")
@batch.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@with_client
def show(client: Client, batch_id: str, *, as_json: bool) -> None:
    """Show a batch build and its builds."""
    found = client.get("build-batches", batch_id)
    if as_json:
        print_json(found)
        return
    print_record(found, _FIELDS, as_json=False)
    click.echo()
    print_rows([_row(group) for group in found["buildGroups"]], _GROUP_COLUMNS, as_json=False)


@example("entrepot build batch stop 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --wait")
@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--wait", is_flag=True, help="Wait until all its builds have ended.")
@json_option
@with_client
def stop(client: Client, batch_id: str, *, wait: bool, as_json: bool) -> None:
    """Stop a batch build with all its builds."""
    found = client.send("POST", "build-batches", batch_id, "stop")
    say(f"batch {batch_id} is told to stop")
    if wait:
        found = _ended(client, found)
        say(_result(found))
    if as_json:
        print_json(found)


@example("entrepot build batch retry 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --all --wait")
@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--all", "takes_all", is_flag=True, help="All builds anew, and not only those that did not succeed.")
@_wait
@json_option
@with_client
def retry(client: Client, batch_id: str, *, takes_all: bool, wait: bool, as_json: bool) -> None:
    """Go on with a batch build that did not succeed: what failed, and what depends on it."""
    kind = "RETRY_ALL_BUILDS" if takes_all else "RETRY_FAILED_BUILDS"
    found = client.send("POST", "build-batches", batch_id, "retry", body={"retryType": kind})
    say(f"batch {found['buildBatchNumber']} of {found['projectName']} goes on")
    _tell(client, found, wait=wait, as_json=as_json)


def _tell(client: Client, found: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    if not as_json:
        click.echo(found["id"])
    if wait:
        found = _ended(client, found)
    if as_json:
        print_json(found)
    if wait:
        if found["buildBatchStatus"] != "SUCCEEDED":
            raise Failed(_result(found))
        say(_result(found))


def _result(found: dict[str, Any]) -> str:
    result = f"batch {found['buildBatchNumber']} of {found['projectName']}: {found['buildBatchStatus']}"
    return result + (f", {found['message']}" if found["message"] else "")


def _row(group: dict[str, Any]) -> dict[str, Any]:
    current = group["currentBuildSummary"]
    before = len(group["priorBuildSummaryList"])
    return {
        **group,
        "dependsOn": ", ".join(group["dependsOn"]),
        "build": current["id"] if current else None,
        "before": before or None,
    }


def _ended(client: Client, found: dict[str, Any]) -> dict[str, Any]:
    """The batch when it has ended; a server that is away for less than five minutes is waited for."""
    patience = UNREACHABLE_SECONDS
    with _progress() as tell:
        while True:
            tell(found)
            if found["complete"]:
                return found
            time.sleep(WAIT_SECONDS)
            try:
                found = client.get("build-batches", found["id"])
            except Unreachable:
                patience -= WAIT_SECONDS
                if patience <= 0:
                    raise
            else:
                patience = UNREACHABLE_SECONDS


@contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Something that moves, on a terminal; a line for each change of a build elsewhere."""
    if not sys.stderr.isatty():
        seen: dict[str, str] = {}

        def tell(found: dict[str, Any]) -> None:
            for group in found["buildGroups"]:
                if group["status"] not in {"PENDING", seen.get(group["identifier"])}:
                    seen[group["identifier"]] = group["status"]
                    say(f"{group['identifier']}: {group['status']}")

        yield tell
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting") as status:
        began = time.monotonic()

        def show_state(found: dict[str, Any]) -> None:
            groups, seconds = found["buildGroups"], int(time.monotonic() - began)
            ended = sum(group["status"] not in {"PENDING", "IN_PROGRESS"} for group in groups)
            running = ", ".join(group["identifier"] for group in groups if group["status"] == "IN_PROGRESS")
            what = f"{found['currentPhase']}, {ended} of {len(groups)} builds have ended"
            status.update(f"{what}, {seconds // 60}:{seconds % 60:02}" + (f": {running}" if running else ""))

        yield show_state
