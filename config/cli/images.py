"""``entrepot build images``: images for builds in containers, made on this machine without a container registry."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hooks.builds.engine import Engine

LABEL = "entrepot.recipe"
PREFIX = "localhost/entrepot/build-"
STANDARD = "standard"
NAMES = ("python", "node", "java", STANDARD)

socket_option = click.option(
    "--socket", "socket_path", default="", help="The engine's UNIX socket; default: builds.container.socket."
)
data_option = click.option(
    "--data", default=Path("data"), envvar="ENTREPOT_DATA", type=click.Path(path_type=Path), help="The data directory."
)


@click.group()
def images() -> None:
    """Images for builds in containers: build, list. On the build machine itself."""


@images.command()
@click.option("--name", "recipe", default=STANDARD, type=click.Choice(NAMES), show_default=True, help="The recipe.")
@click.option("--from", "origin", default="auto", type=click.Choice(("auto", "debootstrap", "installed")), show_default=True,
              help="A fresh system by debootstrap, or this machine's own packages.")  # fmt: skip
@click.option("--tag", default="latest", show_default=True, help="The image's tag.")
@data_option
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(recipe: str, origin: str, tag: str, data: Path, socket_path: str, *, as_json: bool) -> None:
    """Make an image and load it into the engine; prints its name and digest.

    Example: entrepot build images build --name python --data /var/lib/entrepot
    """
    from hooks.builds import rootfs
    from hooks.builds.executor import ExecutorError

    engine = _engine(data, socket_path)
    name = PREFIX + recipe
    packages = {**dict.fromkeys(rootfs.BASE, ""), **recipes()[recipe]}
    if origin == "auto":
        origin = "debootstrap" if shutil.which("debootstrap") else "installed"
    pack = rootfs.bootstrap if origin == "debootstrap" else rootfs.pack_installed
    try:
        with tempfile.TemporaryFile(dir="/var/tmp") as archive:
            pack(packages, archive, _say)
            archive.seek(0)
            changes = [f"LABEL {LABEL}={recipe}", "ENV LANG=C.UTF-8", f"ENV PATH={rootfs.PATH}"]
            made = engine.load(archive, name, tag, changes)
    except ExecutorError as error:
        _fail(str(error))
    told = {"name": f"{name}:{tag}", "digest": made.digest}
    click.echo(json.dumps(told) if as_json else " ".join(told.values()))


@images.command("list")
@data_option
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_images(data: Path, socket_path: str, as_json: bool) -> None:
    """List the images that were made here.

    Example: entrepot build images list --data /var/lib/entrepot
    """
    from hooks.builds.executor import ExecutorError

    try:
        found = _engine(data, socket_path).images(LABEL)
    except ExecutorError as error:
        _fail(str(error))
    if as_json:
        rows = [
            {
                "names": list(image.names),
                "digest": image.digest,
                "sizeBytes": image.size_bytes,
                "created": image.created,
            }
            for image in found
        ]
        click.echo(json.dumps(rows))
        return
    for image in found:
        click.echo(f"{', '.join(image.names) or '(no name)'}  {image.digest}  {image.size_bytes // 1024**2} MiB")


def recipes() -> Mapping[str, Mapping[str, str]]:
    """What the image of each name holds beside the basic programs: package → program. ``standard`` holds everything."""
    from registry import formats

    named = [packages for known in formats.all_formats().values() if (packages := known.build_packages())]
    everything = {package: program for _, packages in named for package, program in packages.items()}
    return {**dict(named), STANDARD: everything}


def _engine(data: Path, socket_path: str) -> Engine:
    from config.cli.server import settings_of
    from hooks.builds.engine import Engine

    chosen = socket_path or settings_of(data).builds_container.socket
    if not chosen:
        _fail("no container engine: set builds.container.socket, or give --socket", status=2)
    return Engine(chosen)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _fail(message: str, status: int = 1) -> None:
    click.echo(f"entrepot: {message}", err=True)
    sys.exit(status)
