"""Deployments to machines that are killed, cut off, a day off or full at random moments, and what must hold all the same."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner
from sqlalchemy import select

from config.cli.main import main
from hooks import care
from hooks.deployments.planning import Rules
from hooks.models.deployment import DeploymentEvent, DeploymentInstallation, DeploymentTarget
from tests.agent_bench import ALL_AT_ONCE, Config, Crew, release
from tests.agent_kills import Watcher
from tests.harness.server import Server
from tests.machines import Inside, Machine, Network, wrong_clock

SILENT_SECONDS, LOST_SECONDS = 6, 20
SLACK_SECONDS = 5.0
"""So long after it became silent a machine may still be counted on: what was decided is carried out a moment later."""
PATIENCE_SECONDS = 180.0
DISK_MEGABYTES = 16
PORT = 8000
FILES = 10
APPLICATION = """
import pathlib, socket
said = pathlib.Path(__file__).with_name("0.txt").read_bytes()
listener = socket.create_server(("0.0.0.0", 8000), reuse_port=False)
while True:
    taken, _ = listener.accept()
    with taken:
        taken.sendall(said)
"""
STOP = """#!/bin/sh
# The number may be another program's by now.
pid=$(cat {srv}/pid) && tr '\\0' ' ' < /proc/$pid/cmdline | grep -q {srv}/app/server.py || exit 0
kill $pid
while kill -0 $pid; do sleep 0.02; done 2>/dev/null
rm {srv}/pid
"""
START = """#!/bin/sh
sh -ec 'echo $$ > {srv}/pid; LD_PRELOAD= exec /usr/bin/python3 -ISE {srv}/app/server.py' >/dev/null 2>&1 </dev/null &
"""
VALIDATE = """#!/bin/sh
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  test "$(bash -c 'cat < /dev/tcp/127.0.0.1/8000' 2>/dev/null)" = "$(cat {srv}/app/0.txt)" && exit 0
  sleep 0.1
