"""kill -9 of servers and workers while they build, again and again: one end for each build, and nothing left behind.

Two build at a time: a server's own worker, killed with it, and a second one, which is ``entrepot worker`` over the same
database or ``entrepot runner`` over HTTP. It is killed by itself, or frozen for longer than its lease, so that it comes
back with a result that nobody may take. What must hold:
every build has one end and one event of it, each line of its last attempt is there once and in its order, its number of
attempts is what its log tells, and no process, workspace or control group stays.

``make campaign`` runs it with 200 builds of each kind; ``ENTREPOT_BUILDS`` says another number, ``ENTREPOT_SEED`` replays a
run's moments, and ``ENTREPOT_LEASE`` (seconds) has to be more than 3 on a machine that is too busy to renew leases in
that. What ``make test`` has of it: a killed worker (``tests/functional/test_build_jobs.py``), and a killed server whose
pipelines build (``test_kill_campaign.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from hooks.builds.cgroups import MOUNT, PREFIX
from hooks.builds.records import MAX_ATTEMPTS
from registry.db import Database
from tests.build_bench import MISSING_SANDBOX, host_processes, work_directory
from tests.build_crowd import FIRST_USER_ID, USER_IDS, Builder
from tests.harness.processes import wait_until
from tests.harness.server import Server
from tests.harness.workers import Worker
from tests.harness.zygote import zygote

BUILDS = int(os.environ.get("ENTREPOT_BUILDS", "200"))
SEED = int(os.environ.get("ENTREPOT_SEED", str(random.randrange(10**6))))
LEASE_SECONDS = float(os.environ.get("ENTREPOT_LEASE", "3"))
LINES = 300
PATIENCE_SECONDS = 240.0
# A daemon that leaves its session, and some seconds of lines that belong together.
DAEMON = "(setsid sleep 3600 &) >/dev/null 2>&1 </dev/null"
TALK = f"""for i in $(seq {LINES}); do
  echo "<$CODEBUILD_BUILD_NUMBER|$i>"
  case $i in *0) sleep 0.03;; esac
done"""
SPEC = json.dumps(
    {
        "version": "0.2",
        "phases": {
            "install": {"commands": [DAEMON, "test ! -e left; touch left"]},
            "build": {"commands": [TALK]},
        },
    }
)


class Runner(Worker):
    """``entrepot runner``: another machine, as far as the server can tell."""

    @property
    def place(self) -> Path:
        return self.server.data.with_name("runner")

    def start(self) -> None:
        if not self.place.exists():
            self._register()
        arguments = ["runner", "run", "--data", str(self.place)]
        self.process = zygote().start(arguments, self.server.child_environment(), self.server.log)

    def _register(self) -> None:
        builder = Builder(self.server, self.server.token("admin"))
        token = builder.call("POST", "/runners", json={"name": "second"}).json()["registrationToken"]
        arguments = ["runner", "register", "--url", self.server.url, "--data", str(self.place), "--token", "-"]
        done = zygote().run(arguments, self.server.child_environment(), 60, typed=token)
        assert done.returncode == 0, done.stderr


SecondWorker = Callable[[Server], Any]
"""Makes what builds beside the server's own worker: ``start``, ``kill``, ``freeze``, ``stop``."""


@contextmanager
def two_workers(folder: Path, second: SecondWorker, place: Path) -> Iterator[tuple[Server, Any]]:
    settings = {
        "ENTREPOT_BUILDS_WORKSPACE_PATH": str(place),
        "ENTREPOT_BUILDS_SLOTS": "3",
        "ENTREPOT_BUILDS_FIRST_USER_ID": str(FIRST_USER_ID),
        "ENTREPOT_BUILDS_USER_IDS": str(USER_IDS),
        "ENTREPOT_WORKER_LEASE_SECONDS": str(LEASE_SECONDS),
        "ENTREPOT_WORKER_POLL_SECONDS": "0.1",
    }
    server = Server(folder / "data", environment=settings)
    other = second(server)
    try:
        yield server, other
    finally:
        other.kill()
        server.kill()


@dataclass
class Campaign:
    """The builds that were asked for, and what was done to whom."""

    server: Server
    other: Any
    builder: Builder
    dice: random.Random
    place: Path
    ids: list[str] = field(default_factory=list)
    workspaces: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=lambda: {"server": 0, "worker": 0, "frozen": 0})

    def run(self, builds: int) -> None:
        """Start ``builds``, a few at a time, with a blow after each few, as long as there are some to start."""
        while len(self.ids) < builds:
            for _ in range(min(5, builds - len(self.ids))):
                self.start()
            self.let_some_begin()
            time.sleep(self.dice.uniform(0.5, 4.0))
            self.blow(self.dice.choice(["server", "worker", "frozen"]))
        self.blow("frozen")

    def let_some_begin(self) -> None:
        """On a busy machine it takes a while after a blow: another that comes before that meets no build.

        Every other time one may also succeed, else none would on a machine that is slower than the blows.
        """
        counts = ["select coalesce(sum(attempt), 0) from build"]
        if self.dice.random() < 0.5:
            counts.append("select count(*) from build where status = 'SUCCEEDED'")
        for count in counts:
            self.wait_for_more(count)
        self.seen.update((count, self.count(count)) for count in counts)

    def wait_for_more(self, count: str) -> None:
        before = self.seen.get(count, 0)
        wait_until(lambda: self.count(count) > before, seconds=PATIENCE_SECONDS, pause_seconds=0.2)

    def count(self, statement: str) -> int:
        return int(query(self.server, statement)[0][0])

    def start(self) -> None:
        """One more build; an answer that a kill swallowed may have been one, too."""
        with contextlib.suppress(requests.RequestException):
            self.ids.append(self.builder.start("killed"))

    def blow(self, what: str) -> None:
        self.done[what] += 1
        self.workspaces |= {path.name for path in self.place.glob("build-*")}
        if what == "server":
            self.server.kill()
            self.server.start()
        elif what == "worker":
            self.other.kill()
            self.other.start()
        else:
            self.other.freeze(LEASE_SECONDS + self.dice.uniform(0.5, 1.5))


