"""``entrepot login``: point a client tool at a repository, in the tool's own configuration."""

from __future__ import annotations

import difflib
import os
import socket
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, connection_options, needs_server
from registry.commands.options import DURATION, REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, say
from registry.commands.token import LONGEST, SHORTEST, own_actions, short_lived
from registry.errors import Invalid
from registry.format import LoginTarget, Tool

_PLACEHOLDER = "ent_(a-new-token)"
_ACTIONS = frozenset({"read", "publish"})
_SECRET_MODE = 0o600


def login_command(tools: Mapping[str, Mapping[str, Tool]]) -> click.Command:
    """The ``login`` command for ``tools``: format → tool's name → tool."""
    formats = {tool: format_name for format_name, named in tools.items() for tool in named}

    @example("entrepot login --tool pip --repository dev\nentrepot login --tool twine --repository dev --dry-run")
    @click.command()
    @click.option("--tool", "tool_name", required=True, type=click.Choice(list(formats)), help="The client to set up.")
    @click.option("--repository", required=True, type=REPOSITORY, help="NAME or DOMAIN/NAME.")
    @click.option("--domain", help="The repository's domain [default].")
    @click.option("--user", help="Sign in with this user's password (asked for) instead of a token.")
    @click.option("--ttl", default="12h", show_default=True, type=DURATION, help="How long the sign-in holds.")
    @click.option("--dry-run", is_flag=True, help="Say what would be written; make no token.")
    @json_option
    @connection_options
    def login(
        *,
        tool_name: str,
        repository: Place,
        domain: str | None,
        user: str | None,
        ttl: timedelta,
        dry_run: bool,
        as_json: bool,
        url: str | None,
        token: str | None,
    ) -> None:
        """Write a client's configuration, with a new token that may read and publish.

        The token is made with yours (ENTREPOT_TOKEN, --token-file), and ends with it, or with your password (--user).
        """
        place = Place(domain or repository.domain, repository.repository)
        client = _client(needs_server(url), token, user)
        name = client.get("whoami")["name"]
        client.get(*place.path)
        tool = tools[formats[tool_name]][tool_name]
        address = f"{client.url}/{formats[tool_name]}/{place.domain}/{place.repository}/"
        # Planned before a token is made: a file that cannot be changed leaves no token behind.
        existing = _existing(tool)
        additions = _additions(existing, _plan(tool, existing, LoginTarget(address, name, _PLACEHOLDER)))
        told: dict[str, Any] = {"tool": tool_name, "url": address, "user": name, "files": additions}
        if dry_run:
            _tell(told, as_json=as_json)
            return
        made = _new_token(client, tool_name, ttl)
        target = LoginTarget(address, name, str(made["secret"]))
        _write_all(_plan(tool, existing, target), target.token)
        notes = tool.notes(target)
        for note in notes:
            say(note)
        if as_json:
            print_json({**told, "tokenId": made["id"], "expiresAt": made["expiresAt"], "notes": notes})

    command: click.Command = login
    return command


def _client(url: str, token: str | None, user: str | None) -> Client:
    if user is not None:
        password = click.prompt(f"password of {user}", hide_input=True, err=True)
        return Client(url, None, password=(user, password))
    if not token:
        raise click.UsageError("no token: set ENTREPOT_TOKEN, give --token-file, or --user to sign in with a password")
    return Client(url, token)


def _new_token(client: Client, tool_name: str, ttl: timedelta) -> dict[str, Any]:
    own = own_actions(client)
    actions = sorted(_ACTIONS) if "admin" in own else sorted(_ACTIONS.intersection(own))
    name = f"login {tool_name} on {socket.gethostname()}"[:100]
    # Not only this repository: tools keep one credential per host, and a second login must not break the first.
    if SHORTEST <= ttl <= LONGEST:
        made = short_lived(client, name, actions, {}, ttl)
        say(f"signed in as {made['user']} until {made['expiresAt']}")
        return made
    body = {
        "name": name,
        "actions": actions,
        "repositories": None,
        "ttlSeconds": int(ttl.total_seconds()),
    }
    made = dict(client.send("POST", "tokens", body=body))
    say(f"signed in as {made['user']} until {made['expiresAt']}")
    return made


def _existing(tool: Tool) -> dict[Path, str | None]:
    found: dict[Path, str | None] = {}
    for path in tool.files(Path.home(), os.environ):
        try:
            found[path] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            found[path] = None
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"{path} cannot be read: {error}") from error
    return found


def _plan(tool: Tool, existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    try:
        return tool.plan(existing, target)
    except Invalid as error:
        raise Failed(str(error)) from error


def _additions(existing: Mapping[Path, str | None], planned: Mapping[Path, str]) -> list[dict[str, Any]]:
    """The lines each file gets, with a placeholder for the token. What is there already may hold other secrets."""
    found = []
    for path, text in planned.items():
        lines = difflib.ndiff((existing[path] or "").splitlines(), text.splitlines())
        found.append({"path": str(path), "added": [line[2:] for line in lines if line.startswith("+ ")]})
    return found


def _tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    for file in told["files"]:
        click.echo(f"{file['path']}:")
        for line in file["added"]:
            click.echo(f"+ {line}")


def _write_all(texts: Mapping[Path, str], secret: str) -> None:
    for path, text in texts.items():
        _write(path, text, is_secret=secret in text)
        say(f"wrote {path}")


def _write(path: Path, text: str, *, is_secret: bool) -> None:
    """Replace a file at once; one with a secret in it is never readable by others, not even for a moment."""
    goal = path.resolve()  # a link stays a link: many people keep these files elsewhere
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        mode = _SECRET_MODE if is_secret else goal.stat().st_mode & 0o777 if goal.exists() else 0o644
        descriptor, temporary = tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(goal)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error}") from error
