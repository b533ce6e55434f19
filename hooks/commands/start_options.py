"""What starts of builds and of batch builds have in common on the command line, and how it is sent."""

from __future__ import annotations

import functools
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from registry.commands.client import Client
from registry.commands.output import say

_NAMES = (
    "source_version",
    "folder",
    "variables",
    "secrets",
    "parameters",
    "buildspec",
    "timeout",
    "request_token",
    "debug_session",
)
Body = Callable[[Client, str], dict[str, Any]]
"""With the client and a project's name: what a start sends. It uploads the source first, if one was named."""


def start_options(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a start; the command gets them as ``asked``, a ``Body``. ``kind`` is build or batch."""
    each, timeout = ("it", "timeoutInMinutesOverride")
    if kind == "batch":
        each, timeout = ("each build", "buildTimeoutInMinutesOverride")
    options = (
        click.option("--source-version", metavar="REF", help="A branch, tag or commit instead of the project's."),
        click.option(
            "--source",
            "folder",
            metavar="DIR",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Zip this directory (without .git) and build that.",
        ),
        click.option(
            "-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="An environment variable; repeatable."
        ),
        click.option(
            "--secret",
            "secrets",
            multiple=True,
            metavar="NAME=SECRET",
            help="A variable that a secret fills; repeatable.",
        ),
        click.option(
            "--parameter",
            "parameters",
            multiple=True,
            metavar="NAME=PARAMETER",
            help="A variable that a parameter fills; repeatable.",
        ),
        click.option("--buildspec", type=click.File(encoding="utf-8"), help="A buildspec to use instead; - for stdin."),
        click.option("--timeout", metavar="MINUTES", type=click.IntRange(5, 2160), help=f"How long {each} may take."),
        click.option(
            "--token", "request_token", metavar="TEXT", help=f"The same token within five minutes is the same {kind}."
        ),
        click.option(
            "--debug-session",
            is_flag=True,
            help="Stand at each codebuild-breakpoint until `entrepot build resume`.",
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*arguments: Any, **given: Any) -> Any:
            own = {name: given.pop(name) for name in _NAMES}
            return command(*arguments, asked=functools.partial(_body, timeout, own), **given)

        for option in reversed(options):
            called = option(called)
        return called

    return decorate


def _body(timeout: str, given: dict[str, Any], client: Client, project: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "sourceVersion": given["source_version"],
        "environmentVariablesOverride": [
            *(variable_of(text) for text in given["variables"]),
            *({**variable_of(text), "type": "SECRETS_MANAGER"} for text in given["secrets"]),
            *({**variable_of(text), "type": "PARAMETER_STORE"} for text in given["parameters"]),
        ],
        "buildspecOverride": given["buildspec"].read() if given["buildspec"] is not None else None,
        timeout: given["timeout"],
        "idempotencyToken": given["request_token"],
        "debugSessionEnabled": given["debug_session"],
    }
    if given["folder"] is not None:
        body["sourceUpload"] = upload_folder(client, project, given["folder"])
    return body


def variable_of(text: str) -> dict[str, str]:
    """NAME=VALUE as the API takes it. Raises click.UsageError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{text!r}: write NAME=VALUE")
    return {"name": name, "value": value}


def upload_folder(client: Client, project: str, folder: Path) -> str:
    """Zip a directory and send it; the id to start a build of it with. Raises Failed."""
    with tempfile.TemporaryFile() as file:
        count = zip_folder(folder, file)
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        say(f"sending {count} file(s), {size_bytes} bytes zipped")
        answer = client.send_file("POST", "build-sources", file=file, media_type="application/zip", project=project)
    return str(answer["id"])


def zip_folder(folder: Path, file: IO[bytes]) -> int:
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
