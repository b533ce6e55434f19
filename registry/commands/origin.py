"""``entrepot package origin`` and ``entrepot package explain``: where versions of a package may come from, and do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.lookup import package_at
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_FIELDS = (
    ("publish", "originConfiguration.restrictions.publish"),
    ("upstream", "originConfiguration.restrictions.upstream"),
)
_COLUMNS = (("WHAT", "what"), ("WHERE", "where"), ("COUNTS", "counts"), ("WHY", "why"))
_WORDS = click.Choice(("ALLOW", "BLOCK"), case_sensitive=False)
_format = click.option("--format", "format_name", required=True, metavar="FORMAT", help="The package's format.")


@click.group()
def origin() -> None:
    """Origin controls: whether versions may be published, and whether they may come from upstreams."""


@example("entrepot package origin show dev acme-client --format generic")
@origin.command("show")
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@_format
@json_option
@with_client
def show_origin(client: Client, repository: Place, name: str, *, format_name: str, as_json: bool) -> None:
    """Show a package's own origin controls in a repository."""
    path, namespace = package_at(client, repository, name, format_name)
    found = client.get(*path, "origin-configuration", namespace=namespace)
    print_record(found, _FIELDS, as_json=as_json)


@example("entrepot package origin put dev acme-client --format generic --publish ALLOW --upstream BLOCK")
@origin.command("put")
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.option("--publish", required=True, type=_WORDS, help="May versions be published here?")
@click.option("--upstream", required=True, type=_WORDS, help="May versions come from upstreams and from outside?")
@click.option("--yes", is_flag=True, help="Do not ask when both are allowed.")
@_format
@json_option
@with_client
def put_origin(
    client: Client,
    repository: Place,
    name: str,
    *,
    publish: str,
    upstream: str,
    yes: bool,
    format_name: str,
    as_json: bool,
) -> None:
    """Set a package's origin controls, also before its first version.

    With both allowed, whoever can publish the name outside can be installed here.
    """
    wanted = {"publish": publish.upper(), "upstream": upstream.upper()}
    if not yes and set(wanted.values()) == {"ALLOW"}:
        click.confirm(
            f"Versions of {name} from outside will count beside yours: anybody who can publish that name there is "
            "trusted with it. Go on?",
            abort=True,
            err=True,
        )
    path, namespace = package_at(client, repository, name, format_name)
    found = client.send("PUT", *path, "origin-configuration", body={"restrictions": wanted}, namespace=namespace)
    say(f"{name} in {repository.domain}/{repository.repository}: publish {publish}, upstream {upstream}")
    print_record(found, _FIELDS, as_json=as_json)


@example("entrepot package explain acme-client --repository dev --version 99.0")
@click.command()
@click.argument("name")
@click.option("--repository", type=REPOSITORY, default="dev", show_default=True, help="Where it is asked for.")
@click.option("--version", metavar="VERSION", help="Only what becomes of this version.")
@click.option("--format", "format_name", metavar="FORMAT", help="The package's format, if the repository has it not.")
@json_option
@with_client
def explain(
    client: Client, name: str, *, repository: Place, version: str | None, format_name: str | None, as_json: bool
) -> None:
    """Say what a repository serves of a package, from where, and why not from elsewhere."""
    path, namespace = package_at(client, repository, name, format_name)
    found = client.get(*path, "explain", namespace=namespace, version=version)
    if version is not None and not found["versions"] and not found["asksOutside"]:
        say(f"{name} {version} is in no repository that {repository.repository} asks, and the outside is not asked")
    if as_json:
        print_json(found)
        return
    print_rows(_told(found), _COLUMNS, as_json=False)


def _told(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One line for each decision: the group, publishing, each repository and connection, each version."""
    weak = " (a variation of its pattern)" if found["associationType"] == "WEAK" else ""
    yield {"what": "package group", "where": found["packageGroup"], "counts": "", "why": f"associated{weak}"}
    yield _line("publish", found["repository"], found["publish"])
    for place in found["repositories"]:
        controls = f"publish {place['publish']}, upstream {place['upstream']}" if place["publish"] else "none"
        yield {"what": "origin controls", "where": place["repository"], "counts": "", "why": controls}
        yield _line("versions published", place["repository"], place["published"])
        yield _line("versions kept", place["repository"], place["kept"])
        for connection in place["connections"]:
            yield _line("outside", f"{place['repository']}/{connection['name']}", connection["answer"])
    for version in found["versions"]:
        counts = {"allowed": version["isServed"], "reason": version["reason"]}
        yield _line(f"{version['version']} ({version['origin']})", version["repository"], counts)


def _line(what: str, where: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"what": what, "where": where, "counts": answer["allowed"], "why": answer["reason"]}
