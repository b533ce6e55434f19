"""``entrepot build``: look at builds, read and follow their logs, stop them; what starts them is in ``build_start``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from registry.commands.client import Client, Unreachable, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_json_line, print_record, print_rows, say

FOLLOW_SECONDS = 1.0
UNREACHABLE_SECONDS = 300.0

_COLUMNS = (
    ("ID", "id"),
    ("PROJECT", "project"),
    ("STATUS", "status"),
    ("PACKAGE", "name"),
    ("VERSION", "version"),
    ("BY", "initiator"),
    ("STARTED", "startedAt"),
    ("ENDED", "endedAt"),
)
_FIELDS = (
    ("id", "id"),
    ("project", "project"),
    ("number", "number"),
    ("status", "status"),
    ("phase", "phase"),
    ("message", "message"),
    ("repository", "repository"),
    ("package", "name"),
    ("version", "version"),
    ("files", "assets"),
    ("for", "subject"),
    ("by", "initiator"),
    ("commit", "resolvedSourceVersion"),
    ("retry of", "retryOf"),
    ("exported variables", "exportedVariables"),
    ("submitted", "submittedAt"),
    ("started", "startedAt"),
    ("ended", "endedAt"),
)


@click.group()
def build() -> None:
    """Builds: start, retry, list, show, logs, stop; and their projects."""


@example("entrepot build list --limit 5")
@build.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@with_client
def list_builds(client: Client, limit: int, *, as_json: bool) -> None:
    """List the latest builds."""
    print_rows(client.items("builds", limit=min(limit, 100), most=limit), _COLUMNS, as_json=as_json)


@example("entrepot build show 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --json")
@build.command()
@click.argument("build_id", metavar="BUILD")
@json_option
@with_client
def show(client: Client, build_id: str, *, as_json: bool) -> None:
    """Show a build: what it was about, and how it ended."""
    print_record(client.get("builds", build_id), _FIELDS, as_json=as_json)


@example("entrepot build logs 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d -f")
@build.command()
@click.argument("build_id", metavar="BUILD")
@click.option("-f", "--follow", is_flag=True, help="Go on until the build has ended.")
@click.option("--from", "offset", default=0, type=click.IntRange(0), help="Start at this byte.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line, then how far it went.")
@with_client
def logs(client: Client, build_id: str, *, follow: bool, offset: int, as_json: bool) -> None:
    """Print a build's log, as the build wrote it. After a cut connection --follow goes on where it stopped.

    With --json each line is {"offset": BYTE, "line": TEXT}, and the last object {"next": BYTE, "ended": BOOLEAN, "status":
    STATUS}; while the build has not ended, half a line is left for the next call, which goes on at "next".
    """
    pieces = log_pieces(client, build_id, offset, follow=follow)
    if not as_json:
        for piece, _ in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    rest, has_ended = b"", False
    for piece, has_ended in pieces:  # noqa: B007  (the last answer's word counts)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            _print_line(offset, line)
            offset += len(line) + 1
    if rest and has_ended:
        _print_line(offset, rest)
        offset += len(rest)
    print_json_line({"next": offset, "ended": has_ended, "status": client.get("builds", build_id)["status"]})


def _print_line(offset: int, line: bytes) -> None:
    print_json_line({"offset": offset, "line": line.decode(errors="replace")})


def log_pieces(client: Client, build_id: str, offset: int, *, follow: bool) -> Iterator[tuple[bytes, bool]]:
    """The log from a byte on, as far as it goes or with ``follow`` until the build has ended: (bytes, is the end).

    Raises Failed.
    """
    patience = UNREACHABLE_SECONDS
    while True:
        try:
            chunk, headers = client.read("builds", build_id, "log", **{"from": offset})
        except Unreachable as error:
            patience -= FOLLOW_SECONDS
            if not follow or patience <= 0:
                raise
            say(f"{error.message}; going on at byte {offset}")
            time.sleep(FOLLOW_SECONDS)
            continue
        patience = UNREACHABLE_SECONDS
        has_ended = headers["X-Build-Ended"] == "true"
        yield chunk, has_ended
        offset = int(headers["X-Next-Offset"])
        if has_ended or not (chunk or follow):
            return
        if not chunk:
            time.sleep(FOLLOW_SECONDS)


@example("entrepot build stop 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d")
@build.command()
@click.argument("build_id", metavar="BUILD")
@json_option
@with_client
def stop(client: Client, build_id: str, *, as_json: bool) -> None:
    """Stop a build."""
    detail = client.send("POST", "builds", build_id, "stop")
    say(f"build {build_id} is told to stop")
    if as_json:
        print_json(detail)
