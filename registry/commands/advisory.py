"""``entrepot advisory``: bring advisories in from OSV files, and see what they say of a version."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.lookup import package_at
from registry.commands.options import REPOSITORY, Place, example
from registry.commands.output import json_option, print_json, print_rows, say

# A request of the management interface has at most 1 MiB.
_MOST_BYTES, _MOST_DOCUMENTS = 700_000, 500
_LARGEST_BYTES = 64 * 1024 * 1024
_COUNTS = ("created", "updated", "unchanged", "foreign")
_COLUMNS = (("ADVISORY", "id"), ("SEVERITY", "severity"), ("FIXED IN", "fixed"), ("SUMMARY", "summary"), ("SEE", "url"))


@click.group()
def advisory() -> None:
    """Advisories about packages: import, show, delete."""


@example("entrepot advisory import all.zip")
@advisory.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@with_client
def import_command(client: Client, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Bring in OSV documents: JSON files (one document, or a list), zip archives of such, or folders."""
    counts = dict.fromkeys(_COUNTS, 0)
    for documents in _batches(each for path in files for each in _documents(path)):
        answer = client.send("POST", "advisories", body={"documents": documents})
        for name in _COUNTS:
            counts[name] += answer[name]
    if as_json:
        print_json(counts)
        return
    say(", ".join(f"{number} {name}" for name, number in counts.items()))


@example("entrepot advisory show prod acme-client 1.4.0 --format FORMAT")
@advisory.command("show")
@click.argument("repository", type=REPOSITORY)
@click.argument("name")
@click.argument("version")
@click.option("--format", "format_name", metavar="FORMAT", help="The package's format, if several have the name.")
@json_option
@with_client
def show(client: Client, repository: Place, name: str, version: str, *, format_name: str | None, as_json: bool) -> None:
    """Show the advisories about a version, the worst first."""
    path, namespace = package_at(client, repository, name, format_name)
    found = client.get(*path, "versions", version, "advisories", namespace=namespace)
    print_rows(found["items"], _COLUMNS, as_json=as_json)


@example("entrepot advisory delete OSV-2026-1")
@advisory.command("delete")
@click.argument("advisory_id", metavar="ID")
@json_option
@with_client
def delete(client: Client, advisory_id: str, *, as_json: bool) -> None:
    """Forget an advisory; a later import may bring it back."""
    client.send("DELETE", "advisories", advisory_id)
    if as_json:
        print_json({"id": advisory_id, "deleted": True})
        return
    say(f"advisory {advisory_id} is deleted")


def _documents(path: Path) -> Iterator[Any]:
    """The documents in a file, an archive, or all files of a folder and those below it."""
    if path.is_dir():
        for below in sorted(path.rglob("*.json")):
            yield from _documents(below)
    elif path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".json"):
                        if member.file_size > _LARGEST_BYTES:
                            raise Failed(f"{member.filename} in {path} is larger than {_LARGEST_BYTES} bytes")
                        yield from _read(archive.read(member), f"{member.filename} in {path}")
        except zipfile.BadZipFile as error:
            raise Failed(f"{path} is no zip archive") from error
    else:
        yield from _read(path.read_bytes(), str(path))


def _read(body: bytes, where: str) -> Iterator[Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Failed(f"{where} is not JSON") from error
    yield from found if isinstance(found, list) else (found,)


def _batches(documents: Iterator[Any]) -> Iterator[list[Any]]:
    """Documents in requests that are not too large. One that is too large alone is sent alone, and refused by name."""
    batch: list[Any] = []
    size_bytes = 0
    for document in documents:
        own_bytes = len(json.dumps(document))
        if batch and (size_bytes + own_bytes > _MOST_BYTES or len(batch) == _MOST_DOCUMENTS):
            yield batch
            batch, size_bytes = [], 0
        batch.append(document)
        size_bytes += own_bytes
    if batch:
        yield batch
