"""``entrepot package copy|dispose|versions|reopen|get-asset``: many versions at once, and single files."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from registry.commands.batch import run_batch
from registry.commands.client import Client, with_client
from registry.commands.lookup import package_at
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, print_record, print_rows, say
from registry.commands.package import format_option, package
from registry.commands.saving import save

__all__ = ["package"]

STATES = ("Published", "Unlisted", "Archived")
ALL_STATES = (*STATES, "Unfinished", "Disposed")

_LISTED = (
    ("VERSION", "version"),
    ("STATUS", "status"),
    ("PUBLISHED", "publishedTime"),
    ("ORIGIN", "origin.originType"),
    ("FROM", "origin.domainEntryPoint.repositoryName"),
    ("REVISION", "revision"),
)


@example("entrepot package copy dev acme-client 1.4.0 1.4.1 --to staging")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("versions", metavar="VERSION...", nargs=-1, required=True)
@click.option("--to", "target", required=True, metavar="REPOSITORY", help="Repository of the same domain.")
@click.option("--allow-overwrite", is_flag=True, help="Make versions that are there already as they are here.")
@click.option(
    "--include-from-upstream", is_flag=True, help="Also what the source finds behind it, or fetches from outside."
)
@format_option
@json_option
@with_client
def copy(
    client: Client,
    repository: Place,
    name: str,
    versions: tuple[str, ...],
    *,
    target: str,
    allow_overwrite: bool,
    include_from_upstream: bool,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Copy versions to another repository: the same bytes, and the same states.

    What is the same there already counts as copied. No file's content is ever changed.
    """
    if include_from_upstream and format_name is None:
        raise click.UsageError(
            "--include-from-upstream needs --format: the repository need not hold the package itself"
        )
    body = {
        "versions": list(versions),
        "destinationRepository": target,
        "allowOverwrite": allow_overwrite,
        "includeFromUpstream": include_from_upstream,
    }
    run_batch(client, package_at(client, repository, name, format_name), "copy", body, as_json=as_json)


@example("entrepot package dispose dev acme-client 1.4.0 --yes")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("versions", metavar="VERSION...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
@json_option
@with_client
def dispose(
    client: Client,
    repository: Place,
    name: str,
    versions: tuple[str, ...],
    *,
    yes: bool,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Give up the files of versions for good. They stay on the list, and never come back.

    Bytes that another version or repository has stay there.
    """
    place = f"{repository.domain}/{repository.repository}"
    if not yes:
        click.confirm(f"Dispose of {name} {', '.join(versions)} in {place} for good?", abort=True, err=True)
    at = package_at(client, repository, name, format_name)
    run_batch(client, at, "dispose", {"versions": list(versions)}, as_json=as_json)


@example("entrepot package versions dev acme-client --status Archived")
@package.command("versions")
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.option("--status", type=click.Choice(ALL_STATES), help="Only those in this state.")
@click.option(
    "--origin", type=click.Choice(("INTERNAL", "EXTERNAL")), help="Only those published here, or found upstream."
)
@click.option("--by-time", is_flag=True, help="Those published last come first, not the highest.")
@format_option
@json_option
@with_client
def list_versions(
    client: Client,
    repository: Place,
    name: str,
    *,
    status: str | None,
    origin: str | None,
    by_time: bool,
    format_name: str | None,
    as_json: bool,
) -> None:
    """List a package's versions with their states and revisions."""
    path, namespace = package_at(client, repository, name, format_name)
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.get(
            *path,
            "versions",
            namespace=namespace,
            status=status,
            originType=origin,
            sortBy="PUBLISHED_TIME" if by_time else None,
            maxResults=1000,
            nextToken=token,
        )
        found += page["versions"]
        token = page["nextToken"]
        if token is None:
            break
    print_rows(found, _LISTED, as_json=as_json)


@example("entrepot package reopen dev acme-client 1.4.0 --hours 2 --reason 'a forgotten wheel'")
@package.command()
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.option("--hours", default=24, show_default=True, type=click.IntRange(1, 168), help="For how long.")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@format_option
@json_option
@with_client
def reopen(
    client: Client,
    repository: Place,
    name: str,
    version: str,
    *,
    hours: int,
    reason: str,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Let files be added to an old release for some hours (administrators)."""
    path, namespace = package_at(client, repository, name, format_name)
    body = {"hours": hours, "reason": reason}
    answer = client.send("POST", *path, "versions", version, "reopen", body=body, namespace=namespace)
    print_record(answer, (("open until", "openUntil"),), as_json=as_json)


@example(
    "entrepot package get-asset dev acme-client 1.4.0 acme_client-1.4.0-py3-none-any.whl\n"
    "entrepot package get-asset dev acme-report 7 7/report.pdf -o report.pdf"
)
@package.command("get-asset")
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.argument("asset")
@click.option("-o", "--output", metavar="FILE", help="Where to; the asset's own name here if not given, - for stdout.")
@format_option
@json_option
@with_client
def get_asset(
    client: Client,
    repository: Place,
    name: str,
    version: str,
    asset: str,
    *,
    output: str | None,
    format_name: str | None,
    as_json: bool,
) -> None:
    """Download one file of a version that the repository holds."""
    if output == "-" and as_json:
        raise click.UsageError("--json and -o - both want stdout")
    path, namespace = package_at(client, repository, name, format_name)
    where = (*path, "versions", version, "asset")
    if output == "-":
        with click.open_file("-", "wb") as stdout:
            client.download(stdout, *where, namespace=namespace, asset=asset)
        return
    target = Path(asset.rpartition("/")[2] if output is None else output)
    digest = ""

    def write(file: IO[bytes]) -> None:
        nonlocal digest
        digest = client.download(file, *where, namespace=namespace, asset=asset)

    save(target, write)
    size = target.stat().st_size
    say(f"{target}: {size} bytes, sha256:{digest}")
    if as_json:
        print_json({"asset": asset, "file": str(target), "sizeBytes": size, "sha256": digest})
