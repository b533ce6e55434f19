"""Agents that become silent: what is not begun on their machines, when they are given up, and what they tell when they are back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from hooks import care
from hooks.deployments import engine
from hooks.deployments.agent_work import _chosen
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.reconciling import LATE, Found, put_right, told_late
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentEvent,
    DeploymentInstallation,
    DeploymentTarget,
)
from tests.fakes.deployments import ALL_AT_ONCE, HALF, ONE, World, new_world, wipe

ROLLS = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world("sqlite", tmp_path_factory.mktemp("silence")) as world:
        yield world


@pytest.fixture
def world(database: World) -> Iterator[World]:
    wipe(database)
    yield database
    assert care.check(database.db) == []


def fleet(world: World, count: int, **document: object) -> dict[str, str]:
    """Machines with agents; all of them have version 1, and a day has passed since."""
    agents = {f"web-{number}": world.agent(f"web-{number}") for number in range(count)}
    targets = [{"name": name, "agent": agent} for name, agent in agents.items()]
    world.configure(targets, dummyEvents=["ApplicationStop", "Install"], **document)
    first = world.deploy("1", ALL_AT_ONCE)
    for agent in agents.values():
        carry_out(world, agent)
    assert world.status(first) == "Succeeded"
    return agents


def carry_out(world: World, agent: str) -> None:
    while world.next_for(agent) is not None:
        assert world.end(world.begin(agent))


def be_silent(world: World, *agents: str) -> None:
    world.silent.update(agents)
    world.now += timedelta(minutes=2)
    with world.db.write() as session:
        for row in session.scalars(select(DeploymentAgent).where(DeploymentAgent.id.not_in(world.silent))):
            row.seen_at = world.now


def test_nothing_is_taken_beside_a_silent_machine_until_it_is_back(world: World) -> None:
    agents = fleet(world, 3)
    be_silent(world, agents["web-2"])
    second = world.deploy("2", ONE)
    world.advance(second, minutes=4)
    # Two of three have to serve, and nobody knows whether the third one does.
    assert set(world.targets(second).values()) == {"Pending"}
    world.silent.clear()
    world.advance(second, seconds=1)
    for agent in agents.values():
        carry_out(world, agent)
    assert world.status(second) == "Succeeded"
    assert set(world.targets(second).values()) == {"Succeeded"}


def test_a_silent_machine_is_not_begun_on_and_given_up_last(world: World) -> None:
    agents = fleet(world, 4)
    be_silent(world, agents["web-0"])
    second = world.deploy("2", HALF)
    assert list(world.targets(second).values()).count("InProgress") == 1
    for name in ("web-1", "web-2", "web-3"):
        carry_out(world, agents[name])
    assert world.targets(second)["web-0"] == "Pending"
    world.advance(second, seconds=290)
    assert world.status(second) == "InProgress"
    world.advance(second, seconds=11)
    assert world.targets(second)["web-0"] == "Failed"
    assert world.status(second) == "Succeeded"
    assert world.deployment(second).details["result"] == "3 of 4 targets succeeded"
    # Nothing has begun there, so that it counts as before once it is back.
    assert world.installed()["web-0"] == ("1", True)


def test_what_was_not_begun_on_is_not_rolled_back(world: World) -> None:
    agents = fleet(world, 2, autoRollbackConfiguration=ROLLS)
    be_silent(world, *agents.values())
    second = world.deploy("2", ONE)
    world.advance(second, seconds=301)
    ended = world.deployment(second)
    assert (ended.status, ended.error_code, ended.rolled_back_by) == ("Failed", "HEALTH_CONSTRAINTS", None)
    assert "the agent did not answer" in ended.error_message
    assert ended.rollback_message == "nothing was changed, so that nothing is undone"


def test_those_that_succeeded_and_became_silent_hold_the_others_up(world: World) -> None:
    agents = fleet(world, 3)
    second = world.deploy("2", ONE)
    carry_out(world, agents["web-0"])
    event = world.begin(agents["web-1"])
    be_silent(world, agents["web-0"])
    assert world.end(event)
    carry_out(world, agents["web-1"])
    assert world.targets(second)["web-2"] == "Pending"
    world.advance(second, seconds=301)
    ended = world.deployment(second)
    assert (ended.status, ended.error_code) == ("Failed", "HEALTH_CONSTRAINTS")
    assert "the agents of 1 of them are silent" in ended.error_message
    assert world.targets(second)["web-2"] == "Skipped"


def test_an_event_ends_with_its_agent_and_a_late_report_tells_what_is_there(world: World) -> None:
    agents = fleet(world, 3)
    second = world.deploy("2", HALF)
    assert world.end(world.begin(agents["web-0"]))  # ApplicationStop
    install = world.begin(agents["web-0"])
    world.silent.add(agents["web-0"])
    world.advance(second, seconds=299)
    assert world.targets(second)["web-0"] == "InProgress"
    world.advance(second, seconds=2)
    assert world.targets(second)["web-0"] == "Failed"
    assert not world.end(install)
    assert world.installed()["web-0"] == ("1", False)
    report = EventResult("Install", EventStatus.SUCCEEDED)
    for told in (replace(report, event="ApplicationStop"), replace(report, status=EventStatus.FAILED)):
        assert tell_late(world, install, told) == "the agent did not answer: nothing was heard of it for 300 seconds"
    assert world.installed()["web-0"] == ("1", False)
    for _ in range(2):  # told again it changes nothing
        assert tell_late(world, install, report).endswith(f"300 seconds; {LATE}")
    assert world.installed()["web-0"] == ("2", False)
    assert world.events(second, "web-0")["Install"] == "Failed"
    assert world.audited().count("agent.late_event") == 1


def tell_late(world: World, event: DeploymentEvent, result: EventResult) -> str:
    """The event's message afterwards."""
    with world.db.write() as session:
        row = session.get_one(DeploymentEvent, event.id)
        target = session.get_one(DeploymentTarget, row.target_id)
        agent = session.get_one(DeploymentAgent, target.agent_id)
        deployment = session.get_one(Deployment, target.deployment_id)
        told_late(session, agent, deployment, target, row, result=result, now=world.now)
        return row.message


