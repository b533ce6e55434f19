"""Deployments that several move at the same moment, and workers that are killed: one end for each, on both databases."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hooks import care
from hooks.deployments import engine
from hooks.deployments.outcomes import EventStatus
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentTarget
from registry.errors import Conflict
from registry.models import AuditEntry
from tests.fakes.deployment_worker import worker as make_worker
from tests.fakes.deployments import ALL_AT_ONCE, HALF, ONE, World, new_world, wipe
from tests.job_bench import BACKENDS, eventually

ROOT = Path(__file__).resolve().parents[2]
ROLLS = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(request.param, tmp_path_factory.mktemp("races")) as world:
        yield world


@pytest.fixture
def world(database: World) -> Iterator[World]:
    wipe(database)
    # Workers have the real time; by another one everything would have taken too long.
    database.now = datetime.now(UTC)
    yield database
    assert care.check(database.db) == []


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each returns, or the exception; all are let loose at the same moment."""
    start, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(number: int) -> None:
        start.wait(30)
        try:
            results[number] = acts[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def ends_in_the_log(world: World) -> Counter[str]:
    """How often each deployment has ended, by the audit log."""
    ended = ("deployment.succeeded", "deployment.failed", "deployment.stopped")
    with world.db.read() as session:
        found = session.scalars(
            select(AuditEntry.object).where(AuditEntry.action.in_(ended), AuditEntry.seq > world.audit_start)
        )
        return Counter(each.rpartition("/")[2] for each in found)


def test_of_many_reports_of_one_event_one_counts(world: World) -> None:
    agents = {f"web-{number}": world.agent(f"web-{number}") for number in range(3)}
    world.configure([{"name": name, "agent": agent} for name, agent in agents.items()], dummyEvents=["Install"])
    started = world.deploy("1")
    events = [world.begin(agent) for agent in agents.values()]
    statuses = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.SUCCEEDED)
    told = at_once([lambda e=event, s=status: world.end(e, s) for event in events for status in statuses])
    assert [told[number : number + 3].count(True) for number in (0, 3, 6)] == [1, 1, 1]
    assert told.count(False) == 6
    assert world.deployment(started).completed_at is not None
    assert ends_in_the_log(world) == {started: 1}


def test_a_stop_among_ends_leaves_one_end(world: World) -> None:
    agents = {f"web-{number}": world.agent(f"web-{number}") for number in range(4)}
    world.configure([{"name": name, "agent": agent} for name, agent in agents.items()], dummyEvents=["Install"])
    started = world.deploy("1", HALF)
    events = [world.begin(agent) for agent in list(agents.values())[:2]]
    told = at_once([
        lambda: world.do(engine.stop, started),
        *(lambda e=event: world.end(e) for event in events),
        lambda: world.advance(started),
    ])  # fmt: skip
    assert not [each for each in told if isinstance(each, Exception) and not isinstance(each, Conflict)]
    assert world.status(started) == "Stopped"
    assert ends_in_the_log(world) == {started: 1}


def test_of_many_that_are_made_at_once_one_begins(world: World) -> None:
    world.configure(["a"], dummyEvents=["Install"])
    made = at_once([lambda number=number: world.deploy(str(number)) for number in range(5)])
    statuses = Counter(world.status(each) for each in made)
    assert statuses == {"InProgress": 1, "Queued": 4}
    world.work()
    assert Counter(world.status(each) for each in made) == {"Succeeded": 5}


def test_two_workers_at_once_double_nothing(world: World) -> None:
    world.configure(
        ["a", "b", "bad", "c"], autoRollbackConfiguration=ROLLS, dummyEvents=["Install", "ApplicationStart"]
    )
    made = [world.deploy("1", ALL_AT_ONCE), world.deploy("2", ONE), world.deploy("3", HALF, targets=["a", "b"])]
    workers = [make_worker(world.db, f"worker {number}", 30.0) for number in range(2)]
    for each in workers:
        each.start()
    eventually(lambda: not is_anything_open(world), "a deployment never ended")
    for each in workers:
        each.drain(0)
    assert all(each.join(40) for each in workers)
    check_all(world, made)


def is_anything_open(world: World) -> bool:
    with world.db.read() as session:
        return session.scalar(select(Deployment.id).where(Deployment.completed_at.is_(None)).limit(1)) is not None


def check_all(world: World, made: Sequence[str]) -> None:
    """Deployments of the group with one machine that fails ended as they had to, each once."""
    assert world.status(made[0]) == "Succeeded"
    assert world.targets(made[0])["bad"] == "Failed"
    # It is known to be unhealthy, and is tried first: without it nothing of one at a time may be taken.
    assert world.deployment(made[1]).error_code == "HEALTH_CONSTRAINTS"
    assert world.status(world.deployment(made[1]).rolled_back_by) == "Failed"
    with world.db.read() as session:
        ids = session.scalars(select(Deployment.id)).all()
        twice = session.execute(
            select(DeploymentEvent.id)
            .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
            .where(DeploymentEvent.status == "InProgress")
        ).all()
    assert twice == []
    assert ends_in_the_log(world) == dict.fromkeys(ids, 1)


def kill_and_go_on(world: World, made: Sequence[str], kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.deployment_worker", world.db.url], cwd=ROOT, stdout=subprocess.PIPE
        )
        try:
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.6))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
    last = make_worker(world.db, "the last one")
    last.start()
    eventually(lambda: not is_anything_open(world), "a deployment never ended")
    last.drain(0)
    assert last.join(40)
    check_all(world, made)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_killed_workers_lose_and_double_nothing(world: World) -> None:
    world.configure(
        ["a", "b", "bad", "c"], autoRollbackConfiguration=ROLLS, dummyEvents=["Install", "ApplicationStart"]
    )
    made = [world.deploy("1", ALL_AT_ONCE), world.deploy("2", ONE), world.deploy("3", HALF, targets=["a", "b"])]
    kill_and_go_on(world, made, 1, random.Random(7))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_campaign_of_kills(world: World, seed: int) -> None:
    world.configure(["a", "b", "bad", "c", "d"], autoRollbackConfiguration=ROLLS)
    made = [world.deploy("1", ALL_AT_ONCE), world.deploy("2", ONE), world.deploy("3", HALF), world.deploy("4", HALF)]
    kill_and_go_on(world, made, 6, random.Random(seed))
