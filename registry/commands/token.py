"""``entrepot token``: credentials for clients and scripts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import click

from registry.commands.client import Client, connection_options, needs_server, with_client
from registry.commands.options import DURATION, example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("ID", "id"),
    ("NAME", "name"),
    ("USER", "user"),
    ("ENDS IN", "lastFour"),
    ("RIGHTS", "actions"),
    ("REPOSITORIES", "repositories"),
    ("EXPIRES", "expiresAt"),
    ("LAST USED", "lastUsedAt"),
)


class NewTokenOnData(Protocol):
    """Makes a token on a data directory itself; the command line's composition hands one in."""

    def __call__(
        self,
        data: Path,
        name: str,
        *,
        actions: tuple[str, ...],
        repositories: tuple[str, ...],
        life: timedelta,
        label: str,
    ) -> tuple[str, str]:
        """Return (secret, expiry as RFC 3339). ``name`` is the user's; no actions stand for all the user's own."""


def token_group(new_token_on_data: NewTokenOnData) -> click.Group:
    """The ``token`` command, whose ``new`` can also work on the server's data directory."""

    @click.group()
    def token() -> None:
        """Tokens: make, list, revoke."""

    token.add_command(_new_command(new_token_on_data))
    token.add_command(list_tokens)
    token.add_command(revoke)
    return token


def _new_command(new_token_on_data: NewTokenOnData) -> click.Command:
    @example(
        "entrepot token new --name ci --scope read --scope publish --repository dev --ttl 30d\n"
        "entrepot token new --data /var/lib/entrepot --user admin      (on the server itself, without a token)"
    )
    @click.command()
    @click.option("--name", "label", default="", help="What it is for; shown in lists.")
    @click.option("--user", help="Whose token; your own if not given.")
    @click.option(
        "--scope", "scopes", multiple=True, metavar="ACTION", help="read, publish, promote, approve or admin."
    )
    @click.option(
        "--repository", "repositories", multiple=True, metavar="PATTERN", help="DOMAIN/NAME, with * in parts."
    )
    @click.option("--ttl", default="12h", show_default=True, type=DURATION, help="How long it lives.")
    @click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Data directory.")
    @json_option
    @connection_options
    def new(
        label: str, user: str | None, scopes: tuple[str, ...], ttl: timedelta, data: Path | None, **rest: Any
    ) -> None:
        """Make a token; prints it alone on stdout, once.

        Without --scope it has all the rights of whoever makes it; with --repository, there only.
        """
        patterns = tuple(name if "/" in name else f"default/{name}" for name in rest["repositories"])
        if data is not None:
            if user is None:
                raise click.UsageError("--data needs --user")
            secret, expires_at = new_token_on_data(
                data, user, actions=scopes, repositories=patterns, life=ttl, label=label
            )
            made = {"secret": secret, "user": user, "expiresAt": expires_at}
        else:
            made = _new_by_server(rest["url"], rest["token"], label, user, scopes, patterns, ttl)
        _print_made(made, as_json=rest["as_json"])

    command: click.Command = new
    return command


def _new_by_server(
    url: str | None,
    token: str | None,
    label: str,
    user: str | None,
    scopes: tuple[str, ...],
    patterns: tuple[str, ...],
    ttl: timedelta,
) -> dict[str, Any]:
    if not token:
        raise click.UsageError("no token: set ENTREPOT_TOKEN, give --token-file, or --data on the server itself")
    if user is not None and not scopes:
        raise click.UsageError("--user needs --scope")
    client = Client(needs_server(url), token)
    body = {
        "name": label or "command line",
        "actions": list(scopes) or own_actions(client),
        "repositories": list(patterns) or None,
        "ttlSeconds": int(ttl.total_seconds()),
        **({"user": user} if user is not None else {}),
    }
    made: dict[str, Any] = client.send("POST", "tokens", body=body)
    return made


def own_actions(client: Client) -> list[str]:
    """The actions the caller's credential allows somewhere."""
    scopes = [frozenset(scope["actions"]) for scope in client.get("whoami")["scopes"]]
    named = frozenset().union(*scopes)
    return sorted(action for action in named if all(action in scope or "admin" in scope for scope in scopes))


def _print_made(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(made["secret"])
    say(f"a token of {made['user']}, until {made['expiresAt']}; it is not shown again")


@example("entrepot token list")
@click.command("list")
@click.option("--user", help="Whose tokens; your own if not given.")
@json_option
@with_client
def list_tokens(client: Client, user: str | None, *, as_json: bool) -> None:
    """List tokens that are not revoked (without their secrets)."""
    print_rows(client.items("tokens", user=user, limit=200), _COLUMNS, as_json=as_json)


@example("entrepot token revoke 17")
@click.command()
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@json_option
@with_client
def revoke(client: Client, token_ids: tuple[int, ...], *, as_json: bool) -> None:
    """End tokens; it counts from the next request on."""
    for token_id in token_ids:
        client.send("DELETE", "tokens", token_id)
        say(f"token {token_id} is revoked")
    if as_json:
        print_json([{"id": token_id, "revoked": True} for token_id in token_ids])
