"""What agents of deployments cost: idle ones that ask whether there is something to do, and rolling deployments over all.

``python bench/agents.py [--agents N] [--seconds N] [--database URL]`` starts ``entrepot serve`` as it is installed (two
gunicorn processes, one worker), measures it without agents, enrols N simulated agents over the agents' protocol with one-use
tokens (``bench.agent_crowd``), measures it while they poll, and then deploys to all of them, a tenth and half at a time.
Processor time is that of all of the server's processes, from ``/proc``; the agents' own is not among it. Commits are counted
by the database: SQLite's file change counter (without WAL), PostgreSQL's transaction numbers.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import requests  # noqa: E402
from sqlalchemy import create_engine, text  # noqa: E402

from bench.agent_crowd import Crowd, SimulatedAgent, Tally  # noqa: E402
from bench.load import Unusable  # noqa: E402
from bench.processes import loopback_session  # noqa: E402
from bench.targets import Entrepot, entrepot  # noqa: E402

SETTLE_SECONDS = 15.0
MOST_SECONDS = 1800.0
APPSPEC = b"version: 0.0\nos: linux\nfiles: []\n"
CONFIGURATIONS = {
    "a tenth at a time": "deploymentConfigName: tenth\nminimumHealthyHosts: {type: FLEET_PERCENT, value: 90}\n",
    "HalfAtATime": "",
}


@dataclass(frozen=True)
class Span:
    """What happened in some time: the server's processor time, and how often its database was written to."""

    seconds: float
    cpu_seconds: float
    commits: int

    @property
    def share(self) -> float:
        """Of one core, in percent."""
        return 100 * self.cpu_seconds / self.seconds