def test_what_an_agent_sees_is_believed_where_the_rows_cannot_know(world: World) -> None:
    agents = fleet(world, 2)
    first = world.group().last_successful_id
    assert look(world, agents["web-0"], first) == ("1", True)
    second = world.deploy("2", HALF)
    assert world.end(world.begin(agents["web-0"]))
    world.begin(agents["web-0"])
    assert look(world, agents["web-0"], second) == ("1", True)  # a healthy row is right
    world.silent.add(agents["web-0"])
    world.advance(second, seconds=301)
    assert look(world, agents["web-0"], second, is_complete=False) == ("1", False)
    assert look(world, agents["web-0"], "d-UNKNOWN00") == ("1", False)
    assert look(world, agents["web-0"], second) == ("2", False)
    # What is under way there tells by itself what it has installed.
    world.silent.clear()
    world.advance(second)
    carry_out(world, agents["web-1"])
    world.deploy("3", ALL_AT_ONCE)
    assert look(world, agents["web-0"], first) == ("2", False)


def look(world: World, agent_id: str, deployment_id: str | None, *, is_complete: bool = True) -> tuple[str, bool]:
    """What the row says after the agent has told that it found this deployment's files."""
    with world.db.write() as session:
        agent = session.get_one(DeploymentAgent, agent_id)
        row = session.get_one(DeploymentInstallation, (world.group_id, agent.name))
        found = Found(world.group_id, deployment_id or "", 1, 0, 0, (), (), is_complete)
        put_right(session, agent, row, found, world.now)
    return world.installed()[agent.name]


def test_a_server_that_was_away_itself_waits_anew(world: World) -> None:
    agents = fleet(world, 3)
    second = world.deploy("2", ALL_AT_ONCE)
    world.begin(agents["web-0"])
    world.advance(second)
    world.advance(second, was_away=True, hours=1, minutes=-10)
    assert set(world.targets(second).values()) == {"InProgress"}
    world.silent.add(agents["web-0"])
    world.advance(second, seconds=299)
    assert world.targets(second)["web-0"] == "InProgress"
    world.advance(second, seconds=2)
    assert world.targets(second)["web-0"] == "Failed"


def test_a_pause_is_no_silence(world: World) -> None:
    agents = fleet(world, 3)
    be_silent(world, agents["web-0"])
    second = world.deploy("2", HALF)
    world.do(engine.pause, second)
    world.advance(second, hours=1)
    world.do(engine.resume, second)
    for name in ("web-1", "web-2"):
        carry_out(world, agents[name])
    world.advance(second, seconds=290)
    assert world.targets(second)["web-0"] == "Pending"
    world.advance(second, seconds=11)
    assert world.targets(second)["web-0"] == "Failed"


