"""``entrepot build start`` and ``retry``: what they start they can also wait for, and end as it ends."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click

from hooks.commands.following import Follower
from registry.commands.client import Client, Failed, Unreachable, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, say

WAIT_SECONDS = 1.0
UNREACHABLE_SECONDS = 300.0
_RUNNING = "IN_PROGRESS"


def _waiting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    @click.option(
        "--wait", is_flag=True, help="Wait for the build's end; the exit status is 0 if it succeeded, else 1."
    )
    @click.option("-f", "--follow", is_flag=True, help="Print the log while waiting (implies --wait).")
    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return command


@example("entrepot build start unit --source-version main -e STAGE=beta --wait")
@click.command()
@click.argument("project")
@click.option("--source-version", metavar="REF", help="A branch, tag or commit instead of the project's.")
@click.option(
    "--source",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Zip this directory (without .git) and build that.",
)
@click.option(
    "-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="An environment variable; repeatable."
)
@click.option(
    "--secret", "secrets", multiple=True, metavar="NAME=SECRET", help="A variable that a secret fills; repeatable."
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=PARAMETER",
    help="A variable that a parameter fills; repeatable.",
)
@click.option("--buildspec", type=click.File(encoding="utf-8"), help="A buildspec to use instead; - for stdin.")
@click.option("--timeout", metavar="MINUTES", type=click.IntRange(5, 2160), help="How long it may take.")
@click.option("--token", "request_token", metavar="TEXT", help="The same token within five minutes is the same build.")
@click.option("--debug-session", is_flag=True, help="Stand at codebuild-breakpoint until `entrepot build resume`.")
@_waiting_options
@json_option
@with_client
def start(
    client: Client,
    project: str,
    *,
    source_version: str | None,
    folder: Path | None,
    variables: tuple[str, ...],
    secrets: tuple[str, ...],
    parameters: tuple[str, ...],
    buildspec: IO[str] | None,
    timeout: int | None,
    request_token: str | None,
    debug_session: bool,
    wait: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Start a build of a project; prints its id, or with --follow its log."""
    body: dict[str, Any] = {
        "sourceVersion": source_version,
        "environmentVariablesOverride": [
            *(variable_of(text) for text in variables),
            *({**variable_of(text), "type": "SECRETS_MANAGER"} for text in secrets),
            *({**variable_of(text), "type": "PARAMETER_STORE"} for text in parameters),
        ],
        "buildspecOverride": buildspec.read() if buildspec is not None else None,
        "timeoutInMinutesOverride": timeout,
        "idempotencyToken": request_token,
        "debugSessionEnabled": debug_session,
    }
    if folder is not None:
        body["sourceUpload"] = upload_folder(client, project, folder)
    build = client.send("POST", "build-projects", project, "builds", body=body)
    _tell(client, build, wait=wait, follow=follow, as_json=as_json)


@example("entrepot build retry 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --wait")
@click.command()
@click.argument("build_id", metavar="BUILD")
@_waiting_options
@json_option
@with_client
def retry(client: Client, build_id: str, *, wait: bool, follow: bool, as_json: bool) -> None:
    """Build once more what a build was made from; prints the new build's id."""
    build = client.send("POST", "builds", build_id, "retry")
    _tell(client, build, wait=wait, follow=follow, as_json=as_json)


def _tell(client: Client, build: dict[str, Any], *, wait: bool, follow: bool, as_json: bool) -> None:
    say(f"build {build['number']} of {build['project']} was started")
    if not follow and not as_json:
        click.echo(build["id"])
    if follow:
        for piece, _ in Follower(client, build["id"], 0).pieces(follow=True):
            stream = sys.stderr.buffer if as_json else sys.stdout.buffer
            stream.write(piece)
            stream.flush()
    if wait or follow:
        build = _ended(client, build)
    if as_json:
        print_json(build)
    if wait or follow:
        took = f"build {build['number']} of {build['project']}: {build['status']}"
        if build["status"] != "SUCCEEDED":
            raise Failed(took + (f", {build['message']}" if build["message"] else ""))
        say(took)


def _ended(client: Client, build: dict[str, Any]) -> dict[str, Any]:
    """The build when it has ended; a server that is away for less than five minutes is waited for."""
    patience = UNREACHABLE_SECONDS
    with _progress() as show:
        while build["status"] == _RUNNING:
            show(build)
            time.sleep(WAIT_SECONDS)
            try:
                build = client.get("builds", build["id"])
            except Unreachable:
                patience -= WAIT_SECONDS
                if patience <= 0:
                    raise
            else:
                patience = UNREACHABLE_SECONDS
    return build


@contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Something that moves, on a terminal; a line for each phase elsewhere."""
    if not sys.stderr.isatty():
        seen: list[str] = []

        def tell(build: dict[str, Any]) -> None:
            if build["phase"] not in seen:
                seen.append(build["phase"])
                say(f"{build['phase']} …")

        yield tell
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("waiting") as status:
        began = time.monotonic()

        def show(build: dict[str, Any]) -> None:
            seconds = int(time.monotonic() - began)
            status.update(f"build {build['number']}: {build['phase']}, {seconds // 60}:{seconds % 60:02}")

        yield show


def variable_of(text: str) -> dict[str, str]:
    """NAME=VALUE as the API takes it. Raises click.UsageError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{text!r}: write NAME=VALUE")
    return {"name": name, "value": value}


def upload_folder(client: Client, project: str, folder: Path) -> str:
    """Zip a directory and send it; the id to start a build of it with. Raises Failed."""
    with tempfile.TemporaryFile() as file:
        count = _zip(folder, file)
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        say(f"sending {count} file(s), {size_bytes} bytes zipped")
        answer = client.send_file("POST", "build-sources", file=file, media_type="application/zip", project=project)
    return str(answer["id"])


def _zip(folder: Path, file: IO[bytes]) -> int:
    """Zip the regular files below ``folder``; how many. ``.git`` stays here, and so do links: they may lead anywhere."""
    count = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for directory, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(names):
                path = Path(directory, name)
                if path.is_symlink() or not path.is_file():
                    say(f"left out: {path} is no regular file")
                    continue
                archive.write(path, path.relative_to(folder))
                count += 1
    return count
