"""``entrepot token``: credentials for clients and scripts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import click

from registry.commands.client import Client, connection_options, needs_server, with_client
from registry.commands.options import DURATION, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

SHORTEST, LONGEST = timedelta(minutes=15), timedelta(hours=12)
"""What the server gives as an authorization token; others are made as any token is."""

_COLUMNS = (
    ("ID", "id"),
    ("NAME", "name"),
    ("USER", "user"),
    ("ENDS IN", "lastFour"),
    ("RIGHTS", "actions"),
    ("REPOSITORIES", "repositories"),
    ("PACKAGES", "packages"),
    ("NETWORKS", "networks"),
    ("KIND", "kind"),
    ("EXPIRES", "expiresAt"),
    ("LAST USED", "lastUsedAt"),
    ("FROM", "lastUsedAddress"),
)
_ON_TERMINAL = ("ID", "NAME", "RIGHTS", "EXPIRES", "LAST USED", "KIND", "REPOSITORIES", "PACKAGES", "NETWORKS")
_FIELDS = (
    *((heading.lower(), name) for heading, name in _COLUMNS),
    ("made", "createdAt"),
    ("made by", "createdBy"),
    ("made with token", "parentId"),
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
        packages: tuple[str, ...],
        networks: tuple[str, ...],
        life: timedelta,
        label: str,
    ) -> tuple[str, str]:
        """Return (secret, expiry as RFC 3339). ``name`` is the user's; no actions stand for all the user's own."""


def token_group(new_token_on_data: NewTokenOnData) -> click.Group:
    """The ``token`` command, whose ``new`` can also work on the server's data directory."""

    @click.group()
    def token() -> None:
        """Tokens: new, list, show, revoke."""

    token.add_command(_new_command(new_token_on_data))
    token.add_command(list_tokens)
    token.add_command(show)
    token.add_command(revoke)
    return token


def _new_command(new_token_on_data: NewTokenOnData) -> click.Command:
    @example(
        "entrepot token new --name ci --scope read --scope publish --repository dev --ttl 30d\n"
        "entrepot token new --scope publish --package 'generic/acme-*' --network 192.0.2.0/24 --ttl 90d\n"
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
    @click.option(
        "--package",
        "packages",
        multiple=True,
        metavar="PATTERN",
        help="FORMAT/NAME or FORMAT/NAMESPACE/NAME, with * in parts.",
    )
    @click.option("--network", "networks", multiple=True, metavar="CIDR", help="Where it may be used from.")
    @click.option("--ttl", default="12h", show_default=True, type=DURATION, help="How long it lives; at most 366 days.")
    @click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Data directory.")
    @json_option
    @connection_options
    def new(
        label: str, user: str | None, scopes: tuple[str, ...], ttl: timedelta, data: Path | None, **rest: Any
    ) -> None:
        """Make a token; prints it alone on stdout, once.

        Without --scope it has all the rights of whoever makes it; with --repository, --package or --network, there
        only. One made with a token ends with that token.
        """
        patterns = tuple(name if "/" in name else f"default/{name}" for name in rest["repositories"])
        if data is not None:
            if user is None:
                raise click.UsageError("--data needs --user")
            secret, expires_at = new_token_on_data(
                data,
                user,
                actions=scopes,
                repositories=patterns,
                packages=rest["packages"],
                networks=rest["networks"],
                life=ttl,
                label=label,
            )
            made = {"secret": secret, "user": user, "expiresAt": expires_at}
        else:
            limits = {"repositories": patterns, "packages": rest["packages"], "networks": rest["networks"]}
            made = _new_by_server(rest["url"], rest["token"], label, user, scopes, limits, ttl)
        _print_made(made, as_json=rest["as_json"])

    command: click.Command = new
    return command


def _new_by_server(
    url: str | None,
    token: str | None,
    label: str,
    user: str | None,
    scopes: tuple[str, ...],
    limits: Mapping[str, tuple[str, ...]],
    ttl: timedelta,
) -> dict[str, Any]:
    if not token:
        raise click.UsageError("no token: set ENTREPOT_TOKEN, give --token-file, or --data on the server itself")
    if user is not None and not scopes:
        raise click.UsageError("--user needs --scope")
    client = Client(needs_server(url), token)
    if user is None and SHORTEST <= ttl <= LONGEST:
        return short_lived(client, label or "command line", list(scopes) or None, limits, ttl)
    body = {
        "name": label or "command line",
        "actions": list(scopes) or own_actions(client),
        **{name: list(patterns) or None for name, patterns in limits.items()},
        "ttlSeconds": int(ttl.total_seconds()),
        **({"user": user} if user is not None else {}),
    }
    made: dict[str, Any] = client.send("POST", "tokens", body=body)
    return made


def short_lived(
    client: Client,
    name: str,
    actions: list[str] | None,
    limits: Mapping[str, tuple[str, ...]],
    ttl: timedelta,
) -> dict[str, Any]:
    """A token for hours, asked for in CodeArtifact's manner; told as any new token is. No actions stand for all."""
    body = {"name": name, "actions": actions, **{limit: list(patterns) or None for limit, patterns in limits.items()}}
    made = client.send("POST", "authorization-token", body=body, durationSeconds=int(ttl.total_seconds()))
    kept = ("user", "actions", "repositories", "packages", "networks", "parentId", "endsWithParent")
    told = {key: made[key] for key in kept}
    return {
        **told,
        "id": made["tokenId"],
        "name": name,
        "secret": made["authorizationToken"],
        "expiresAt": made["expiration"],
    }


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
    if made.get("endsWithParent"):
        say(f"it ends with the token it was made with, on {made['expiresAt']}, before the time that was asked for")
    say(f"a token of {made['user']}, until {made['expiresAt']}; it is not shown again")


@example("entrepot token list")
@click.command("list")
@click.option("--user", help="Whose tokens; your own if not given.")
@json_option
@with_client
def list_tokens(client: Client, user: str | None, *, as_json: bool) -> None:
    """List tokens that are not revoked (without their secrets)."""
    print_rows(client.items("tokens", user=user, limit=200), _COLUMNS, as_json=as_json, on_terminal=_ON_TERMINAL)


@example("entrepot token show 17")
@click.command()
@click.argument("token_id", metavar="ID", type=click.IntRange(1))
@json_option
@with_client
def show(client: Client, token_id: int, *, as_json: bool) -> None:
    """Show everything about a token but its secret."""
    print_record(client.get("tokens", token_id), _FIELDS, as_json=as_json)


@example("entrepot token revoke 17\nentrepot token revoke --all --kind login")
@click.command()
@click.argument("token_ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "is_all", is_flag=True, help="All of yours, or of --user; with --kind those of one kind.")
@click.option("--user", help="Whose tokens, with --all; your own if not given.")
@click.option("--kind", help="personal, login, authorization, build or setup, with --all.")
@json_option
@with_client
def revoke(
    client: Client, token_ids: tuple[int, ...], *, is_all: bool, user: str | None, kind: str | None, as_json: bool
) -> None:
    """End tokens with all that were made with them; it counts from the next request on."""
    if is_all == bool(token_ids) or ((user or kind) and not is_all):
        raise click.UsageError("give the ids of tokens, or --all (with --user, --kind)")
    if is_all:
        ended = client.send("DELETE", "tokens", user=user, kind=kind)
        say(f"{ended['count']} tokens are revoked")
        if as_json:
            print_json(ended)
        return
    for token_id in token_ids:
        client.send("DELETE", "tokens", token_id)
        say(f"token {token_id} is revoked")
    if as_json:
        print_json([{"id": token_id, "revoked": True} for token_id in token_ids])
