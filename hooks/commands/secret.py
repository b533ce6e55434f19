"""``entrepot secret`` and ``entrepot parameter``: what builds get by name. Values come from stdin and are never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_SECRETS = (
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("PROJECTS", "projects"),
    ("CHANGED", "lastChangedDate"),
    ("BY", "lastChangedUser"),
)
_PARAMETERS = (
    ("NAME", "name"),
    ("TYPE", "type"),
    ("VERSION", "version"),
    ("DESCRIPTION", "description"),
    ("PROJECTS", "projects"),
    ("CHANGED", "lastModifiedDate"),
    ("BY", "lastModifiedUser"),
)
_VERSIONS = (
    ("NUMBER", "number"),
    ("VERSION", "versionId"),
    ("STAGES", "versionStages"),
    ("CREATED", "createdDate"),
    ("BY", "createdBy"),
)
_PROJECTS = click.option(
    "--project", "projects", multiple=True, metavar="PROJECT",
    help="A build project that may read it; repeatable. The list replaces the one before; '' empties it.",
)  # fmt: skip
_DESCRIPTION = click.option("--description", metavar="TEXT", help="What it is for.")
_NO_OVERWRITE = click.option("--no-overwrite", is_flag=True, help="Fail if there is one of that name already.")
_POLICY = click.option(
    "--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Set its policy (IAM's JSON, principals are project/NAME); an empty file takes it away.",
)  # fmt: skip


@click.group()
def secret() -> None:
    """Secrets for builds: put, list, show, change, delete."""


@click.group()
def parameter() -> None:
    """Parameters for builds: put, list, show, change, delete."""


@example("pass show shop/db | entrepot secret put db/main --project shop")
@secret.command("put")
@click.argument("name")
@_DESCRIPTION
@_PROJECTS
@_NO_OVERWRITE
@json_option
@with_client
def put_secret(client: Client, name: str, *, no_overwrite: bool, as_json: bool, **given: Any) -> None:
    """Make a secret, or replace what it holds. The value is read from stdin, without the line end behind it."""
    body = {"secretString": _value(), "overwrite": not no_overwrite, **_about(**given)}
    _print(client.send("PUT", "secrets", *_parts(name), body=body), f"secret {name} is stored", as_json=as_json)


@example("entrepot secret list")
@secret.command("list")
@click.option("--path", default="", metavar="BEGINNING", help="Names that begin so.")
@json_option
@with_client
def list_secrets(client: Client, path: str, *, as_json: bool) -> None:
    """List secrets by name; what they hold is not shown."""
    print_rows(client.items("secrets", path=path or None, limit=200), _SECRETS, as_json=as_json)


@example("entrepot secret show db/main")
@secret.command("show")
@click.argument("name")
@json_option
@with_client
def show_secret(client: Client, name: str, *, as_json: bool) -> None:
    """Show a secret with its versions; what it holds is not shown."""
    _show(client.get("secrets", *_parts(name)), _SECRETS, as_json=as_json)


@example("entrepot secret change db/main --project shop --project shop-tests")
@secret.command("change")
@click.argument("name")
@_DESCRIPTION
@_PROJECTS
@_POLICY
@json_option
@with_client
def change_secret(client: Client, name: str, *, as_json: bool, policy: Path | None, **given: Any) -> None:
    """Change what is given and leave the rest; the value stays."""
    body = {**_about(**given), **_policy(policy)}
    _print(client.send("PATCH", "secrets", *_parts(name), body=body), f"secret {name} is changed", as_json=as_json)


@example("entrepot secret delete db/main")
@secret.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_secret(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a secret with all its versions."""
    client.send("DELETE", "secrets", *_parts(name))
    _print({"name": name, "deleted": True}, f"secret {name} is deleted", as_json=as_json)


@example("echo https://shop.example/ | entrepot parameter put /shop/url --type String --project shop")
@parameter.command("put")
@click.argument("name")
@click.option("--type", "type_", type=click.Choice(["String", "SecureString"]), help="SecureString, if it is new.")
@_DESCRIPTION
@_PROJECTS
@_NO_OVERWRITE
@json_option
@with_client
def put_parameter(
    client: Client, name: str, *, type_: str | None, no_overwrite: bool, as_json: bool, **given: Any
) -> None:
    """Make a parameter, or give it another value. The value is read from stdin, without the line end behind it."""
    body = {"value": _value(), "type": type_ or "", "overwrite": not no_overwrite, **_about(**given)}
    _print(client.send("PUT", "parameters", *_parts(name), body=body), f"parameter {name} is stored", as_json=as_json)


@example("entrepot parameter list --path /shop/")
@parameter.command("list")
@click.option("--path", default="", metavar="BEGINNING", help="Names that begin so.")
@json_option
@with_client
def list_parameters(client: Client, path: str, *, as_json: bool) -> None:
    """List parameters by name; their values are not shown."""
    print_rows(client.items("parameters", path=path or None, limit=200), _PARAMETERS, as_json=as_json)


@example("entrepot parameter show /shop/url")
@parameter.command("show")
@click.argument("name")
@json_option
@with_client
def show_parameter(client: Client, name: str, *, as_json: bool) -> None:
    """Show a parameter with its versions; its value is not shown."""
    _show(client.get("parameters", *_parts(name)), _PARAMETERS, as_json=as_json)


@example("entrepot parameter change /shop/url --description 'where the shop is'")
@parameter.command("change")
@click.argument("name")
@_DESCRIPTION
@_PROJECTS
@_POLICY
@json_option
@with_client
def change_parameter(client: Client, name: str, *, as_json: bool, policy: Path | None, **given: Any) -> None:
    """Change what is given and leave the rest; the value stays."""
    body = {**_about(**given), **_policy(policy)}
    changed = client.send("PATCH", "parameters", *_parts(name), body=body)
    _print(changed, f"parameter {name} is changed", as_json=as_json)


@example("entrepot parameter delete /shop/url")
@parameter.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_parameter(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a parameter with all its versions."""
    client.send("DELETE", "parameters", *_parts(name))
    _print({"name": name, "deleted": True}, f"parameter {name} is deleted", as_json=as_json)


def _parts(name: str) -> list[str]:
    return name.removeprefix("/").split("/")


def _value() -> str:
    """The value on stdin: never an argument, which every process of the machine could read."""
    if sys.stdin.isatty():
        # Where somebody types it, it does not show.
        return str(click.prompt("Value", hide_input=True, err=True))
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Failed("the value is not UTF-8 text; encode it, in base64 for example") from error
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Failed("there is no value on stdin")
    return value


def _about(*, description: str | None, projects: tuple[str, ...]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if description is not None:
        body["description"] = description
    if projects:
        body["projects"] = [name for name in projects if name]
    return body


def _policy(path: Path | None) -> dict[str, str]:
    return {} if path is None else {"policy": path.read_text(encoding="utf-8").strip()}


def _show(found: dict[str, Any], fields: tuple[tuple[str, str], ...], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_record(found, (*fields, ("POLICY", "policy")), as_json=False)
    print_rows(found["versions"], _VERSIONS, as_json=False)


def _print(found: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    say(sentence)
    if as_json:
        print_json(found)
