"""The servers of the reading and uploading rows, format by format: ours and the peers, with the same files in all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import documents, peers, proxies, workloads
from bench.fixtures import FIVE
from bench.targets import Target, entrepot, fill
from bench.workloads import Run, Workload


@dataclass(frozen=True)
class Suite:
    """Rows that are measured on the same servers. ``start`` gives these, filled."""

    rows: tuple[Workload, ...]
    start: Callable[[ExitStack, Path, Run], list[Target]]


def _python(stack: ExitStack, folder: Path, run: Run) -> list[Target]:
    files = workloads.reading(run.plan)
    ours = stack.enter_context(entrepot(folder / "entrepot")).targets()
    fill(ours[0], files)
    targets = list(ours)
    site = folder / "site"
    peers.make_site(ours[0], files, site)
    targets += _finished(stack, folder, site, run)
    if "pypiserver" in run.peers:
        targets.append(stack.enter_context(peers.pypiserver(folder / "pypiserver", run.cache)))
        fill(targets[-1], files)
    if {"devpi", "devpi + nginx"} & set(run.peers):
        devpi = stack.enter_context(peers.devpi(folder / "devpi", run.cache))
        fill(devpi, files)
        front = stack.enter_context(peers.devpi_behind_nginx(folder / "front", folder / "devpi" / "data", devpi))
        targets += [target for target in (devpi, front) if target.name in run.peers]
    return targets


def _npm(stack: ExitStack, folder: Path, run: Run) -> list[Target]:
    ours = stack.enter_context(entrepot(folder / "entrepot")).targets("npm")
    documents.fill_npm(ours[0])
    targets = list(ours)
    site = folder / "site"
    peers.keep_answer(documents.packument(ours[0], FIVE, documents.FULL, 5), site, FIVE)
    peers.keep_answer(documents.tarball(ours[0]), site, documents.tarball_path())
    targets += _finished(stack, folder, site, run)
    if "verdaccio" in run.peers:
        targets.append(stack.enter_context(proxies.verdaccio_alone(folder / "verdaccio", run.cache)))
        documents.fill_npm(targets[-1])
    return targets


def _maven(stack: ExitStack, folder: Path, run: Run) -> list[Target]:
    ours = stack.enter_context(entrepot(folder / "entrepot")).targets("maven")
    documents.fill_maven(ours[0])
    site = folder / "site"
    for path in (documents.metadata_path(), documents.jar_path()):
        peers.keep_answer(documents.maven_file(ours[0], path, 1), site, path)
    return [*ours, *_finished(stack, folder, site, run)]


def _finished(stack: ExitStack, folder: Path, site: Path, run: Run) -> list[Target]:
    """The servers of finished bytes."""
    made = {"bare wsgi": peers.bare_wsgi, "nginx": peers.nginx}
    return [stack.enter_context(make(folder / name, site)) for name, make in made.items() if name in run.peers]


SUITES = (Suite(workloads.SERVED, _python), Suite(workloads.NPM, _npm), Suite(workloads.MAVEN, _maven))