def query(server: Server, statement: str) -> list[Any]:
    db = Database(server.environment.get("ENTREPOT_DATABASE_URL", f"sqlite:///{server.data}/entrepot.db"))
    try:
        with db.read() as session:
            return list(session.execute(text(statement)).all())
    finally:
        db.close()


def wait_for_all(server: Server) -> None:
    """Until every build has ended. A busy machine may take any time, as long as one ends now and then."""
    jobs = "select count(*) from job where queue = 'builds' and state in ('queued', 'running')"
    while left := query(server, jobs)[0][0]:
        wait_until(lambda left=left: query(server, jobs)[0][0] < left, seconds=PATIENCE_SECONDS, pause_seconds=0.5)


def check_log(build: dict[str, Any], log: str) -> None:
    """The last attempt's lines are whole, those before it broke off, and no attempt wrote after the next one began."""
    attempts = re.split(r"\[Container\] \S+ \S+ Attempt (\d+) broke off; the build starts anew\n", log)
    assert attempts[1::2] == [str(number) for number in range(1, len(attempts[1::2]) + 1)], log
    ends = log.count("Build complete: ")
    assert ends == 1, (build["number"], ends, log[-2000:])
    wanted = [f"<{build['number']}|{line}>" for line in range(1, LINES + 1)]
    for text_of_attempt in attempts[0:-1:2]:
        said = [line for line in text_of_attempt.splitlines() if re.fullmatch(r"<\d+\|\d+>", line)]
        assert said == wanted[: len(said)], build["number"]
    if build["status"] == "SUCCEEDED":
        assert build["attempt"] == len(attempts[1::2]) + 1
        assert [line for line in attempts[-1].splitlines() if line.startswith("<")] == wanted


def check(campaign: Campaign) -> dict[str, int]:
    """What became of all builds: how many of each status, and of each number of attempts."""
    server = campaign.server
    rows = query(server, "select build.id, build.attempt, job.attempts from build join job on job.id = build.job_id")
    assert {row.id for row in rows} >= set(campaign.ids)
    counts: dict[str, int] = {}
    for row in rows:
        build = campaign.builder.build(row.id)
        # A build that was broken off at each of its attempts is the one that cannot be carried out.
        assert build["status"] == "SUCCEEDED" or (build["status"], row.attempts) == ("FAULT", MAX_ATTEMPTS), build
        check_log(build, campaign.builder.log(row.id))
        for what in (build["status"], f"{row.attempt} attempts"):
            counts[what] = counts.get(what, 0) + 1
    events = query(server, "select payload from event where kind in ('build.succeeded', 'build.failed', 'build.fault')")
    told = sorted(
        json.loads(row.payload)["build"] if isinstance(row.payload, str) else row.payload["build"] for row in events
    )
    assert told == sorted(row.id for row in rows), "an end was told of twice or never"
    return counts


def groups_left(workspaces: set[str]) -> list[Path]:
    """Control groups of these builds; others' builds may run on this machine as well."""
    return [path for path in MOUNT.glob(f"**/{PREFIX}build-*") if path.name.removeprefix(PREFIX) in workspaces]


@pytest.mark.campaign
@pytest.mark.long
@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
@pytest.mark.parametrize("second", [Worker, Runner])
def test_each_build_ends_once_under_kill_9_and_nothing_stays(tmp_path: Path, second: SecondWorker) -> None:
    print(f"ENTREPOT_SEED={SEED} ENTREPOT_BUILDS={BUILDS}")
    with work_directory() as place:
        with two_workers(tmp_path, second, place) as (server, other):
            server.start()
            other.start()
            builder = Builder(server, server.token("admin"))
            builder.put_project("killed", SPEC)
            campaign = Campaign(server, other, builder, random.Random(SEED), place)
            campaign.run(BUILDS)
            wait_for_all(server)
            counts = check(campaign)
            refused = server.log_text().count("was broken off; it starts anew")
            other.stop()
            # The next build sweeps what dead workers left, as any next build does.
            builder.ended([builder.start("killed")])
            wait_until(lambda: not list(place.glob("build-*")), seconds=30)
            wait_until(lambda: not host_processes("sleep\0" + "3600"), seconds=30)
            server.stop()
            assert server.fsck() == ""
        assert not host_processes(str(place))
        assert len(campaign.workspaces) > BUILDS / 10
        assert groups_left(campaign.workspaces) == []
    print(f"{counts} after {campaign.done}, {len(campaign.ids)} builds asked for, {refused} late attempts refused")
