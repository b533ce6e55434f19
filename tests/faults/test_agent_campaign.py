"""Machines in network namespaces of their own that are killed, cut off, a day off and full, at random, while they are deployed to.

The short form runs in ``make test``; ``make campaign`` runs 200 deployments. ``ENTREPOT_SEED`` replays a run's choices,
``ENTREPOT_DEPLOYMENTS`` says another number.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent_bench import ALL_AT_ONCE, release
from tests.agent_campaign import FAULTS, SILENT_SECONDS, SLACK_SECONDS, Deployed, Fleet, wait
from tests.agent_kills import Watcher
from tests.fakes.deployments import HALF, ONE
from tests.machines import network

LONG = os.environ.get("ENTREPOT_CAMPAIGN") == "long"
SEED = int(os.environ.get("ENTREPOT_SEED", "1"))
DEPLOYMENTS = int(os.environ.get("ENTREPOT_DEPLOYMENTS", "200"))
TWO = ("two", {"minimumHealthyHosts": {"type": "HOST_COUNT", "value": 2}})
MANY = 150
SHORT = ((ONE, ("kill",)), (HALF, ("lost",)), (TWO, ("disk", "clock")))
NAMES = tuple(f"m{number}" for number in range(5 if LONG else 3))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's")


@contextmanager
def fleet(folder: Path, **settings: str) -> Iterator[Fleet]:
    with network(folder) as made:
        running = Fleet(folder, made, NAMES, SEED, pause_seconds=0.05 if LONG else 0.2, **settings)
        try:
            running.begin()
            yield running
        finally:
            running.close()


def deploy_and_check(running: Fleet, number: int, config, faults, *, is_broken: bool = False) -> str:
    before = {name: running.release_of(name) for name in NAMES}
    done = running.deploy(f"v{number}", config, is_broken=is_broken)
    status = running.hurt_while(done, faults)
    assert running.faults_of(done, before) == [], (SEED, number, faults, running.told())
    return status


@pytest.mark.campaign
def test_each_target_is_old_or_new_and_statuses_are_true(tmp_path: Path) -> None:
    with fleet(tmp_path) as running:
        chance, ends = running.chance, Counter[str]()
        for number in range(1, (DEPLOYMENTS if LONG else len(SHORT)) + 1):
            if LONG:
                config, faults = chance.choice([ONE, HALF, TWO]), chance.sample(FAULTS, chance.choice([0, 1, 1, 2]))
            else:
                config, faults = SHORT[number - 1]
            is_broken = LONG and chance.random() < 0.1
            ends[deploy_and_check(running, number, config, faults, is_broken=is_broken)] += 1
        # After all of it the machines are as if nothing had been.
        before = {name: running.release_of(name) for name in NAMES}
        last = running.deploy("last", ALL_AT_ONCE)
        assert running.ended(last) == "Succeeded", running.told()
        assert {running.release_of(name) for name in NAMES} == {last.id}
        assert running.faults_of(last, before) == []
        running.check()
        looks = sum(each.looks for each in (*running.services.values(), *running.watchers.values()))
        assert looks > 10 * ends.total()
        if LONG:  # each of the few of the short form may have met a fault that it rightly ends of
            assert ends["Succeeded"] > ends.total() / 4
        check_the_checkers(running, last, before)
    print(f"{dict(ends)} after {Counter(running.faults)}, seed {SEED}, {looks} looks")


def check_the_checkers(running: Fleet, last: Deployed, before: dict[str, str]) -> None:
    """With a defence switched off they object: without a minimum too many are taken, without the link files are torn."""
    last.minimum = len(NAMES) - 1
    found = running.faults_of(last, before)
    # A machine that the deployment before has left unhealthy may be taken whatever the others do.
    unhealthy = running.crew.deployment(last.id).details.get("unhealthy", [])
    assert len(found) == len(NAMES) - len(unhealthy) > 0, found
    assert all("was taken" in each for each in found)

    plain = running.crew.group("plain", NAMES[0])
    place = running.network.seen_at / "plain"
    assert running.crew.ended(running.crew.deploy(plain, release(place, "p1", files=MANY))) == "Succeeded"
    watcher = Watcher(running.own(NAMES[0]) / "plain", MANY, 0)
    watcher.start()
    assert running.crew.ended(running.crew.deploy(plain, release(place, "p2", files=MANY))) == "Succeeded"
    watcher.is_over = True
    watcher.join()
    assert watcher.torn


@pytest.mark.long
@pytest.mark.parametrize("is_on", [True, False])
def test_a_machine_that_is_cut_off_is_not_counted_on(tmp_path: Path, is_on: bool) -> None:
    """The control, with silence that counts for nothing: a machine is taken beside one that is cut off already."""
    settings = {} if is_on else {"ENTREPOT_DEPLOYMENTS_AGENT_SILENT_SECONDS": "3600",
                                 "ENTREPOT_DEPLOYMENTS_AGENT_LOST_SECONDS": "3600"}  # fmt: skip
    with fleet(tmp_path, **settings) as running:
        away = NAMES[-1]
        before = {name: running.release_of(name) for name in NAMES}
        running.services[away].leave()
        running.network.machines[away].cut_off()
        time.sleep(SILENT_SECONDS + SLACK_SECONDS + 1)
        done = running.deploy("v1", ONE)
        if is_on:
            assert running.ended(done) == "Failed"
        else:
            wait(lambda: running.release_of(NAMES[0]) == done.id, running.told)
        running.network.machines[away].join_again()
        running.services[away].come_back()
        found = running.faults_of(done, before)
        assert (found == []) is is_on, found