class Bench:
    """A server under measurement, and an administrator of it."""

    def __init__(self, place: Entrepot, commits: Callable[[], int]) -> None:
        self._place = place
        self._commits = commits
        self._http = loopback_session()
        self._http.headers["Authorization"] = f"Bearer {place.administrator}"

    def call(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        """One request of the administrator. Raises Unusable."""
        answer = self._http.request(method, f"{self._place.url}/api/v1{path}", timeout=60, **sent)
        if answer.status_code >= 300:
            raise Unusable(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return dict(answer.json()) if answer.content else {}

    def during(self, act: Callable[[], object]) -> Span:
        """What the server used while ``act`` ran."""
        began, before, written = time.monotonic(), self._place.server.usage(), self._commits()
        act()
        after = self._place.server.usage()
        return Span(time.monotonic() - began, after.cpu_seconds - before.cpu_seconds, self._commits() - written)

    def crowd(self, count: int, tally: Tally) -> list[SimulatedAgent]:
        """Agents that have enrolled and proved who they are."""
        agents = [SimulatedAgent(self._place.url, f"agent-{number:03}", tally) for number in range(count)]
        tags = [{"key": "role", "value": "web"}]
        for agent in agents:
            agent.enrol(self.call("POST", "/agents", json={"name": agent.name, "tags": tags})["enrolmentToken"])
        with ThreadPoolExecutor(4) as pool:
            _all(pool.map(SimulatedAgent.open, agents))
        return agents

    def prepare(self) -> None:
        """An application, a group of all agents, and the configurations."""
        self.call("POST", "/deployment-applications", json={"applicationName": "shop"})
        for document in filter(None, CONFIGURATIONS.values()):
            self.call("POST", "/deployment-configs", json={"document": document})
        group = "onPremisesInstanceTagFilters: [{Key: role, Value: web, Type: KEY_AND_VALUE}]\n"
        self.call("PUT", "/deployment-applications/shop/groups/prod", json={"document": group})

    def deploy(self, configuration: str) -> dict[str, Any]:
        """Deploy to all, and wait for the end. Raises Unusable where it does not succeed."""
        data = {"data": _bundle(), "headers": {"Content-Type": "application/octet-stream"}}
        upload = self.call("POST", "/deployment-applications/shop/uploads", **data)
        wanted = {
            "applicationName": "shop",
            "deploymentGroupName": "prod",
            "revision": {"revisionType": "Upload", "upload": {"id": upload["id"]}},
            "deploymentConfigName": configuration,
        }
        made, deadline = self.call("POST", "/deployments", json=wanted), time.monotonic() + MOST_SECONDS
        while made["status"] not in {"Succeeded", "Failed", "Stopped"}:
            if time.monotonic() > deadline:
                raise Unusable(f"{configuration}: it has not ended after {MOST_SECONDS:g} s")
            time.sleep(1)
            made = self.call("GET", f"/deployments/{made['deploymentId']}")
        if made["status"] != "Succeeded":
            raise Unusable(f"{configuration}: {made}")
        return made


def _all(done: Iterable[object]) -> None:
    for _ in done:
        pass


def _bundle() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("appspec.yml", APPSPEC), ("at", str(time.time_ns()).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def counter(database: str, data: Path) -> Callable[[], int]:
    """How many transactions have written to the database so far."""
    if database.startswith("postgresql"):
        engine = create_engine(database)

        def numbered() -> int:
            with engine.connect() as connection:
                found = connection.execute(text("SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text)"))
                return int(found.scalar_one())

        return numbered
    return lambda: int.from_bytes((data / "entrepot.db").read_bytes()[24:28], "big")


def show(title: str, span: Span, tally: Tally, more: str = "") -> None:
    """One line."""
    polls = tally.count("poll")
    asked = f"{polls:6} polls" if polls else ""
    latency = (
        f"p50 {tally.percentile_ms('poll', 0.5):.1f} ms p99 {tally.percentile_ms('poll', 0.99):.1f} ms" if polls else ""
    )
    sys.stdout.write(
        f"{title:28} {span.seconds:6.1f} s  {span.cpu_seconds:6.2f} s CPU = {span.share:5.1f} % of a core  "
        f"{span.commits:5} commits  {asked}  {latency}  {more}\n"
    )
    sys.stdout.flush()


def measure(bench: Bench, count: int, seconds: float, *, deploys: bool) -> list[str]:
    """Measure and print everything; what went wrong."""
    tally = Tally()
    quiet = bench.during(lambda: time.sleep(seconds))
    show("no agents", quiet, tally)
    agents: list[SimulatedAgent] = []
    show(f"{count} agents enrol", bench.during(lambda: agents.extend(bench.crowd(count, tally))), tally)
    bench.prepare()
    with Crowd(agents, tally).running():
        time.sleep(SETTLE_SECONDS)
        tally.seconds.clear()
        idle = bench.during(lambda: time.sleep(seconds))
        polls = max(1, tally.count("poll"))
        each_us = 1e6 * (idle.cpu_seconds - quiet.cpu_seconds * idle.seconds / quiet.seconds) / polls
        show(f"{count} agents idle", idle, tally, f"{each_us:.0f} us CPU for each poll")
        for name, document in CONFIGURATIONS.items() if deploys else ():
            tally.seconds.clear()
            configuration = "tenth" if document else f"CodeDeployDefault.{name}"
            span = bench.during(partial(bench.deploy, configuration))
            events = tally.count("begin")
            each = f"{events} events, {1e3 * span.cpu_seconds / max(1, events):.1f} ms CPU for each"
            show(f"{count} targets, {name}", span, tally, each)
    return tally.faults


def main() -> int:
    """Measure and print; 1 where an agent was refused or a deployment did not succeed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--database", default="", help="a PostgreSQL database that is empty; SQLite without one")
    parser.add_argument("--idle", action="store_true", help="no deployments")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this program
    # Enrolling is limited for each address, and all of these agents have one.
    settings = {"ENTREPOT_LIMITS_TOKENS_PER_MINUTE": "0"}
    if options.database:
        settings["ENTREPOT_DATABASE_URL"] = options.database
    sys.stdout.write(f"load before: {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder, entrepot(Path(folder), settings) as place:
        commits = counter(options.database, Path(folder) / "data")
        try:
            bench = Bench(place, commits)
            faults = measure(bench, options.agents, options.seconds, deploys=not options.idle)
        except (Unusable, requests.RequestException) as error:
            faults = [str(error)]
    for fault in faults[:20]:
        sys.stderr.write(fault + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
