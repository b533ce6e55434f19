"""Packages with thousands of versions: what an answer costs, and the first one after a start and after a publish.

What a server has once rendered it may keep, so each round starts every server again on the data that it had, one at a
time, and publishes one version more in each.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import requests

from bench import load
from bench.fixtures import MIB
from bench.load import FAULTS, Ask, Sample, Unusable
from bench.processes import Running, loopback_session
from bench.results import OURS
from bench.targets import Target
from bench.workloads import Group, Plan, Run, Workload, apart

SETTLE_SECONDS = 2.0
CONNECTIONS = 4  # enough to keep two processors busy; more would only wait where an answer takes a second
_SAID = {"json": "JSON", "html": "HTML", "full": "full", "short": "abbreviated"}


@dataclass(frozen=True)
class Server:
    """One column. ``start`` runs it on a data folder, new or used; ``fill`` gives it so many versions while it runs."""

    start: Callable[[Path, Run], AbstractContextManager[Target]]
    fill: Callable[[Target, Path, int], None]


@dataclass(frozen=True)
class Family:
    """One kind of document. ``count`` reads how many versions a body lists.

    ``first`` is a request as clients make it, not tried; ``loads`` has those that are loaded, which are.
    """

    name: str
    title: str
    servers: Mapping[str, Server]
    publish: Callable[[Target, str], None]
    first: Callable[[Target], Ask]
    count: Callable[[bytes, str], int]  # of a body and its type
    loads: Mapping[str, Callable[[Target, int], Ask]]

    @property
    def rows(self) -> tuple[Workload, ...]:
        def row(suffix: str, title: str, unit: str) -> Workload:
            name, title = f"{self.name}-{suffix}", f"{self.title}{title}"
            return Workload(name, title, unit, apart, is_lower_better=unit == "ms", group=Group.BIG)

        return (
            row("start", ": first answer after a start", "ms"),
            *(row(suffix, f", {_SAID[suffix]}", "req/s") for suffix in self.loads),
            row("publish", ": publishing one version more", "ms"),
            row("renewed", ": first answer after that", "ms"),
        )


class Trial:
    """A family with the data folders of its servers, filled at the first measurement; ``rows`` are those wanted."""

    def __init__(self, family: Family, folder: Path, run: Run, rows: Collection[Workload]) -> None:
        self.family = family
        self._wanted = {row.name for row in rows}
        self._folder = folder
        self._run = run
        wanted = (OURS, *run.peers)
        self._counts = dict.fromkeys((name for name in family.servers if name in wanted), 0)

    def measure(self, number: int) -> Iterator[tuple[str, str, Sample | Unusable]]:
        """Round ``number``, as (row, column, sample)."""
        names = list(self._counts)
        start = number % len(names)
        for name in names[start:] + names[:start]:
            try:
                if self._counts[name] == 0:
                    self._fill(name)
                yield from ((row, name, sample) for row, sample in self._once(name, number))
            except FAULTS as error:
                yield from ((row.name, name, Unusable(str(error))) for row in self.family.rows)

    def _start(self, name: str) -> AbstractContextManager[Target]:
        return self.family.servers[name].start(self._place(name), self._run)

    def _place(self, name: str) -> Path:
        return self._folder / name.partition(",")[0]

    def _fill(self, name: str) -> None:
        count = self._run.plan.thousands
        with self._start(name) as target:
            self.family.servers[name].fill(target, self._place(name), count)
        self._counts[name] = count

    def _once(self, name: str, number: int) -> Iterator[tuple[str, Sample | Unusable]]:
        family, plan = self.family, self._run.plan
        with self._start(name) as target:
            time.sleep(SETTLE_SECONDS)  # what a server does at its start is not what this answer waits for
            yield f"{family.name}-start", self._first(target, self._counts[name])
            for suffix, ask in family.loads.items():
                if f"{family.name}-{suffix}" in self._wanted:
                    yield f"{family.name}-{suffix}", self._loaded(ask, target, self._counts[name], plan)
            if not {f"{family.name}-publish", f"{family.name}-renewed"} & self._wanted:
                return
            published = self._published(target, f"2.{number}.0")
            yield f"{family.name}-publish", published
            if isinstance(published, Sample):
                self._counts[name] += 1
                published = self._first(target, self._counts[name])
            yield f"{family.name}-renewed", published

    def _published(self, target: Target, version: str) -> Sample | Unusable:
        try:
            return _timed(target.server, lambda: self.family.publish(target, version))
        except FAULTS as error:
            return Unusable(str(error))

    def _first(self, target: Target, expected: int) -> Sample | Unusable:
        """The time of one answer; it must list what is expected."""
        try:
            with loopback_session() as session:
                bodies: list[tuple[requests.Response, bytes]] = []
                sample = _timed(target.server, lambda: bodies.append(_whole(session, self.family.first(target))))
            found = self.family.count(*_decoded(*bodies[0]))
        except FAULTS as error:
            return Unusable(str(error))
        return sample if found == expected else Unusable(f"{found} versions for {expected}")

    @staticmethod
    def _loaded(ask: Callable[[Target, int], Ask], target: Target, count: int, plan: Plan) -> Sample | Unusable:
        try:
            found = ask(target, count)
            return load.wrk(found, target.server, seconds=plan.seconds, connections=CONNECTIONS, as_mb_per_second=False)
        except Unusable as error:
            return error


def _timed(server: Running, act: Callable[[], None]) -> Sample:
    """Milliseconds of one act."""
    before, start = server.usage(), time.perf_counter()
    act()
    elapsed = time.perf_counter() - start
    after = server.usage()
    return Sample(elapsed * 1e3, (after.cpu_seconds - before.cpu_seconds) * 1e6, after.resident_bytes / MIB)


def _whole(session: requests.Session, ask: Ask) -> tuple[requests.Response, bytes]:
    """An answer and its body as it came: unpacking it is no part of what is measured."""
    answer = session.get(ask.url, headers=ask.headers, timeout=120, stream=True)
    return answer, answer.raw.read(decode_content=False)


def _decoded(answer: requests.Response, body: bytes) -> tuple[bytes, str]:
    """Body and type. Raises Unusable for an error status."""
    if answer.status_code >= 400:
        raise Unusable(f"{answer.status_code} {answer.reason}")
    packed = answer.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(body) if packed else body, answer.headers["Content-Type"]