def test_a_lost_machine_is_not_begun_on_by_what_may_be_passed_over(world: World) -> None:
    agents = fleet(world, 2)
    be_silent(world, agents["web-0"])
    second = world.deploy("2", ALL_AT_ONCE, ignoreApplicationStopFailures=True)
    carry_out(world, agents["web-1"])
    world.advance(second, seconds=301)
    assert world.events(second, "web-0") == {"ApplicationStop": "Failed", "Install": "Skipped"}
    assert (world.targets(second)["web-0"], world.status(second)) == ("Failed", "Succeeded")
    assert world.installed()["web-0"] == ("1", True)


def test_somebody_is_asked_about_a_lost_machine_that_has_not_begun(world: World) -> None:
    agents = fleet(world, 2)
    be_silent(world, agents["web-0"])
    second = world.deploy("2", ALL_AT_ONCE, guidedFailure=True)
    carry_out(world, agents["web-1"])
    world.advance(second, seconds=301)
    assert world.deployment(second).is_paused
    assert started(world, second, "web-0") is False
    world.answer(second, "web-0", engine.Answer.RETRY)
    assert started(world, second, "web-0") is True
    carry_out(world, agents["web-0"])
    assert world.status(second) == "Succeeded"


def started(world: World, deployment_id: str, name: str) -> bool:
    with world.db.read() as session:
        mine = (DeploymentTarget.deployment_id == deployment_id, DeploymentTarget.name == name)
        return session.scalars(select(DeploymentTarget).where(*mine)).one().started_at is not None


def test_a_silent_machine_beside_those_that_are_asked_for_counts_as_well(world: World) -> None:
    agents = fleet(world, 3)
    be_silent(world, agents["web-2"])
    second = world.deploy("2", ONE, targets=["web-1"])
    assert world.targets(second) == {"web-1": "Pending"}
    world.silent.clear()
    world.advance(second, seconds=1)
    carry_out(world, agents["web-1"])
    assert world.status(second) == "Succeeded"


@pytest.mark.parametrize("pause", [30, 4 * 3600])
def test_a_pause_counts_once(world: World, pause: float) -> None:
    agents = fleet(world, 2)
    be_silent(world, agents["web-0"])
    second = world.deploy("2", ALL_AT_ONCE)
    carry_out(world, agents["web-1"])
    world.advance(second, seconds=5)
    world.do(engine.pause, second)
    world.advance(second, seconds=pause)
    world.do(engine.resume, second)
    world.advance(second, was_away=True, seconds=15)  # the first look after the pause, as a worker makes it
    world.advance(second, seconds=275)
    assert world.targets(second)["web-0"] == "Pending"
    world.advance(second, seconds=10)
    assert world.targets(second)["web-0"] == "Failed"


@pytest.mark.parametrize(("late", "longest"), [(61, 430), (200, 1000), (310, 4000)])
def test_looks_that_are_always_late_keep_no_dead_agent_alive(world: World, late: int, longest: int) -> None:
    agents = fleet(world, 2)
    second = world.deploy("2", ALL_AT_ONCE)
    carry_out(world, agents["web-1"])
    world.silent.add(agents["web-0"])
    waited = 0
    while world.targets(second)["web-0"] == "InProgress" and waited <= longest:
        waited += late
        world.advance(second, was_away=True, seconds=late)
    assert (300 < waited <= longest, world.targets(second)["web-0"]) == (True, "Failed")


def test_what_an_agent_has_not_begun_when_it_was_offered_goes_behind_the_others(world: World) -> None:
    agent = world.agent("web-0")
    chosen = []
    for name in ("jobs", "mail"):
        world.group_id = world.new_group(name)
        world.configure([{"name": "web-0", "agent": agent}], dummyEvents=["Install"])
        world.deploy("1")
    for number in range(1, 5):
        with world.db.write() as session:
            chosen.append(_chosen(session, agent, ()))
            session.get_one(DeploymentEvent, chosen[-1]).sequence = number
    assert chosen == [chosen[0], chosen[1]] * 2
    assert chosen[0] != chosen[1]
