"""``entrepot package``: what repositories hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from registry.commands.batch import run_batch
from registry.commands.client import Client, Failed, with_client
from registry.commands.lookup import PackageAt, package_at
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.origin import explain, origin
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_PACKAGES = (
    ("FORMAT", "format"),
    ("NAME", "displayName"),
    ("LATEST", "latestVersion"),
    ("VERSIONS", "versionCount"),
    ("ORIGIN", "origin"),
    ("UPDATED", "updatedAt"),
    ("SUMMARY", "summary"),
)
_VERSIONS = (
    ("VERSION", "displayVersion"),
    ("PUBLISHED", "publishedAt"),
    ("BY", "publishedBy"),
    ("ORIGIN", "origin"),
    ("FROM", "promotedFrom"),
    ("FILES", "assetCount"),
    ("BYTES", "sizeBytes"),
    ("STATUS", "status"),
    ("YANKED", "yankedReason"),
)
_VERSIONS_ON_TERMINAL = ("VERSION", "STATUS", "PUBLISHED", "BY", "YANKED", "ORIGIN", "FROM", "FILES", "BYTES")
_VERSION = (
    ("name", "displayName"),
    ("version", "displayVersion"),
    ("summary", "summary"),
    ("published", "publishedAt"),
    ("by", "publishedBy"),
    ("origin", "origin"),
    ("promoted from", "promotedFrom"),
    ("status", "status"),
    ("revision", "revision"),
    ("yanked", "yankedReason"),
    ("held by", "heldBy"),
    ("built by", "builtBy"),
    ("files", "files"),
)

_STATUSES = ("active", "archived", "deprecated", "quarantined")
_VERSION_STATUSES = ("Published", "Unlisted", "Archived")
_STATUS = (("name", "displayName"), ("status", "status"), ("reason", "statusReason"))

format_option: Callable[..., Any] = click.option(
    "--format", "format_name", metavar="FORMAT", help="The package's format, if the name is there in several."
)


@click.group()
def package() -> None:
    """Packages: list, show, get-asset, explain, copy, promote, yank, archive, dispose, delete, close, origin."""


package.add_command(origin)
package.add_command(explain)


@example("entrepot package list dev --search client")
@package.command("list")
@click.argument("repository", type=REPOSITORY)
@format_option
@click.option("--search", default="", metavar="TEXT", help="A part of the name.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@with_client
def list_packages(
    client: Client, repository: Place, format_name: str | None, search: str, limit: int, *, as_json: bool
) -> None:
    """List the packages a repository holds itself."""
    found = client.items(
        *repository.path, "packages", format=format_name, search=search or None, limit=min(limit, 100), most=limit
    )
    print_rows(found, _PACKAGES, as_json=as_json)


@example("entrepot package show prod acme-client 1.4.0")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version", required=False)
@format_option
@json_option
@with_client
def show(
    client: Client, repository: Place, name: str, version: str | None, format_name: str | None, *, as_json: bool
) -> None:
    """Show a package's versions, or one version with its files."""
    path, namespace = package_at(client, repository, name, format_name)
    if version is None:
        detail = client.get(*path, namespace=namespace)
        if as_json:
            print_json(detail)
        else:
            print_rows(detail["versions"], _VERSIONS, as_json=False, on_terminal=_VERSIONS_ON_TERMINAL)
        return
    detail = client.get(*path, "versions", version, namespace=namespace)
    readable = {
        **detail,
        "files": [f"{asset['filename']} sha256:{asset['sha256']}" for asset in detail["assets"]],
        "builtBy": [
            f"{each['project']} build {each['number']} ({each['buildId']}) on {each['runner']}, from"
            f" {each['source']['uri'] or each['source']['type']} {each['source']['version']}"
            for each in detail["builtBy"]
        ],
    }
    print_record(detail if as_json else readable, _VERSION, as_json=as_json)


@example("entrepot package promote dev acme-client 1.4.0 --to staging")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.option("--to", "target", required=True, metavar="REPOSITORY", help="Repository of the same domain.")
@click.option("--asset", "assets", multiple=True, metavar="FILE", help="Only this file; repeatable.")
@format_option
@json_option
@with_client
def promote(
    client: Client,
    repository: Place,
    name: str,
    version: str,
    *,
    target: str,
    assets: tuple[str, ...],
    format_name: str | None,
    as_json: bool,
) -> None:
    """Copy a version to another repository: the same bytes, nothing built anew."""
    path, namespace = _version_at(client, repository, name, version, format_name)
    body: dict[str, Any] = {"target": target}
    if assets:
        held = {asset["filename"]: asset["sha256"] for asset in client.get(*path, namespace=namespace)["assets"]}
        unknown = [asset for asset in assets if asset not in held]
        if unknown:
            raise Failed(f"{name} {version} has no file {unknown[0]}")
        body["assets"] = {asset: held[asset] for asset in assets}
    promoted = client.send("POST", *path, "promote", body=body, namespace=namespace)
    say(f"{name} {version} is in {promoted['domain']}/{target}")
    if as_json:
        print_json(promoted)
    else:
        print_rows(
            [{"filename": filename, "sha256": sha256} for filename, sha256 in promoted["assets"].items()],
            (("FILE", "filename"), ("SHA-256", "sha256")),
            as_json=False,
        )


