"""``entrepot repo connection``: where a repository asks outside.

A password is read from a prompt or a file and is never an argument: arguments stand in the shell's history and in the
process list.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_FIELDS = (
    ("FORMAT", "format"),
    ("NAME", "name"),
    ("URL", "url"),
    ("POSITION", "position"),
    ("CREDENTIAL", "hasCredential"),
    ("STATE", "health.state"),
    ("LAST ANSWER", "health.lastSuccessAt"),
    ("LAST FAILURE", "health.lastFailureAt"),
    ("REASON", "health.lastFailure"),
)
_ON_TERMINAL = ("FORMAT", "NAME", "STATE", "LAST ANSWER", "URL", "LAST FAILURE", "REASON", "POSITION", "CREDENTIAL")
_SETTINGS = (
    click.option(
        "--index", "index_url", metavar="URL", help="The index; '' for the one the format's own tools point at."
    ),
    click.option("--user", "user", metavar="NAME", help="Send this user and a password (prompted for), as Basic."),
    click.option("--bearer", is_flag=True, help="Send a token (prompted for), as Bearer."),
    click.option("--secret-file", metavar="FILE", help="Read the password or token here; - for stdin."),
    click.option(
        "--ca-bundle", metavar="FILE", help="PEM file with the certificate authorities to trust; '' for none."
    ),
    click.option("--position", type=click.IntRange(0, 999), help="Lower ones are asked first."),
)


def _settings(function: Any) -> Any:
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


@click.group()
def connection() -> None:
    """External connections of a repository: list, add, change, remove."""


@example("entrepot repo connection list public")
@connection.command("list")
@click.argument("repository", type=REPOSITORY)
@json_option
@with_client
def list_connections(client: Client, repository: Place, *, as_json: bool) -> None:
    """List a repository's external connections, in the order in which they are asked, with how each does."""
    print_rows(client.get(*repository.path, "connections")["items"], _FIELDS, as_json=as_json, on_terminal=_ON_TERMINAL)


@example("entrepot repo connection add public generic partner --index https://packages.example/ --user we")
@connection.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("format_name", metavar="FORMAT")
@click.argument("name")
@_settings
@json_option
@with_client
def add(
    client: Client,
    repository: Place,
    format_name: str,
    name: str,
    *,
    as_json: bool,
    index_url: str | None,
    **given: Any,
) -> None:
    """Add an external connection. Its credential goes to exactly the scheme, host and port of its URL."""
    body = {"format": format_name, "name": name, "url": index_url or None, **_read_settings(**given)}
    made = client.send("POST", *repository.path, "connections", body=body)
    say(f"added {format_name} connection {name} to {repository.domain}/{repository.repository}")
    print_record(made, _FIELDS, as_json=as_json)


@example("entrepot repo connection change public generic partner --bearer --secret-file token.txt")
@connection.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("format_name", metavar="FORMAT")
@click.argument("name")
@_settings
@click.option("--no-credential", is_flag=True, help="Send no credential any more.")
@json_option
@with_client
def change(
    client: Client,
    repository: Place,
    format_name: str,
    name: str,
    *,
    as_json: bool,
    index_url: str | None,
    no_credential: bool,
    **given: Any,
) -> None:
    """Change what is given and leave the rest. A URL of another host needs the credential again, or --no-credential."""
    body = {"removeCredential": no_credential, **_read_settings(**given)}
    if index_url is not None:
        body["url"] = index_url
    changed = client.send("PATCH", *repository.path, "connections", format_name, name, body=body)
    print_record(changed, _FIELDS, as_json=as_json)


@example("entrepot repo connection remove public generic partner")
@connection.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("format_name", metavar="FORMAT")
@click.argument("name")
@json_option
@with_client
def remove(client: Client, repository: Place, format_name: str, name: str, *, as_json: bool) -> None:
    """Remove an external connection. What it brought stays where it is kept."""
    client.send("DELETE", *repository.path, "connections", format_name, name)
    say(f"removed {format_name} connection {name}; what it brought stays")
    if as_json:
        print_json({"format": format_name, "name": name, "removed": True})


def _read_settings(
    *, user: str | None, bearer: bool, secret_file: str | None, ca_bundle: str | None, position: int | None
) -> dict[str, Any]:
    if user is not None and bearer:
        raise click.UsageError("--user and --bearer exclude each other")
    if secret_file is not None and user is None and not bearer:
        raise click.UsageError("--secret-file needs --user or --bearer to say what it holds")
    body: dict[str, Any] = {}
    if user is not None:
        body["credential"] = {"user": user, "password": _secret(f"password of {user}", secret_file)}
    elif bearer:
        body["credential"] = {"token": _secret("token", secret_file)}
    if ca_bundle is not None:
        body["caBundle"] = _text(ca_bundle) if ca_bundle else ""
    if position is not None:
        body["position"] = position
    return body


def _secret(what: str, file: str | None) -> str:
    if file is None:
        return str(click.prompt(what, hide_input=True, err=True))
    text = sys.stdin.readline() if file == "-" else _text(file)
    secret = text.partition("\n")[0].rstrip("\r")
    if not secret:
        raise Failed(f"{file} holds no {what}")
    return secret


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{file} cannot be read: {error}") from error
