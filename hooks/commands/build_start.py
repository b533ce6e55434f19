"""``entrepot build start`` and ``retry``: what they start they can also wait for, and end as it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from hooks.commands.following import Follower
from hooks.commands.start_options import Body, start_options
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
@start_options("build")
@_waiting_options
@json_option
@with_client
def start(
    client: Client,
    project: str,
    *,
    asked: Body,
    wait: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Start a build of a project; prints its id, or with --follow its log."""
    build = client.send("POST", "build-projects", project, "builds", body=asked(client, project))
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
