"""The servers of the reading and uploading rows, format by format: ours and the peers, with the same files in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from bench import documents, peers, proxies, workloads
from bench.fixtures import FIVE, Distribution
from bench.load import FAULTS
from bench.targets import Target, entrepot, fill
from bench.workloads import Run, Workload


class Servers:
    """Running servers of a suite, ended with the block; ``faults`` has why a wanted peer is not among them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.targets: list[Target] = []
        self.faults: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ours(self, folder: Path, package_format: str) -> Target:
        """Start our own server; gives its column that may publish. Raises CouldNotStart."""
        self.targets += self._stack.enter_context(entrepot(folder)).targets(package_format)
        return self.targets[0]

    def peer(self, name: str, start: Callable[[], AbstractContextManager[Target]], fill: Fill | None = None) -> None:
        """Start a peer, if it is wanted, and fill it."""
        if name not in self.run.peers:
            return
        try:
            target = self._stack.enter_context(start())
            if fill is not None:
                fill(target)
        except FAULTS as error:
            self.faults[name] = str(error)
        else:
            self.targets.append(target)

    def finished(self, folder: Path, site: Path) -> None:
        """The servers of finished bytes."""
        self.peer("bare wsgi", lambda: peers.bare_wsgi(folder / "bare", site))
        self.peer("nginx", lambda: peers.nginx(folder / "nginx", site))


Fill = Callable[[Target], None]


@dataclass(frozen=True)
class Suite:
    """Rows that are measured on the same servers. ``start`` starts these and fills them."""

    rows: tuple[Workload, ...]
    start: Callable[[Servers, Path], None]


def _python(servers: Servers, folder: Path) -> None:
    run, site = servers.run, folder / "site"
    files = workloads.reading(run.plan)
    ours = servers.ours(folder / "entrepot", "pypi")
    fill(ours, files)
    peers.make_site(ours, files, site)
    servers.finished(folder, site)
    servers.peer(
        "pypiserver", lambda: peers.pypiserver(folder / "pypiserver", run.cache), lambda peer: fill(peer, files)
    )
    servers.peer("devpi", lambda: peers.devpi(folder / "devpi", run.cache), lambda peer: fill(peer, files))
    servers.peer("devpi + nginx", lambda: _devpi_behind_nginx(folder, run, files))


@contextmanager
def _devpi_behind_nginx(folder: Path, run: Run, files: list[Distribution]) -> Iterator[Target]:
    """A devpi-server of its own, which is idle while the other one is measured."""
    data = folder / "devpi-behind"
    with peers.devpi(data, run.cache) as devpi:
        fill(devpi, files)
        with peers.devpi_behind_nginx(folder / "front", data / "data", devpi) as front:
            yield front


def _npm(servers: Servers, folder: Path) -> None:
    site = folder / "site"
    ours = servers.ours(folder / "entrepot", "npm")
    documents.fill_npm(ours)
    peers.keep_answer(documents.packument(ours, FIVE, documents.FULL, 5), site, FIVE)
    peers.keep_answer(documents.tarball(ours), site, documents.tarball_path())
    servers.finished(folder, site)
    start = partial(proxies.verdaccio_alone, folder / "verdaccio", servers.run.cache)
    servers.peer("verdaccio", start, documents.fill_npm)


def _maven(servers: Servers, folder: Path) -> None:
    site = folder / "site"
    ours = servers.ours(folder / "entrepot", "maven")
    documents.fill_maven(ours)
    for path in (documents.metadata_path(), documents.jar_path()):
        peers.keep_answer(documents.maven_file(ours, path, 1), site, path)
    servers.finished(folder, site)


SUITES = (Suite(workloads.SERVED, _python), Suite(workloads.NPM, _npm), Suite(workloads.MAVEN, _maven))
