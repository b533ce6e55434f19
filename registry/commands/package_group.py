"""``entrepot package-group``: what may come into a domain, by patterns of package names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_RESTRICTIONS = ("PUBLISH", "INTERNAL_UPSTREAM", "EXTERNAL_UPSTREAM")
_MODES = ("ALLOW", "ALLOW_SPECIFIC_REPOSITORIES", "BLOCK", "INHERIT")
_COLUMNS = (
    ("PATTERN", "pattern"),
    *((name, f"originConfiguration.restrictions.{name}.effectiveMode") for name in _RESTRICTIONS),
    ("PARENT", "parent.pattern"),
    ("DESCRIPTION", "description"),
)
_FIELDS = (
    ("pattern", "pattern"),
    ("parent", "parent.pattern"),
    *(
        entry
        for name in _RESTRICTIONS
        for entry in (
            (name, f"originConfiguration.restrictions.{name}.mode"),
            (f"{name} counts as", f"originConfiguration.restrictions.{name}.effectiveMode"),
            (f"{name} repositories", f"originConfiguration.restrictions.{name}.repositoriesCount"),
        )
    ),
    ("description", "description"),
    ("contact", "contactInfo"),
    ("created", "createdTime"),
)
_PACKAGES = (("FORMAT", "format"), ("NAMESPACE", "namespace"), ("NAME", "package"), ("MATCH", "associationType"))
_domain = click.option("--domain", default="default", show_default=True, metavar="DOMAIN")
_pattern = click.argument("pattern")


@click.group("package-group")
def package_group() -> None:
    """Package groups: list, show, create, update, configure, delete, packages."""


@example("entrepot package-group list")
@package_group.command("list")
@click.option("--prefix", default="", metavar="TEXT", help="Only patterns that begin like this.")
@_domain
@json_option
@with_client
def list_groups(client: Client, *, prefix: str, domain: str, as_json: bool) -> None:
    """List the package groups of a domain, each behind its parents."""
    found = _all(client, "packageGroups", "domains", domain, "package-groups", prefix=prefix or None)
    print_rows(found, _COLUMNS, as_json=as_json)


@example("entrepot package-group show '/generic//acme~'")
@package_group.command()
@_pattern
@_domain
@json_option
@with_client
def show(client: Client, pattern: str, *, domain: str, as_json: bool) -> None:
    """Show a package group."""
    found = client.get("domains", domain, "package-group", packageGroup=pattern)["packageGroup"]
    print_record(found, _FIELDS, as_json=as_json)


@example("entrepot package-group create '/generic//acme~' --description 'our own names'")
@package_group.command()
@_pattern
@click.option("--description", default="", metavar="TEXT")
@click.option("--contact", default="", metavar="TEXT", help="Whom to ask about it.")
@_domain
@json_option
@with_client
def create(client: Client, pattern: str, *, description: str, contact: str, domain: str, as_json: bool) -> None:
    """Add a package group. It inherits everything until it is configured."""
    body = {"packageGroup": pattern, "description": description, "contactInfo": contact}
    found = client.send("POST", "domains", domain, "package-group", body=body)["packageGroup"]
    say(f"package group {pattern} is made")
    print_record(found, _FIELDS, as_json=as_json)


@example("entrepot package-group update '/generic//acme~' --contact 'platform team'")
@package_group.command()
@_pattern
@click.option("--description", metavar="TEXT")
@click.option("--contact", metavar="TEXT")
@_domain
@json_option
@with_client
def update(
    client: Client, pattern: str, *, description: str | None, contact: str | None, domain: str, as_json: bool
) -> None:
    """Change a package group's description and contact."""
    body = {"packageGroup": pattern, "description": description, "contactInfo": contact}
    found = client.send("PUT", "domains", domain, "package-group", body=body)["packageGroup"]
    print_record(found, _FIELDS, as_json=as_json)


@example("entrepot package-group configure '/generic//acme~' --restriction EXTERNAL_UPSTREAM=BLOCK")
@package_group.command()
@_pattern
@click.option(
    "--restriction", "restrictions", multiple=True, metavar="NAME=MODE", help=f"{'|'.join(_RESTRICTIONS)} = a mode."
)
@click.option("--add", multiple=True, metavar="NAME=REPOSITORY", help="Put a repository on a restriction's list.")
@click.option("--remove", multiple=True, metavar="NAME=REPOSITORY", help="Take one off.")
@_domain
@json_option
@with_client
def configure(
    client: Client,
    pattern: str,
    *,
    restrictions: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    domain: str,
    as_json: bool,
) -> None:
    """Change what a package group says of publishing, internal upstreams and the outside.

    Modes are ALLOW, ALLOW_SPECIFIC_REPOSITORIES, BLOCK and INHERIT; options can be repeated.
    """
    body = {
        "restrictions": {name: _mode(mode) for name, mode in map(_pair, restrictions)},
        "addAllowedRepositories": [_entry(text) for text in add],
        "removeAllowedRepositories": [_entry(text) for text in remove],
    }
    path = ("domains", domain, "package-group-origin-configuration")
    answer = client.send("PUT", *path, body=body, packageGroup=pattern)
    if as_json:
        print_json(answer)
    else:
        print_record(answer["packageGroup"], _FIELDS, as_json=False)


@example("entrepot package-group delete '/generic//acme~' --yes")
@package_group.command()
@_pattern
@click.option("--yes", is_flag=True, help="Do not ask.")
@_domain
@json_option
@with_client
def delete(client: Client, pattern: str, *, yes: bool, domain: str, as_json: bool) -> None:
    """Take a package group out; its packages belong to its parent from then on."""
    if not yes:
        click.confirm(f"Delete {pattern}? What it blocks is open to what its parent says.", abort=True, err=True)
    client.send("DELETE", "domains", domain, "package-group", packageGroup=pattern)
    say(f"package group {pattern} is deleted")
    if as_json:
        print_json({"domainName": domain, "pattern": pattern})


@example("entrepot package-group packages '/generic//acme~' --preview")
@package_group.command()
@_pattern
@click.option("--preview", is_flag=True, help="Also for a group that does not exist: what would belong to it?")
@_domain
@json_option
@with_client
def packages(client: Client, pattern: str, *, preview: bool, domain: str, as_json: bool) -> None:
    """List the packages that belong to a package group."""
    path = ("domains", domain, "list-associated-packages")
    found = _all(client, "packages", *path, packageGroup=pattern, preview="true" if preview else None)
    print_rows(found, _PACKAGES, as_json=as_json)


def _all(client: Client, field: str, *path: str, **query: Any) -> Iterator[Any]:
    while True:
        page = client.get(*path, **query)
        yield from page[field]
        if page["nextToken"] is None:
            return
        query["nextToken"] = page["nextToken"]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in _RESTRICTIONS:
        raise click.UsageError(f"{text!r}: write one of {', '.join(_RESTRICTIONS)}, '=' and a value")
    return name, value


def _mode(text: str) -> str:
    if text not in _MODES:
        raise click.UsageError(f"{text!r}: a mode is one of {', '.join(_MODES)}")
    return text


def _entry(text: str) -> dict[str, str]:
    name, repository = _pair(text)
    return {"originRestrictionType": name, "repositoryName": repository}
