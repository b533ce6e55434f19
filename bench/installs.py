"""Clients installing a project with its dependencies: straight from upstream, and through each proxy, cold and warm.

"Cold" is a server that has never been asked, "warm" the same one asked again. The client has no cache and nothing
installed, each time. What is installed, and by which client, is in ``bench.install_python`` and its like.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench import workloads
from bench.clients import Source, outside
from bench.fixtures import MIB
from bench.load import FAULTS, Sample, Unusable
from bench.results import DIRECT, OURS
from bench.targets import entrepot
from bench.toolbox import Tool
from bench.workloads import Group, Run, Workload

SETTLE_SECONDS = 3.0
TAIL_SECONDS = 0.5
LOG_TAIL_CHARACTERS = 1500

Client = Callable[[Source, Path, Path], float]
# A peer's server: its folder, where the peers are installed, the upstream's address with a credential in it.
Proxy = Callable[[Path, Path, str], AbstractContextManager[Source]]


@dataclass(frozen=True)
class Step:
    """One row: a client's run, and how often it is done in each round.

    The client is given the source, a folder that lasts as long as the source's server, and the cache folder with the
    programs; it gives seconds.
    """

    row: Workload
    client: Client
    times: int = 1


@dataclass(frozen=True)
class Install:
    """Rows that are measured together, in this order, on servers that were fresh before the first."""

    format: str
    tools: tuple[Tool, ...]
    upstream: Callable[[], str]
    proxies: Mapping[str, Proxy]
    steps: tuple[Step, ...]

    @property
    def rows(self) -> tuple[Workload, ...]:
        return tuple(step.row for step in self.steps)

    def up_to(self, wanted: Collection[Workload]) -> Install:
        """The same without what comes after the last wanted row: what comes before makes its server warm."""
        count = max((number for number, row in enumerate(self.rows, 1) if row in wanted), default=0)
        return replace(self, steps=self.steps[:count])


def row(name: str, title: str) -> Workload:
    return Workload(name, title, "s", workloads.apart, is_lower_better=True, group=Group.INSTALLS)


def measure(install: Install, folder: Path, run: Run, number: int) -> Iterator[tuple[str, str, Sample | Unusable]]:
    """Round ``number``, as (row, column, sample): fresh servers, in another order each round."""
    upstream = install.upstream()
    sources = [outside(DIRECT, upstream)]
    with ExitStack() as stack:
        server = stack.enter_context(entrepot(folder / "entrepot"))
        url = server.repository(install.format)
        sources.append(Source(OURS, url, server.server, "bench", server.token))
        for name, proxy in install.proxies.items():
            if name in run.peers:
                try:
                    sources.append(stack.enter_context(proxy(folder / name, run.cache, upstream)))
                except FAULTS as error:
                    yield from ((found.name, name, Unusable(str(error))) for found in install.rows)
        time.sleep(SETTLE_SECONDS)  # what a server does at its start is not what an install waits for
        start = number % len(sources)
        for step in install.steps:
            for source in sources[start:] + sources[:start]:
                place = folder / f"client-{source.name}"
                place.mkdir(exist_ok=True)
                yield step.row.name, source.name, _tried(step, source, place, run)


def _tried(step: Step, source: Source, place: Path, run: Run) -> Sample | Unusable:
    """The median of the step's runs."""
    try:
        samples = [_timed(step.client, source, place, run.cache) for _ in range(min(step.times, run.plan.most_runs))]
    except FAULTS as error:
        log = source.server.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if source.server else ""
        return Unusable(f"{error}\n{log}")
    return Sample(
        median(sample.value for sample in samples),
        _middle(sample.cpu_us_per_request for sample in samples),
        samples[-1].resident_mib,
        _middle(sample.client_cpu_seconds for sample in samples),
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _timed(client: Client, source: Source, place: Path, cache: Path) -> Sample:
    mine = _children_cpu_seconds()
    if source.server is None:
        elapsed = client(source, place, cache)
        return Sample(elapsed, client_cpu_seconds=_children_cpu_seconds() - mine)
    before = source.server.usage()
    elapsed = client(source, place, cache)
    spent = _children_cpu_seconds() - mine
    time.sleep(TAIL_SECONDS)  # what it does behind the last answer is of this install
    after = source.server.usage()
    return Sample(elapsed, (after.cpu_seconds - before.cpu_seconds) * 1e6, after.resident_bytes / MIB, spent)


def _children_cpu_seconds() -> float:
    """Of clients that have ended: servers are still running, and count when they are waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
