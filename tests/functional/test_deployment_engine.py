"""Deployments from their start to their end: real rows, real queue; the platform has no machines.

``test_deployment_races.py`` has the most of it on both databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from hooks import care as hooks_care
from hooks.deployments import care, engine
from hooks.deployments.health.alarms import Measured
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.platform import Later, PlatformUnavailable, retries_of
from hooks.deployments.platforms.dummy import failed
from hooks.deployments.request import DeploymentRequest
from hooks.models.deployment import Deployment, DeploymentEvent, DeploymentGroup, DeploymentTarget
from hooks.models.job import Job
from registry.errors import Conflict, Invalid, NotFound
from registry.models import AuditEntry
from tests.fakes.deployments import HALF, ONE, World, new_world, wipe


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world("sqlite", tmp_path_factory.mktemp("deployments")) as world:
        yield world


@pytest.fixture
def world(database: World) -> World:
    wipe(database)
    return database


def test_one_after_the_other_to_the_end(world: World) -> None:
    world.configure(["a", "b", "c"], dummyEvents=STOPS)
    first = world.deploy("1", ONE)
    assert world.targets(first) == {"a": "InProgress", "b": "Pending", "c": "Pending"}
    world.work()
    assert world.status(first) == "Succeeded"
    assert world.targets(first) == {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"}
    assert world.installed() == {"a": ("1", True), "b": ("1", True), "c": ("1", True)}
    assert world.deployment(first).details["result"] == "3 of 3 targets succeeded"
    assert (world.group().last_attempted_id, world.group().last_successful_id) == (first, first)
    assert [target for target, event in world.platform.done if event == "Install"] == ["a", "b", "c"]


def test_agents_go_from_event_to_event(world: World) -> None:
    agent = world.agent("web-1")
    world.configure([{"name": "web-1", "agent": agent}], dummyEvents=None)
    started = world.deploy("1")
    done = []
    while (name := world.next_for(agent)) is not None:
        event = world.begin(agent)
        assert event is not None
        assert world.end(event, log="it said so")
        assert not world.end(event, EventStatus.FAILED)
        done.append(name)
    assert done == [
        "ApplicationStop", "DownloadBundle", "BeforeInstall", "Install", "AfterInstall", "ApplicationStart",
        "ValidateService",
    ]  # fmt: skip
    assert world.status(started) == "Succeeded"


def test_a_failure_rolls_back_by_a_new_deployment(world: World) -> None:
    rolls = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
    world.configure(["a", "b"], autoRollbackConfiguration=rolls, dummyEvents=["Install", "ApplicationStart"])
    good = world.deploy("1")
    world.work()
    world.platform.outcomes["a", "ApplicationStart"] = [failed("ApplicationStart")]
    bad = world.deploy("2", HALF)
    world.work()
    assert world.status(bad) == "Failed"
    undoing = world.deployment(world.deployment(bad).rolled_back_by)
    assert (undoing.creator, undoing.rollback_of, undoing.status) == ("codeDeployRollback", bad, "Succeeded")
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}
    assert good


# --- one at a time, and what cannot begin


@pytest.mark.long
def test_deployments_of_a_group_follow_each_other(world: World) -> None:
    world.configure(["a"])
    first, second, third = (world.deploy(version) for version in "123")
    assert [world.status(each) for each in (first, second, third)] == ["InProgress", "Queued", "Queued"]
    world.work()
    assert [world.status(each) for each in (first, second, third)] == ["Succeeded"] * 3
    assert [world.deployment(each).previous_revision for each in (first, second, third)] == [
        None,
        world.deployment(first).revision,
        world.deployment(second).revision,
    ]
    ended = [kind for kind in world.told() if kind in {"deployment.started", "deployment.succeeded"}]
    assert ended == ["deployment.started", "deployment.succeeded"] * 3


def test_a_queued_one_can_be_stopped_and_too_many_are_refused(world: World) -> None:
    world.configure(["a"], dummyEvents=["Install"])
    waiting = [world.deploy(str(number)) for number in range(engine.MAX_OPEN)]
    with pytest.raises(Conflict, match="wait or go on"):
        world.deploy("one too many")
    world.do(engine.stop, waiting[1])
    assert (world.status(waiting[1]), world.status(waiting[0])) == ("Stopped", "InProgress")
    world.work(at_most=4)
    assert [world.status(each) for each in waiting[:3]] == ["Succeeded", "Stopped", "Succeeded"]


def test_what_cannot_begin_has_failed_and_says_why(world: World) -> None:
    world.configure([])
    assert world.deployment(world.deploy("1")).error_code == "NO_INSTANCES"
    world.configure([f"t{number}" for number in range(10)])
    wanted = ("mine", {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 95}})
    failed_at_once = world.deployment(world.deploy("1", wanted))
    assert (failed_at_once.status, failed_at_once.error_code) == ("Failed", "HEALTH_CONSTRAINTS")
    assert set(world.targets(failed_at_once.id).values()) == {"Skipped"}
    world.configure([f"t{number}" for number in range(1001)])
    assert world.deployment(world.deploy("1")).error_code == "OVER_MAX_INSTANCES"
    world.work()
    assert world.platform.done == []


def test_asked_for_twice_with_one_token_it_is_one(world: World) -> None:
    world.configure(["a"])
    wanted = DeploymentRequest(
        world.group_id, {"revisionType": "Upload", "upload": {"id": "u", "sha256": "0"}}, "ada", request_token="t"
    )
    assert world.create(wanted) == world.create(wanted)


# --- order, and who is left out


def test_the_next_one_takes_the_unhealthy_first_and_the_current_last(world: World) -> None:
    world.configure(["a", "b", "c", "d"], dummyEvents=["Install", "ApplicationStart"])
    world.deploy("1")
    world.work()
    world.platform.outcomes["c", "ApplicationStart"] = [failed("ApplicationStart")]
    world.deploy("2", targets=["b", "c"])
    world.work()
    assert world.installed() == {"a": ("1", True), "b": ("2", True), "c": ("2", False), "d": ("1", True)}
    world.platform.done.clear()
    world.deploy("2", ONE)
    world.work()
    assert [target for target, event in world.platform.done if event == "Install"] == ["c", "a", "d", "b"]


@pytest.mark.long
def test_only_outdated_ones(world: World) -> None:
    world.configure(["a", "b"])
    world.deploy("1")
    world.work()
    world.deploy("2", targets=["a"])
    world.work()
    again = world.deploy("2", updateOutdatedInstancesOnly=True)
    assert world.targets(again) == {"b": "InProgress", "a": "Skipped"}
    world.work()
    nothing = world.deployment(world.deploy("2", updateOutdatedInstancesOnly=True))
    assert (nothing.status, nothing.details["result"]) == ("Succeeded", "all targets have this revision already")


def test_all_at_once_succeeds_with_one_and_says_with_how_many(world: World) -> None:
    world.configure(["a", "b", "c"])
    for name in "ab":
        world.platform.outcomes[name, "Install"] = [failed("Install")]
    started = world.deploy("1")
    world.work()
    assert (world.status(started), world.deployment(started).details["result"]) == (
        "Succeeded",
        "1 of 3 targets succeeded",
    )
    # A first failure before anything was installed is known, and known to be nothing.
    assert world.installed() == {"a": ("", False), "b": ("", False), "c": ("1", True)}


def test_only_the_failed_targets_are_retried(world: World) -> None:
    world.configure(["a", "b", "c"], dummyEvents=STOPS)
    world.platform.outcomes["b", "ApplicationStop"] = [failed("ApplicationStop")] * 2
    first = world.deploy("1")
    world.work()
    assert world.targets(first) == {"a": "Succeeded", "b": "Failed", "c": "Succeeded"}
    again = world.do(engine.retry_failed, first, skips=("ApplicationStop",)).id
    world.work()
    assert world.deployment(again).retry_of == first
    assert world.targets(again) == {"b": "Succeeded"}
    assert world.events(again, "b")["ApplicationStop"] == "Skipped"
    with pytest.raises(Conflict, match="have succeeded"):
        world.do(engine.retry_failed, again)


# --- agents


STOPS = ["ApplicationStop", "Install"]


def one_agent(world: World, **document: object) -> tuple[str, str]:
    agent = world.agent("web-1")
    world.configure([{"name": "web-1", "agent": agent}], dummyEvents=STOPS, **document)
    return agent, world.deploy("1")


def test_a_silent_agent_fails_after_five_minutes(world: World) -> None:
    agent, started = one_agent(world)
    world.advance(started, seconds=299)
    assert world.status(started) == "InProgress"
    event = world.begin(agent)
    world.advance(started, minutes=30)
    assert world.end(event)
    # The next one is waited for from now on.
    world.advance(started, seconds=299)
    assert world.status(started) == "InProgress"
    world.advance(started, seconds=2)
    assert world.status(started) == "Failed"
    assert "the agent did not answer" in world.deployment(started).error_message
    assert world.events(started, "web-1")["Install"] == "Failed"
    assert world.begin_late(event) is False


def test_an_event_has_an_hour(world: World) -> None:
    agent, started = one_agent(world)
    event = world.begin(agent)
    world.advance(started, seconds=3600)
    assert world.status(started) == "InProgress"
    world.advance(started, seconds=1)
    assert (world.status(started), world.next_for(agent)) == ("Failed", None)
    assert not world.end(event)
    assert world.events(started, "web-1")["ApplicationStop"] == "Failed"


def test_a_deployment_that_takes_too_long_has_failed(world: World) -> None:
    agents = [world.agent(f"web-{number}") for number in range(3)]
    world.configure(
        [{"name": f"web-{number}", "agent": agent} for number, agent in enumerate(agents)], dummyEvents=STOPS
    )
    started = world.deploy("1", ONE)
    event = world.begin(agents[0])
    world.advance(started, minutes=59)
    assert world.end(event)
    world.do(engine.pause, started)
    world.advance(started, hours=7)
    world.do(engine.resume, started)
    world.parts = replace(world.parts, patience=replace(world.parts.patience, in_place=3600))
    world.advance(started, minutes=1)
    assert world.status(started) == "InProgress"
    world.advance(started, seconds=1)
    ended = world.deployment(started)
    assert (ended.status, ended.error_code) == ("Failed", "TIMEOUT")
    assert list(world.targets(started).values()) == ["Failed"] + ["Skipped"] * 2


def test_the_tail_of_a_log_is_sealed(world: World) -> None:
    agent, _ = one_agent(world)
    event = world.begin(agent)
    world.end(event, EventStatus.FAILED, log="password=x", message="exit status 1", script="stop.sh")
    with world.db.read() as session:
        row = session.get_one(DeploymentEvent, event.id)
    assert row.sealed_log == b"sealed:deployment-event:%d:password=x" % event.id
    assert (row.error_code, row.agent_code, row.message, row.script) == ("ScriptFailed", 4, "exit status 1", "stop.sh")


def test_failures_of_the_release_that_goes_are_passed_over_if_asked(world: World) -> None:
    agent = world.agent("web-1")
    world.configure([{"name": "web-1", "agent": agent}], dummyEvents=STOPS)
    started = world.deploy("1", ignoreApplicationStopFailures=True)
    world.end(world.begin(agent), EventStatus.FAILED)
    assert world.next_for(agent) == "Install"
    world.end(world.begin(agent), EventStatus.FAILED)
    assert world.status(started) == "Failed"


def test_a_stuck_stop_is_skipped_and_its_report_comes_late(world: World) -> None:
    agent, started = one_agent(world)
    event = world.begin(agent)
    with pytest.raises(Invalid, match="cannot be skipped"):
        world.do(engine.skip_event, started, "web-1", "Install")
    world.do(engine.skip_event, started, "web-1", "ApplicationStop")
    assert world.next_for(agent) == "Install"
    assert not world.end(event, EventStatus.FAILED)
    with pytest.raises(Conflict, match="not at"):
        world.do(engine.skip_event, started, "web-1", "ApplicationStop")
    assert world.events(started, "web-1")["ApplicationStop"] == "Skipped"


# --- steering


def test_a_paused_one_begins_nothing(world: World) -> None:
    agent = world.agent("web-1")
    world.configure([{"name": "web-1", "agent": agent}, "z"], dummyEvents=STOPS)
    started = world.deploy("1", ONE)
    event = world.begin(agent)
    world.do(engine.pause, started)
    with pytest.raises(Conflict, match="paused already"):
        world.do(engine.pause, started)
    assert world.end(event)
    assert world.next_for(agent) is None
    world.advance(started, hours=3)
    assert world.status(started) == "InProgress"
    world.do(engine.resume, started)
    assert world.next_for(agent) == "Install"
    world.advance(started, seconds=299)
    assert world.next_for(agent) == "Install"


def test_a_stopped_one_waits_for_what_is_under_way(world: World) -> None:
    agents = [world.agent(f"web-{number}") for number in range(3)]
    world.configure(
        [{"name": f"web-{number}", "agent": agent} for number, agent in enumerate(agents)], dummyEvents=STOPS
    )
    started = world.deploy("1", HALF)
    event = world.begin(agents[0])
    world.do(engine.stop, started)
    with pytest.raises(Conflict, match="already"):
        world.do(engine.stop, started)
    assert world.status(started) == "InProgress"
    assert world.next_for(agents[0]) is None
    assert world.end(event)
    assert world.targets(started) == {"web-0": "Failed", "web-1": "Skipped", "web-2": "Skipped"}
    ended = world.deployment(started)
    assert (ended.status, ended.error_code, ended.stopped_by) == ("Stopped", "MANUAL_STOP", "joe")
    with pytest.raises(Conflict, match="has ended"):
        world.do(engine.stop, started)


def test_a_stopped_one_does_not_wait_for_a_dead_machine(world: World) -> None:
    agent, started = one_agent(world)
    world.begin(agent)
    world.do(engine.stop, started)
    world.silent.add(agent)
    world.advance(started, seconds=301)
    assert world.status(started) == "Stopped"


def test_a_stop_undoes_when_it_is_asked_to(world: World) -> None:
    world.configure(["a", "b"])
    world.deploy("1")
    world.work()
    second = world.deploy("2", ONE)
    world.work(at_most=1)
    assert world.targets(second) == {"a": "Succeeded", "b": "InProgress"}
    world.do(engine.stop, second, rolls_back=True)
    world.work()
    assert world.status(second) == "Stopped"
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}


def test_guided_failure_asks(world: World) -> None:
    agents = {name: world.agent(name) for name in "abc"}
    world.configure(
        [{"name": name, "agent": agent} for name, agent in agents.items()], guidedFailure=True, dummyEvents=None
    )
    started = world.deploy("1")
    for _ in range(2):
        assert world.end(world.begin(agents["b"]))
    under_way = [world.begin(agent) for agent in agents.values()]
    assert [event.name for event in under_way] == ["ApplicationStop", "BeforeInstall", "ApplicationStop"]
    assert world.end(under_way[0], EventStatus.FAILED)
    paused = world.deployment(started)
    assert (paused.status, paused.is_paused, world.next_for(agents["b"])) == ("InProgress", True, None)
    # What is under way comes to its end meanwhile, well or not.
    assert world.end(under_way[1], EventStatus.FAILED)
    assert world.end(under_way[2])
    with pytest.raises(Conflict, match="a, b failed; say first"):
        world.do(engine.resume, started)
    with pytest.raises(Conflict, match="nobody has to say"):
        world.answer(started, "c", engine.Answer.RETRY)
    world.answer(started, "a", engine.Answer.RETRY)
    assert world.deployment(started).is_paused
    world.answer(started, "b", engine.Answer.IGNORE)
    assert [world.next_for(agent) for agent in agents.values()] == ["ApplicationStop", "Install", "DownloadBundle"]
    assert world.events(started, "b")["BeforeInstall"] == "Failed"
    assert world.end(world.begin(agents["b"]), EventStatus.FAILED)
    with pytest.raises(Conflict, match="cannot be ignored"):
        world.answer(started, "b", engine.Answer.IGNORE)
    world.answer(started, "b", engine.Answer.FAIL)
    for name in "ac":
        while world.next_for(agents[name]):
            assert world.end(world.begin(agents[name]))
    assert world.targets(started) == {"a": "Succeeded", "b": "Failed", "c": "Succeeded"}
    assert world.status(started) == "Succeeded"


def test_a_pause_takes_no_time_from_the_deployment(world: World) -> None:
    world.configure(["a", "b"])
    world.platform.outcomes["a", "Install"] = [Later(60)]
    started = world.deploy("1", ONE)
    world.work()
    world.do(engine.pause, started)
    world.now += timedelta(hours=20)
    world.do(engine.resume, started)
    assert not world.advance(started, minutes=30).details.get("ending")
    world.do(engine.pause, started)
    world.now += timedelta(hours=20)
    world.do(engine.resume, started)
    world.advance(started, hours=8)
    assert world.deployment(started).details["ending"]["code"] == "TIMEOUT"


def test_an_answer_does_not_resume_what_somebody_has_paused(world: World) -> None:
    agent = world.agent("web-1")
    world.configure([{"name": "web-1", "agent": agent}], guidedFailure=True, dummyEvents=STOPS)
    started = world.deploy("1")
    event = world.begin(agent)
    world.do(engine.pause, started)
    assert world.end(event, EventStatus.FAILED)
    world.answer(started, "web-1", engine.Answer.RETRY)
    assert (world.deployment(started).is_paused, world.next_for(agent)) == (True, None)
    world.do(engine.resume, started)
    assert world.next_for(agent) == "ApplicationStop"


def test_what_is_done_once_more_begins_anew(world: World) -> None:
    world.configure(["a"], guidedFailure=True)
    world.platform.outcomes["a", "Install"] = [
        Later(0, {"address": "x", "allowingSince": "long ago"}),
        failed("Install"),
    ]
    started = world.deploy("1")
    world.work()
    world.hasten()
    world.work()
    assert world.deployment(started).is_paused
    world.answer(started, "a", engine.Answer.RETRY)
    with world.db.read() as session:
        details = session.scalars(select(DeploymentTarget.details)).one()
    assert details == {"address": "x", "retries": {"Install": 1}}
    assert (retries_of(details, "Install"), retries_of(details, "AllowTraffic")) == (1, 0)
    world.work()
    assert world.status(started) == "Succeeded"


def test_a_stop_while_it_is_asked_ends_it(world: World) -> None:
    world.configure(["a"], guidedFailure=True)
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    started = world.deploy("1")
    world.work()
    world.do(engine.stop, started)
    assert (world.status(started), world.targets(started)) == ("Stopped", {"a": "Failed"})


# --- going back

ALWAYS = {
    "enabled": True,
    "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"],
}


def test_without_an_earlier_success_there_is_nothing_to_go_back_to(world: World) -> None:
    world.configure(["a"], autoRollbackConfiguration=ALWAYS)
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    bad = world.deployment(world.deploy("1"))
    world.work()
    bad = world.deployment(bad.id)
    assert (bad.status, bad.rolled_back_by) == ("Failed", None)
    assert "no earlier success" in bad.rollback_message
    with pytest.raises(Conflict, match="no earlier success"):
        world.do(engine.rollback, bad.id)


@pytest.mark.long
def test_a_failed_rollback_is_not_rolled_back(world: World) -> None:
    world.configure(["a"], autoRollbackConfiguration=ALWAYS)
    world.deploy("1")
    world.work()
    world.platform.outcomes["a", "Install"] = [failed("Install")] * 2
    bad = world.deploy("2")
    world.work()
    undoing = world.deployment(world.deployment(bad).rolled_back_by)
    assert (undoing.status, undoing.rolled_back_by) == ("Failed", None)
    assert "not undone itself" in undoing.rollback_message


def test_a_rollback_goes_before_what_is_queued(world: World) -> None:
    world.configure(["a"], autoRollbackConfiguration=ALWAYS)
    world.deploy("1")
    world.work()
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    bad = world.deploy("2")
    queued = world.deploy("3")
    world.work()
    undoing = world.deployment(world.deployment(bad).rolled_back_by)
    assert undoing.started_at is not None
    assert [world.status(each) for each in (bad, undoing.id, queued)] == ["Failed", "Succeeded", "Succeeded"]
    with world.db.read() as session:
        starts = session.scalars(
            select(AuditEntry.object).where(AuditEntry.action == "deployment.start").order_by(AuditEntry.seq)
        ).all()
    assert [each.rpartition("/")[2] for each in starts[-3:]] == [bad, undoing.id, queued]
    assert world.installed() == {"a": ("3", True)}


def test_by_hand_a_success_can_be_taken_back_once(world: World) -> None:
    world.configure(["a"])
    first = world.deploy("1")
    world.work()
    second = world.deploy("2")
    world.work()
    undoing = world.do(engine.rollback, second)
    world.work()
    assert world.installed() == {"a": ("1", True)}
    assert undoing.rollback_of == second
    assert world.group().last_successful_id == undoing.id
    with pytest.raises(Conflict, match="already"):
        world.do(engine.rollback, second)
    assert {"deployment.rollback", "deployment.create", "deployment.start", "deployment.succeeded"} <= set(
        world.audited()
    )
    assert "deployment.rolled-back" in world.told()
    assert first


def test_nothing_is_made_for_a_group_that_is_gone_or_has_enough(world: World) -> None:
    world.configure(["a"])
    world.deploy("1")
    world.work()
    second = world.deploy("2")
    world.work()
    waiting = [world.deploy(str(number)) for number in range(engine.MAX_OPEN)]
    with pytest.raises(Conflict, match="wait or go on"):
        world.do(engine.rollback, second)
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    world.work()
    with world.db.write() as session:
        session.get_one(DeploymentGroup, world.group_id).deleted_at = world.now
    for steer, of in ((engine.rollback, second), (engine.retry_failed, waiting[0])):
        with pytest.raises(NotFound):
            world.do(steer, of)


# --- engine events, waits and undo


def test_an_event_that_goes_on_later_waits_in_no_thread(world: World) -> None:
    world.configure(["a"])
    world.platform.outcomes["a", "Install"] = [
        Later(60, {"step": 1}),
        PlatformUnavailable("the router is away"),
        Later(60, {"step": 2}),
    ]
    started = world.deploy("1")
    calls = []
    for _ in range(6):
        world.work()
        calls.append(len([1 for _, event in world.platform.done if event == "Install"]))
        world.hasten()
    assert calls == [1, 2, 3, 4, 4, 4]
    assert world.status(started) == "Succeeded"
    with world.db.read() as session:
        assert session.scalars(select(DeploymentTarget.details)).one() == {"step": 2}


def test_a_stop_does_not_wait_for_what_was_to_go_on_later(world: World) -> None:
    world.configure(["a", "b"])
    world.platform.outcomes["a", "Install"] = [Later(36_000)]
    started = world.deploy("1")
    world.work()
    world.do(engine.stop, started)
    world.work()
    assert (world.status(started), world.targets(started)) == ("Stopped", {"a": "Failed", "b": "Succeeded"})
    assert world.platform.done == [("a", "Install"), ("b", "Install"), ("a", "undo")]


def test_what_broke_off_is_put_right_until_it_is(world: World) -> None:
    world.configure(["a"], loadBalancerInfo={"targetGroupInfoList": [{"name": "lb/web"}]})
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    world.platform.outcomes["a", "undo"] = [PlatformUnavailable("the router is away")] * 7
    started = world.deploy("1")
    for _ in range(9):
        world.work()
        world.hasten()
    assert world.status(started) == "Failed"
    assert world.platform.done[-8:] == [("a", "undo")] * 8
    assert world.told().count("deployment-target.left-out") == 1


@pytest.mark.long
def test_a_newer_deployment_there_makes_an_undo_needless(world: World) -> None:
    world.configure(["a"])
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    world.platform.outcomes["a", "undo"] = [PlatformUnavailable("the router is away")]
    world.deploy("1")
    world.work()
    world.deploy("2")
    world.work()
    world.hasten()
    world.work()
    assert world.platform.done.count(("a", "undo")) == 1
    assert world.installed() == {"a": ("2", True)}


def test_baking_watches_before_it_is_a_success(world: World) -> None:
    world.configure(["a"], bakeTimeInMinutes=10)
    started = world.deploy("1")
    world.work()
    assert world.status(started) == "Baking"
    world.advance(started, minutes=9)
    assert world.status(started) == "Baking"
    world.advance(started, minutes=1)
    assert world.status(started) == "Succeeded"


def test_zones_are_watched_by_due_jobs(world: World) -> None:
    world.configure([{"name": f"{zone}{number}", "zone": zone} for zone in "ab" for number in range(2)])
    zonal = {"monitorDurationInSeconds": 60, "firstZoneMonitorDurationInSeconds": 600}
    started = world.deploy("1", ("zonal", {"zonalConfig": zonal}))
    world.work()
    assert list(world.targets(started).values()) == ["Succeeded"] * 2 + ["Pending"] * 2
    world.advance(started, seconds=599)
    assert list(world.targets(started).values()) == ["Succeeded"] * 2 + ["Pending"] * 2
    world.advance(started, seconds=1)
    world.work()
    assert world.status(started) == "Succeeded"


# --- what is kept


def test_old_deployments_go_but_for_those_that_count(world: World) -> None:
    world.configure(["a", "b"], dummyEvents=["Install"])
    first = world.deploy("1")
    world.work()
    second = world.deploy("2", targets=["a"])
    third = world.deploy("3", targets=["a"])
    world.work()
    world.platform.outcomes["a", "Install"] = [failed("Install")]
    last = world.deploy("4", targets=["a"])
    world.work()
    assert world.status(last) == "Failed"
    with world.db.write() as session:
        assert care.forget_old(session, world.now + timedelta(days=1)) == 1
        assert care.forget_old(session, world.now + timedelta(days=1)) == 0
        left = set(session.scalars(select(Deployment.id)))
        assert not session.scalars(select(DeploymentTarget.id).where(DeploymentTarget.deployment_id == second)).all()
    # The first one is on b still, the third was the last good one, the last one was tried last.
    assert left == {first, third, last}
    assert hooks_care.check(world.db) == []


def test_fsck_sees_what_must_not_be(world: World) -> None:
    world.configure(["a"])
    started = world.deploy("1")
    with world.db.write() as session:
        session.execute(delete(Job))
        session.execute(update(Deployment).values(status="Succeeded"))
        session.execute(update(DeploymentTarget).values(status="Failed"))
    assert [fault for _, fault in hooks_care.check(world.db)] == [
        f"deployment {started} has a status and an end that disagree",
        f"a target of deployment {started} has ended, and an event of it has not",
        f"deployment {started} goes on, and no job looks at it",
    ]


# --- alarms


def test_an_alarm_stops_and_undoes(world: World) -> None:
    alarms = {"enabled": True, "alarms": [{"name": "errors"}]}
    world.configure(["a", "b"], alarmConfiguration=alarms, autoRollbackConfiguration=ALWAYS)
    world.alarm("errors", "OK")
    world.deploy("1")
    world.work()
    second = world.deploy("2", bakeTimeInMinutes=60)
    world.work()
    assert world.status(second) == "Baking"
    world.alarm("errors", "ALARM")
    world.hasten()
    world.work()
    stopped = world.deployment(second)
    assert (stopped.status, stopped.error_code) == ("Stopped", "ALARM_ACTIVE")
    # It still fires: what goes back is not stopped by it.
    assert world.status(stopped.rolled_back_by) == "Succeeded"
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}


def test_an_alarm_that_fires_from_the_start_lets_little_happen(world: World) -> None:
    alarms = {"enabled": True, "alarms": [{"name": "errors"}]}
    world.configure(["a", "b", "c"])
    world.alarm("errors", "ALARM")
    started = world.deploy("1", ONE, overrideAlarmConfiguration=alarms)
    world.work()
    assert (world.status(started), world.deployment(started).error_code) == ("Stopped", "ALARM_ACTIVE")
    assert world.targets(started)["c"] == "Skipped"


PROMETHEUS = {
    "name": "errors", "type": "PROMETHEUS", "url": "https://prometheus.example", "query": "errors",
    "comparisonOperator": "GreaterThanThreshold", "threshold": 1, "forSeconds": 30,
}  # fmt: skip


@pytest.mark.long
def test_a_measured_alarm_keeps_its_standing_between_polls(world: World) -> None:
    world.polls = [Measured((5.0,)), Measured((0.0,)), Measured((5.0,)), Measured((5.0,))]
    world.configure(["a"], alarmConfiguration={"enabled": True, "alarms": [PROMETHEUS]})
    started = world.deploy("1", bakeTimeInMinutes=60)
    statuses = []
    for _ in range(4):
        world.work()
        statuses.append(world.status(started))
        world.now += timedelta(seconds=30)
        world.hasten()
    assert statuses == ["Baking", "Baking", "Baking", "Stopped"]


@pytest.mark.long
def test_a_state_that_cannot_be_had_stops_unless_that_is_ignored(world: World) -> None:
    for ignores, ends in ((False, "Stopped"), (True, "Baking")):
        world.configure(
            ["a"],
            alarmConfiguration={"enabled": True, "ignorePollAlarmFailure": ignores, "alarms": [PROMETHEUS]},
        )
        started = world.deploy("1", bakeTimeInMinutes=60)
        for _ in range(4):
            world.work()
            world.hasten()
        assert world.status(started) == ends
