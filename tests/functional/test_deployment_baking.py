"""Deployments that bake: the targets that serve are watched until it is over, and one that is unwell fails it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hooks.deployments import engine
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.phases import MONITOR_HEALTH
from hooks.deployments.platform import AgentsPart, Later
from hooks.deployments.platforms.dummy import failed
from tests.fakes.deployments import World, new_world, wipe

CHECKS = [{"name": "up", "type": "TCP"}]
ALWAYS = {"enabled": True, "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_REQUEST"]}
BLUE_GREEN = {
    "healthChecks": CHECKS,
    "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
    "blueGreenDeploymentConfiguration": {
        "terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE", "terminationWaitTimeInMinutes": 60}
    },
}
FLEETS = [{"name": "b1", "fleet": "Blue"}, {"name": "g1", "fleet": "Green"}, {"name": "g2", "fleet": "Green"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world("sqlite", tmp_path_factory.mktemp("baking")) as world:
        yield world


@pytest.fixture
def world(made: World) -> World:
    wipe(made)
    return made


def look(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.hasten()
        world.work()


def test_in_place_it_is_asked_on_and_on_and_a_success_when_it_is_over(world: World) -> None:
    world.configure(["a", "b"], healthChecks=CHECKS, bakeTimeInMinutes=10)
    started = world.deploy("1")
    world.work()
    assert world.status(started) == "Baking"
    look(world, 3)
    assert world.platform.done.count(("a", MONITOR_HEALTH)) == 4
    world.advance(started, minutes=9)
    assert world.status(started) == "Baking"
    world.advance(started, minutes=1)
    assert world.status(started) == "Succeeded"
    assert set(world.targets(started).values()) == {"Succeeded"}
    assert world.events(started, "a")[MONITOR_HEALTH] == "Succeeded"
    look(world)
    assert world.platform.done.count(("a", MONITOR_HEALTH)) == 4  # nobody asks any more


def test_one_that_is_unwell_fails_it_and_the_last_good_revision_comes_back(world: World) -> None:
    world.configure(["a", "b"], healthChecks=CHECKS, bakeTimeInMinutes=10, autoRollbackConfiguration=ALWAYS)
    world.deploy("1", bakeTimeInMinutes=0)
    world.work()
    second = world.deploy("2")
    world.work()
    world.platform.outcomes["b", MONITOR_HEALTH] = [Later(5), failed(MONITOR_HEALTH, "HTTP 500")]
    look(world, 2)
    ended = world.deployment(second)
    assert (ended.status, ended.error_code) == ("Failed", "CUSTOMER_APPLICATION_UNHEALTHY")
    assert "b: MonitorHealth failed" in ended.error_message
    assert "HTTP 500" in ended.error_message
    assert world.targets(second) == {"a": "Succeeded", "b": "Failed"}
    look(world)
    assert world.status(ended.rolled_back_by) == "Baking"
    assert MONITOR_HEALTH not in world.events(ended.rolled_back_by, "a")  # what goes back is not watched
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}


def test_blue_green_is_watched_while_the_originals_are_kept(world: World) -> None:
    world.configure(FLEETS, **BLUE_GREEN, autoRollbackConfiguration=ALWAYS)
    started = world.deploy("1")
    world.work()
    assert world.status(started) == "Baking"
    assert MONITOR_HEALTH not in world.events(started, "b1")
    world.do_continue(started, engine.WaitType.TERMINATION)
    world.work()
    assert (world.status(started), world.events(started, "g1")[MONITOR_HEALTH]) == ("Succeeded", "Succeeded")

    second = world.deploy("2")
    world.work()
    world.platform.outcomes["g2", MONITOR_HEALTH] = [failed(MONITOR_HEALTH)]
    look(world)
    ended = world.deployment(second)
    assert (ended.status, world.targets(second)) == ("Failed", {"b1": "Succeeded", "g1": "Succeeded", "g2": "Failed"})
    assert world.events(second, "b1")["TerminateOriginal"] == "Skipped"
    look(world)
    back = ended.rolled_back_by
    assert world.status(back) == "Succeeded"
    assert (world.events(back, "b1")["AllowTraffic"], world.events(back, "g1")["BlockTraffic"]) == ("Succeeded",) * 2


def test_a_service_without_sides_is_given_back_to_its_original(world: World) -> None:
    world.configure(["shop"], dummyEvents=["Install", "AllowTraffic"], bakeTimeInMinutes=60, **BLUE_GREEN)
    started = world.deploy("1")
    world.work()
    world.platform.outcomes["shop", MONITOR_HEALTH] = [failed(MONITOR_HEALTH)]
    look(world)
    assert (world.status(started), world.platform.done[-1]) == ("Failed", ("shop", "undo"))


def test_a_stop_leaves_what_was_well(world: World) -> None:
    world.configure(["a", "b"], healthChecks=CHECKS, bakeTimeInMinutes=10)
    started = world.deploy("1")
    world.work()
    world.do(engine.stop, started)
    assert (world.status(started), world.targets(started)) == ("Stopped", {"a": "Succeeded", "b": "Succeeded"})
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}
    assert ("a", "undo") not in world.platform.done


def test_what_waits_to_be_watched_has_had_its_part_when_another_one_fails(world: World) -> None:
    world.configure(["a", "b"], healthChecks=CHECKS, bakeTimeInMinutes=10)
    world.platform.outcomes["b", "Install"] = [Later(600)]
    started = world.deploy("1")
    world.work()
    assert world.targets(started) == {"a": "Ready", "b": "InProgress"}
    world.do(engine.stop, started)
    look(world)
    assert world.targets(started) == {"a": "Succeeded", "b": "Failed"}
    assert world.events(started, "a")[MONITOR_HEALTH] == "Skipped"


def test_the_agent_has_its_part_and_the_server_goes_on(world: World) -> None:
    agent = world.agent("a")
    world.configure([{"name": "a", "agent": agent}], healthChecks=CHECKS, bakeTimeInMinutes=120)
    world.platform.outcomes["a", MONITOR_HEALTH] = [AgentsPart({"part": 1}), Later(5), AgentsPart(), AgentsPart()]
    started = world.deploy("1")
    assert (world.end(world.begin(agent)), world.status(started)) == (True, "Baking")
    world.work()
    assert world.next_for(agent) == MONITOR_HEALTH
    event = world.begin(agent)
    first = event.started_at
    world.advance(started, minutes=4)
    assert world.end(event, log="looked")
    assert world.next_for(agent) is None
    look(world)
    assert world.platform.done.count(("a", MONITOR_HEALTH)) == 2
    world.advance(started, minutes=50)
    look(world)
    event = world.begin(agent)
    world.advance(started, minutes=30)  # together longer than an event may take: none of them hangs
    assert (event.started_at, world.status(started)) == (first, "Baking")
    assert world.end(event)
    world.work()
    assert world.end(world.begin(agent), EventStatus.FAILED, message="exit code 1")
    assert (world.status(started), world.targets(started)) == ("Failed", {"a": "Failed"})


@pytest.mark.long
def test_an_agent_that_is_silent_while_it_is_asked_fails_it(world: World) -> None:
    agent = world.agent("a")
    world.configure([{"name": "a", "agent": agent}], healthChecks=CHECKS, bakeTimeInMinutes=120)
    world.platform.outcomes["a", MONITOR_HEALTH] = [AgentsPart()]
    started = world.deploy("1")
    world.end(world.begin(agent))
    world.work()
    world.advance(started, minutes=4)
    assert world.status(started) == "Baking"
    world.advance(started, minutes=2)
    ended = world.deployment(started)
    assert (ended.status, "did not answer" in ended.error_message) == ("Failed", True)


@pytest.mark.long
def test_somebody_may_be_asked_about_one_that_is_unwell(world: World) -> None:
    world.configure(["a"], healthChecks=CHECKS, bakeTimeInMinutes=10, guidedFailure=True)
    started = world.deploy("1")
    world.work()
    world.platform.outcomes["a", MONITOR_HEALTH] = [failed(MONITOR_HEALTH)] * 2
    look(world)
    assert world.deployment(started).is_paused
    world.answer(started, "a", engine.Answer.RETRY)
    look(world)
    world.answer(started, "a", engine.Answer.IGNORE)
    assert world.status(started) == "Baking"
    world.advance(started, minutes=11)
    assert world.status(started) == "Succeeded"