done
exit 1
"""
HOOKS = "hooks:\n" + "".join(
    f"  {event}: [{{location: {script}.sh, timeout: 20}}]\n"
    for event, script in (("ApplicationStop", "stop"), ("ApplicationStart", "start"), ("ValidateService", "validate"))
)
FAULTS = ("kill", "kill", "away", "cut", "cut", "lost", "clock", "disk")


@dataclass
class Service:
    """What is really served on a machine, as a program on it sees it, and for how long nothing was heard of it.

    A change is when the last look that saw nothing of it began, when one saw it, and what it saw: it happened between.
    """

    machine: Machine
    changes: list[tuple[float, float, bool]] = field(default_factory=list)
    looked: float = 0.0
    gone: list[list[float]] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        is_up, began = False, time.time()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=2) as answer:
            is_up = answer.recv(1) != b""
        self.looks += 1
        if not self.changes or self.changes[-1][2] is not is_up:
            self.changes.append((self.looked, time.time(), is_up))
        self.looked = began

    def leave(self) -> None:
        self.gone.append([time.time(), float("inf")])

    def come_back(self) -> None:
        if self.gone:
            self.gone[-1][1] = time.time()

    def serves(self, moment: float) -> bool:
        """Whether it may be counted on at a moment: it answers, as far as was seen, and has not been silent for long."""
        seen = [is_up for _, at, is_up in self.changes if at <= moment]
        is_coming = any(is_up and since <= moment < at for since, at, is_up in self.changes)
        tolerated = SILENT_SECONDS + SLACK_SECONDS
        is_silent = any(since + tolerated < moment < until for since, until in self.gone)
        return (seen[-1:] == [True] or is_coming) and not is_silent


@dataclass
class Deployed:
    """A deployment of the campaign. ``minimum`` of its targets had to be healthy."""

    id: str
    version: str
    minimum: int
    is_broken: bool


class Fleet:
    """A server, and machines with agents, an application and whoever looks at them."""

    def __init__(
        self, folder: Path, network: Network, names: Sequence[str], seed: int, *, pause_seconds: float, **settings: str
    ) -> None:
        self.network, self.chance, self.pause_seconds = network, random.Random(seed), pause_seconds
        environment = {
            "ENTREPOT_DEPLOYMENTS_AGENT_SILENT_SECONDS": str(SILENT_SECONDS),
            "ENTREPOT_DEPLOYMENTS_AGENT_LOST_SECONDS": str(LOST_SECONDS),
            **settings,
        }
        self.server = Server(folder / "data", environment=environment, web_processes=1, host=network.address)
        self.server.start()
        self.crew = Crew(self.server, folder)
        self.services: dict[str, Service] = {}
        self.watchers: dict[str, Watcher] = {}
        self._looking: list[Inside] = []
        for name in names:
            self._add(name)
        self.link = network.seen_at / "app"
        self.group = self.crew.group("fleet", *names, link=str(self.link))
        self.faults: list[str] = []

    def _add(self, name: str) -> None:
        machine = self.network.add(name)
        machine.limit_disk(DISK_MEGABYTES)
        # The agent's directory is on the small disk, too.
        home = self.crew.place / name
        (machine.own / "agent").mkdir()
        home.symlink_to(machine.own / "agent")
        token = self.crew.call("POST", "/agents", 201, json={"name": name})["enrolmentToken"]
        words = ["agent", "enrol", "--url", self.server.url, "--data", str(home), "--token", "-"]
        done = CliRunner().invoke(main, words, input=token)
        assert done.exit_code == 0, done.output
        self.services[name] = Service(machine)
        self.run(name)

    def run(self, name: str, days_off: int = 0) -> None:
        clock = {**wrong_clock(), "FAKETIME": f"{days_off:+d}d"} if days_off else {}
        self.crew.run(name, self.network.machines[name].prefix(), clock)
        self.services[name].come_back()

    def kill(self, name: str) -> None:
        self.crew.kill(name)
        self.services[name].leave()

    def own(self, name: str) -> Path:
        return self.network.machines[name].own

    def close(self) -> None:
        for thread in self._looking:
            thread.end()
        for watcher in self.watchers.values():
            watcher.is_over = True
            watcher.join()
        self.crew.close()
        self.server.kill()

    # --- deployments

    def bundle(self, version: str, *, is_broken: bool = False) -> bytes:
        srv = self.network.seen_at
        return release(
            self.link,
            version,
            hooks=HOOKS,
            files=FILES,
            stop_sh=STOP.format(srv=srv),
            start_sh="#!/bin/sh\nexit 0\n" if is_broken else START.format(srv=srv),
            validate_sh=VALIDATE.format(srv=srv),
            **{"app/server.py": APPLICATION},
        )

    def deploy(self, version: str, config: Config, *, group: str = "", is_broken: bool = False) -> Deployed:
        minimum = Rules.of(*config).minimum_of(len(self.services))
        bundle = self.bundle(version, is_broken=is_broken)
        return Deployed(self.crew.deploy(group or self.group, bundle, config=config), version, minimum, is_broken)

    def begin(self) -> None:
        """The first release, and from then on somebody looks."""
        first = self.deploy("v0", ALL_AT_ONCE)
        assert self.ended(first) == "Succeeded", self.told()
        for name, service in self.services.items():
            self._looking.append(Inside(service.machine, service.look, self.pause_seconds))
            self.watchers[name] = Watcher(self.own(name) / "app", FILES, self.pause_seconds)
        for thread in (*self._looking, *self.watchers.values()):
            thread.start()
        wait(lambda: all(each.serves(time.time()) for each in self.services.values()), self.told)

    def ended(self, done: Deployed) -> str:
        wait(lambda: self.crew.deployment(done.id).completed_at, lambda: f"{done} does not end\n{self.told()}")
        return self.crew.status(done.id)

    def told(self) -> str:
        return "\n".join(f"{name}: {self.crew.log(name)[-1500:]}" for name in self.services)

    # --- faults

    def hurt(self, name: str, fault: str) -> None:
        """One fault, from its beginning to its end."""
        machine, chance = self.network.machines[name], self.chance
        self.faults.append(fault)
        if fault in {"kill", "away", "clock"}:
            self.kill(name)
            time.sleep(LOST_SECONDS + 3 if fault == "away" else chance.uniform(0, 1))
            self.run(name, days_off=chance.choice([-1, 1]) if fault == "clock" else 0)
        elif fault in {"cut", "lost"}:
            self.services[name].leave()
            machine.cut_off(inside=chance.random() < 0.5)
            time.sleep(LOST_SECONDS + 3 if fault == "lost" else chance.uniform(0.2, 4))
            machine.join_again()
            self.services[name].come_back()
        else:
            machine.fill_disk()
            time.sleep(chance.uniform(0.2, 3))
            machine.free_disk()

    def hurt_while(self, done: Deployed, faults: Sequence[str]) -> str:
        """Faults of different machines at random moments of a deployment; the deployment's status."""
        names = self.chance.sample(sorted(self.services), len(faults))

        def later(name: str, fault: str, after: float) -> None:
            time.sleep(after)
            self.hurt(name, fault)

        threads = [
            threading.Thread(target=later, args=(name, fault, self.chance.uniform(0, 4)))
            for name, fault in zip(names, faults, strict=True)
        ]
        for thread in threads:
            thread.start()
        status = self.ended(done)
        for thread in threads:
            thread.join()
        self.settle()
        return status

    def settle(self) -> None:
        """Every agent is heard of again, and has told what it has found."""

        def is_told() -> bool:
            return all(self.crew.agent(name)["state"] == "ONLINE" for name in self.services) and not self.untrue()

        wait(is_told, lambda: f"{self.untrue()}\n{self.told()}")

    def untrue(self) -> list[str]:
        """Machines of which the server says something else than what is really there."""
        with self.crew.db.read() as session:
            rows = session.scalars(
                select(DeploymentInstallation).where(DeploymentInstallation.group_id == self.group)
            ).all()
        there = {name: self.release_of(name) for name in self.services}
        return [
            f"{row.target}: {row.deployment_id} is {there[row.target]}"
            for row in rows
            if row.deployment_id != there[row.target]
        ]

    def release_of(self, name: str) -> str:
        """The deployment whose release the link of a machine leads to."""
        target = (self.own(name) / "app").readlink()
        return target.name

    # --- what must hold

    def faults_of(self, done: Deployed, before: dict[str, str]) -> list[str]:
        """What is wrong with a deployment that has ended, by what is really there. ``before``: what was."""
        found: list[str] = []
        row = self.crew.deployment(done.id)
        with self.crew.db.read() as session:
            targets = session.scalars(select(DeploymentTarget).where(DeploymentTarget.deployment_id == done.id)).all()
            events = session.scalars(
                select(DeploymentEvent).where(DeploymentEvent.target_id.in_([each.id for each in targets]))
            ).all()
        succeeded = [each.name for each in targets if each.status == "Succeeded"]
        if row.status == "Succeeded" and (not succeeded or done.is_broken):
            found.append(f"{done} has succeeded with {succeeded}")
        for target in targets:
            mine = {each.name: each.status for each in events if each.target_id == target.id}
            now = self.release_of(target.name)
            if target.status == "Succeeded" and (set(mine.values()) != {"Succeeded"} or now != done.id):
                found.append(f"{target.name} of {done} is Succeeded with {mine} and has {now}")
            if mine.get("Install") == "Succeeded" and now != done.id:
                found.append(f"{target.name} of {done}: Install is Succeeded, and {now} is there")
            if now not in {done.id, before[target.name]}:
                found.append(f"{target.name} of {done} has {now}, and had {before[target.name]}")
        return found + self.taken_too_many(done, targets, row.details.get("unhealthy", []))

    def taken_too_many(
        self, done: Deployed, targets: Sequence[DeploymentTarget], unhealthy: Sequence[str]
    ) -> list[str]:
        """Moments at which a healthy machine was taken, though too few of the others really served."""
        found = []
        for taken in targets:
            if taken.started_at is None or taken.name in unhealthy:
                continue
            moment = _seconds(taken.started_at)
            busy = {
                each.name
                for each in targets
                if each.started_at is not None
                and each.started_at <= taken.started_at
                and (each.ended_at is None or each.ended_at > taken.started_at)
            }
            left = [name for name, each in self.services.items() if name not in busy and each.serves(moment)]
            if len(left) < done.minimum:
                found.append(f"{taken.name} of {done} was taken, and {left} were left of {done.minimum}")
        return found

    def check(self) -> None:
        """What must hold at the end of it all."""
        torn = {name: watcher.torn for name, watcher in self.watchers.items() if watcher.torn}
        assert torn == {}
        assert care.check(self.crew.db) == []
        for name in self.services:
            root = self.own(name) / "agent" / "deployments"
            assert [path.name for path in root.rglob("*.new")] == []
            kept = {path.name for path in (self.own(name) / "releases").iterdir()}
            assert self.release_of(name) in kept
            assert len(kept) <= 6, kept


def wait(condition: Callable[[], object], told: Callable[[], str]) -> None:
    """Wait until it is true; only a hung program takes long here."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.25)


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