@example("entrepot package yank prod acme-client 1.4.0 --reason 'loses messages'")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Why; clients show it.")
@click.option("--undo", is_flag=True, help="Put it back.")
@format_option
@json_option
@with_client
def yank(
    client: Client,
    repository: Place,
    name: str,
    version: str,
    *,
    reason: str,
    undo: bool,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Withdraw a version: clients take it only where it is pinned."""
    if undo and reason:
        raise click.UsageError("--undo takes no --reason")
    path, namespace = _version_at(client, repository, name, version, format_name)
    if undo:
        detail = client.send("POST", *path, "unyank", namespace=namespace)
    else:
        detail = client.send("POST", *path, "yank", body={"reason": reason}, namespace=namespace)
    say(f"{name} {version} is {'back' if undo else 'yanked'} in {repository.domain}/{repository.repository}")
    if as_json:
        print_json(detail)


@example("entrepot package unyank prod acme-client 1.4.0")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@format_option
@json_option
@with_client
def unyank(
    client: Client, repository: Place, name: str, version: str, *, format_name: str | None, as_json: bool
) -> None:
    """Put a yanked version back."""
    path, namespace = _version_at(client, repository, name, version, format_name)
    detail = client.send("POST", *path, "unyank", namespace=namespace)
    say(f"{name} {version} is back in {repository.domain}/{repository.repository}")
    if as_json:
        print_json(detail)


@example("entrepot package delete dev acme-client 1.4.0.dev3 --yes")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
@json_option
@with_client
def delete(
    client: Client, repository: Place, name: str, version: str, *, yes: bool, format_name: str | None, as_json: bool
) -> None:
    """Take a version out of a repository for good; a yank is the milder way.

    Other repositories keep what was promoted to them. The names of its files are used up: they never come back with
    other content.
    """
    path, namespace = _version_at(client, repository, name, version, format_name)
    place = f"{repository.domain}/{repository.repository}"
    detail = client.get(*path, namespace=namespace)
    if not yes:
        files = ", ".join(asset["filename"] for asset in detail["assets"])
        click.confirm(
            f"Delete {name} {detail['displayVersion']} ({files}) from {place} for good?", abort=True, err=True
        )
    client.send("DELETE", *path, namespace=namespace)
    say(f"{name} {version} is deleted from {place}")
    if as_json:
        print_json({**detail, "deleted": True})


@example("entrepot package status dev acme-client deprecated --reason 'use acme-sdk'")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("status", required=False, type=click.Choice((*_STATUSES, *_VERSION_STATUSES)))
@click.option("--version", "versions", multiple=True, metavar="VERSION", help="Set this version's; repeatable.")
@click.option("--expected", type=click.Choice(_VERSION_STATUSES), help="Only versions that are in this state now.")
@click.option("--reason", default="", help="Why; clients show it.")
@format_option
@json_option
@with_client
def status(
    client: Client,
    repository: Place,
    name: str,
    status: str | None,
    *,
    versions: tuple[str, ...],
    expected: str | None,
    reason: str,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Show or set what state a package is in, or some of its versions.

    An archived package takes no uploads; of a quarantined one no file is listed or served either. A version is
    Published, Unlisted (no tool chooses it, but who has it in a lock gets it) or Archived (nobody gets it until it is back).
    """
    if versions or expected is not None or status in _VERSION_STATUSES:
        _set_version_status(client, repository, name, status, versions, expected, format_name, as_json=as_json)
        return
    path, namespace = package_at(client, repository, name, format_name)
    if status is None:
        if reason:
            raise click.UsageError("--reason goes with a status")
        detail = client.get(*path, namespace=namespace)
    else:
        body = {"status": status, "reason": reason}
        detail = client.send("PUT", *path, "status", body=body, namespace=namespace)
        say(f"{name} is {status} in {repository.domain}/{repository.repository}")
    print_record(detail, _STATUS, as_json=as_json)


def _set_version_status(
    client: Client,
    repository: Place,
    name: str,
    status: str | None,
    versions: tuple[str, ...],
    expected: str | None,
    format_name: str | None,
    *,
    as_json: bool,
) -> None:
    if status not in _VERSION_STATUSES or not versions:
        raise click.UsageError(f"say which --version is to be {', '.join(_VERSION_STATUSES)}")
    body: dict[str, Any] = {"versions": list(versions), "targetStatus": status}
    if expected is not None:
        body["expectedStatus"] = expected
    run_batch(client, package_at(client, repository, name, format_name), "update_status", body, as_json=as_json)


def _version_at(client: Client, repository: Place, name: str, version: str, format_name: str | None) -> PackageAt:
    path, namespace = package_at(client, repository, name, format_name)
    return PackageAt((*path, "versions", version), namespace)
