"""What to deploy, as options of ``entrepot deploy create`` and ``diff``."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click

from registry.commands.client import Client
from registry.commands.lookup import package_at
from registry.commands.options import REPOSITORY, Place
from registry.commands.output import say


def revision_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a revision; the command gets them as ``chosen``, for ``revision_of``."""

    @click.option("--package", metavar="NAME@VERSION", help="A package version of --repository.")
    @click.option("--repository", type=REPOSITORY, help="Where the package is: NAME or DOMAIN/NAME.")
    @click.option("--format", "format_name", metavar="FORMAT", help="The package's format, if it is there in several.")
    @click.option("--asset", metavar="FILE", help="The bundle (tar, tgz, zip) among the version's files.")
    @click.option("--build", metavar="BUILD", help="A build, whose artifact is the bundle.")
    @click.option("--artifact", metavar="NAME", help="Which artifact of the build; primary unless it is said.")
    @click.option(
        "--bundle",
        metavar="DIR|FILE",
        type=click.Path(exists=True, path_type=Path),
        help="A bundle on this machine, which is uploaded: a directory, or a tar, tgz or zip file.",
    )
    @click.option("--upload", metavar="ID", help="A bundle that was uploaded with deploy push.")
    @click.option("--appspec", type=click.File(encoding="utf-8"), help="An appspec for containers; - for stdin.")
    @click.option("--task-definition", type=click.File(encoding="utf-8"), help="The task definition that goes with it.")
    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        names = (
            "package",
            "repository",
            "format_name",
            "asset",
            "build",
            "artifact",
            "bundle",
            "upload",
            "appspec",
            "task_definition",
        )
        chosen = {name: options.pop(name) for name in names}
        return function(*arguments, chosen=chosen, **options)

    return command


def revision_of(client: Client, application: str, chosen: dict[str, Any]) -> dict[str, Any] | None:
    """The revision that the options name; None: the group's last good one. Raises UsageError, Failed."""
    kinds = [name for name in ("package", "build", "bundle", "upload", "appspec") if chosen[name] is not None]
    if len(kinds) > 1:
        raise click.UsageError(f"--{' and --'.join(kinds)} exclude each other: one revision at a time")
    for name, owner in (("repository", "package"), ("asset", "package"), ("format_name", "package"),
                        ("artifact", "build"), ("task_definition", "appspec")):  # fmt: skip
        if chosen[name] is not None and chosen[owner] is None:
            raise click.UsageError(f"--{name.partition('_name')[0].replace('_', '-')} belongs to --{owner}")
    if not kinds:
        return None
    return {"package": _package, "build": _artifact, "bundle": _bundle, "upload": _upload, "appspec": _content}[
        kinds[0]
    ](client, application, chosen)


def _package(client: Client, _application: str, chosen: dict[str, Any]) -> dict[str, Any]:
    name, _, version = chosen["package"].rpartition("@")
    place: Place | None = chosen["repository"]
    if not name or not version:
        raise click.UsageError(f"--package {chosen['package']!r}: write NAME@VERSION")
    if place is None:
        raise click.UsageError("--package needs --repository")
    path, namespace = package_at(client, place, name, chosen["format_name"])
    package = {
        "domain": place.domain,
        "repository": place.repository,
        "format": path[-2],
        "namespace": namespace or "",
        "name": path[-1],
        "version": version,
        "asset": chosen["asset"],
    }
    return {"revisionType": "Package", "package": {key: value for key, value in package.items() if value}}


def _artifact(_client: Client, _application: str, chosen: dict[str, Any]) -> dict[str, Any]:
    artifact = {"buildId": chosen["build"], "identifier": chosen["artifact"] or "primary"}
    return {"revisionType": "BuildArtifact", "buildArtifact": artifact}


def _bundle(client: Client, application: str, chosen: dict[str, Any]) -> dict[str, Any]:
    found = push_bundle(client, application, chosen["bundle"])
    return {"revisionType": "Upload", "upload": {"id": found["id"], "sha256": found["sha256"]}}


def _upload(_client: Client, _application: str, chosen: dict[str, Any]) -> dict[str, Any]:
    return {"revisionType": "Upload", "upload": {"id": chosen["upload"]}}


def _content(_client: Client, _application: str, chosen: dict[str, Any]) -> dict[str, Any]:
    content = {"content": chosen["appspec"].read()}
    if chosen["task_definition"] is not None:
        content["taskDefinition"] = chosen["task_definition"].read()
    return {"revisionType": "AppSpecContent", "appSpecContent": content}


def push_bundle(client: Client, application: str, source: Path) -> dict[str, Any]:
    """Send a bundle, packed if it is a directory; what the server says of it. Raises Failed."""
    place = ("deployment-applications", application, "uploads")
    if not source.is_dir():
        with source.open("rb") as file:
            say(f"sending {source}, {source.stat().st_size} bytes")
            return dict(client.send_file("POST", *place, file=file, media_type="application/octet-stream"))
    with tempfile.TemporaryFile() as packed:
        count = _pack(source, packed)
        size_bytes = packed.seek(0, os.SEEK_END)
        packed.seek(0)
        say(f"sending {count} file(s), {size_bytes} bytes packed")
        return dict(client.send_file("POST", *place, file=packed, media_type="application/octet-stream"))


def _pack(folder: Path, into: IO[bytes]) -> int:
    """Pack what lies below ``folder`` as a tgz, links as links; how many files. ``.git`` stays here."""
    count = 0

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal count
        if ".git" in entry.name.split("/") or not (entry.isfile() or entry.isdir() or entry.issym()):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        count += entry.isfile()
        return entry

    with tarfile.open(fileobj=into, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=plain)
    return count
