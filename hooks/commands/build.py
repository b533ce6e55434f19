"""``entrepot build``: look at builds, read and follow their logs, stop them; what starts them is in ``build_start``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hooks.commands.downloading import download, download_paths
from hooks.commands.following import Follower
from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_json_line, print_record, print_rows, say

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
_ON_TERMINAL = ("ID", "STATUS", "STARTED", "PACKAGE", "VERSION", "PROJECT", "BY", "ENDED")
_ARTIFACT_COLUMNS = (
    ("ARTIFACT", "artifactIdentifier"),
    ("NAME", "name"),
    ("FILES", "files"),
    ("SIZE", "size"),
    ("SHA-256", "sha256sum"),
    ("CREATED", "createdAt"),
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
    ("paused since", "debugSession.pausedAt"),
    ("exported variables", "exportedVariables"),
    ("published", "published"),
    ("submitted", "submittedAt"),
    ("started", "startedAt"),
    ("ended", "endedAt"),
)


@click.group()
def build() -> None:
    """Builds: start, retry, list, show, logs, artifacts, reports, stop, resume, their projects; without a server: lint, run."""


@example("entrepot build list --project unit --limit 5")
@build.command("list")
@click.option("--project", help="Of this project only.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@with_client
def list_builds(client: Client, project: str | None, limit: int, *, as_json: bool) -> None:
    """List the latest builds."""
    query = {} if project is None else {"project": project}
    rows = client.items("builds", limit=min(limit, 100), most=limit, **query)
    print_rows(rows, _COLUMNS, as_json=as_json, on_terminal=_ON_TERMINAL)


@example("entrepot build show 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --json")
@build.command()
@click.argument("build_id", metavar="BUILD")
@json_option
@with_client
def show(client: Client, build_id: str, *, as_json: bool) -> None:
    """Show a build: what it was about, and how it ended."""
    found = client.get("builds", build_id)
    published = [
        f"{each['namespace']}{'/' * bool(each['namespace'])}{each['name']} {each['version']}"
        f" in {each['domain']}/{each['repository']}"
        for each in found["published"]
    ]
    print_record(found if as_json else {**found, "published": published}, _FIELDS, as_json=as_json)


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
    pieces = Follower(client, build_id, offset).pieces(follow=follow)
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


@example("entrepot build artifacts 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --download dist")
@build.command()
@click.argument("build_id", metavar="BUILD")
@click.option(
    "--download", "folder", type=click.Path(file_okay=False, path_type=Path), help="Put their zip files there as well."
)
@json_option
@with_client
def artifacts(client: Client, build_id: str, folder: Path | None, *, as_json: bool) -> None:
    """List the artifacts of a build, or download them: whole and of the promised digest, or not at all."""
    found = list(client.items("builds", build_id, "artifacts"))
    if folder is not None:
        for path, artifact in download_paths(found).items():
            download(client, build_id, artifact, folder / path)
    print_rows(found, _ARTIFACT_COLUMNS, as_json=as_json)


@example("entrepot build resume 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d")
@build.command()
@click.argument("build_id", metavar="BUILD")
@json_option
@with_client
def resume(client: Client, build_id: str, *, as_json: bool) -> None:
    """Let a build go on that stands at a breakpoint."""
    detail = client.send("POST", "builds", build_id, "resume")
    say(f"build {build_id} goes on")
    if as_json:
        print_json(detail)


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
