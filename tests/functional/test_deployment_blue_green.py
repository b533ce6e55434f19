"""Blue/green deployments of machines, by rows: who serves at which moment, what waits, and how it goes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from hooks.deployments import board, engine, views
from hooks.deployments.ending import last_good
from hooks.deployments.platform import Later, Remains
from hooks.deployments.platforms.dummy import failed
from hooks.models.deployment import DeploymentInstallation
from registry.errors import Conflict
from tests.fakes.deployments import ALL_AT_ONCE, HALF, World, new_world, wipe

GREEN = [{"name": name, "fleet": "Green"} for name in ("g1", "g2")]
BLUE = [{"name": name, "fleet": "Blue"} for name in ("b1", "b2")]
ALWAYS = {"enabled": True, "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_REQUEST"]}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world("sqlite", tmp_path_factory.mktemp("blue-green")) as world:
        yield world


@pytest.fixture
def world(database: World) -> World:
    wipe(database)
    return database


def configure(world: World, *, ready: int | None = None, ends: dict[str, Any] | None = None, **more: Any) -> None:
    """A group with an earlier success in place, and two machines beside its two."""
    world.configure(["b1", "b2"], dummyEvents=["Install"])
    world.deploy("1")
    world.work()
    option = {"actionOnTimeout": "CONTINUE_DEPLOYMENT"}
    if ready is not None:
        option = {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": ready}
    blue_green = {
        "deploymentReadyOption": option,
        "terminateBlueInstancesOnDeploymentSuccess": ends or {"action": "TERMINATE"},
    }
    style = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
    events = ["Install", "AllowTraffic", "BlockTraffic"]
    world.configure(
        [*GREEN, *BLUE], dummyEvents=events, deploymentStyle=style, blueGreenDeploymentConfiguration=blue_green, **more
    )
    world.platform.done.clear()


def order(world: World, *events: str) -> list[str]:
    return [f"{target} {event}" for target, event in world.platform.done if event in events]


def test_replacements_first_then_traffic_then_the_originals_go(world: World) -> None:
    configure(world)
    started = world.deploy("2")
    assert world.targets(started) == {"b1": "Pending", "b2": "Pending", "g1": "InProgress", "g2": "InProgress"}
    world.work()
    assert set(world.targets(started).values()) == {"Succeeded"}
    assert world.status(started) == "Succeeded"
    assert order(world, "Install", "AllowTraffic", "BlockTraffic", "TerminateOriginal") == [
        "g1 Install", "g2 Install", "g1 AllowTraffic", "g2 AllowTraffic", "b1 BlockTraffic", "b2 BlockTraffic",
        "b1 TerminateOriginal", "b2 TerminateOriginal",
    ]  # fmt: skip
    assert world.installed() == {"b1": ("1", True), "b2": ("1", True), "g1": ("2", True), "g2": ("2", True)}
    assert world.told().count("deployment-target.ready") == 4


def test_it_waits_for_somebody_before_and_after(world: World) -> None:
    configure(world, ready=30, ends={"action": "TERMINATE", "terminationWaitTimeInMinutes": 60})
    started = world.deploy("2")
    world.work()
    assert (world.status(started), order(world, "AllowTraffic")) == ("Ready", [])
    assert "deployment.ready" in world.told()
    with pytest.raises(Conflict, match="TERMINATION_WAIT"):
        world.do_continue(started, engine.WaitType.TERMINATION)
    world.do_continue(started, engine.WaitType.READY)
    world.work()
    assert (world.status(started), order(world, "TerminateOriginal")) == ("Baking", [])
    assert order(world, "BlockTraffic") == ["b1 BlockTraffic", "b2 BlockTraffic"]
    world.advance(started, minutes=59)
    assert world.status(started) == "Baking"
    world.do_continue(started, engine.WaitType.TERMINATION)
    world.work()
    assert world.status(started) == "Succeeded"


@pytest.mark.long
def test_waits_end_by_themselves(world: World) -> None:
    configure(world, ends={"action": "TERMINATE", "terminationWaitTimeInMinutes": 60})
    started = world.deploy("2")
    world.work()
    world.advance(started, minutes=60)
    world.work()
    assert world.status(started) == "Succeeded"


@pytest.mark.long
def test_nobody_lets_it_go_on_in_time(world: World) -> None:
    configure(world, ready=30)
    started = world.deploy("2")
    world.work()
    world.advance(started, minutes=30)
    world.work()
    assert world.status(started) == "Stopped"
    assert order(world, "AllowTraffic", "BlockTraffic") == []
    # What a replacement may have of the traffic is taken from it.
    assert order(world, "undo") == ["g1 undo", "g2 undo"]


@pytest.mark.long
def test_originals_may_be_kept(world: World) -> None:
    configure(world, ends={"action": "KEEP_ALIVE", "terminationWaitTimeInMinutes": 60})
    started = world.deploy("2")
    world.work()
    assert (world.status(started), order(world, "TerminateOriginal")) == ("Succeeded", [])
    assert world.events(started, "b1")["TerminateOriginal"] == "Skipped"


@pytest.mark.long
def test_the_minimum_is_of_the_replacements(world: World) -> None:
    configure(world)
    world.platform.outcomes["g1", "Install"] = [failed("Install")]
    half = world.deploy("2", HALF)
    world.work()
    assert world.status(half) == "Failed"
    assert world.targets(half) == {"b1": "Skipped", "b2": "Skipped", "g1": "Failed", "g2": "Skipped"}


def test_a_replacement_that_gets_no_traffic_counts(world: World) -> None:
    configure(world, autoRollbackConfiguration=ALWAYS)
    for name in ("g1", "g2"):
        world.platform.outcomes[name, "AllowTraffic"] = [failed("AllowTraffic")]
    started = world.deployment(world.deploy("2", ALL_AT_ONCE))
    world.work()
    ended = world.deployment(started.id)
    assert (ended.status, ended.rolled_back_by) == ("Failed", None)
    assert "stays with the original" in ended.rollback_message
    assert order(world, "BlockTraffic") == []
    assert order(world, "undo") == ["g1 undo", "g2 undo"]


def test_an_original_that_cannot_be_taken_out_fails_it_and_all_is_put_back(world: World) -> None:
    configure(world)
    world.platform.outcomes["b2", "BlockTraffic"] = [failed("BlockTraffic")]
    started = world.deploy("2")
    world.work()
    ended = world.deployment(started)
    assert (ended.status, ended.error_code) == ("Failed", "HEALTH_CONSTRAINTS")
    assert "b2: BlockTraffic failed" in ended.error_message
    assert sorted(order(world, "undo")) == ["b1 undo", "b2 undo", "g1 undo", "g2 undo"]


def test_going_back_while_the_originals_are_there_changes_sides_again(world: World) -> None:
    configure(world, ends={"action": "TERMINATE", "terminationWaitTimeInMinutes": 60}, autoRollbackConfiguration=ALWAYS)
    started = world.deploy("2")
    world.work()
    world.platform.done.clear()
    world.do(engine.stop, started)
    assert world.status(started) == "Stopped"
    world.work()
    undoing = world.deployment(world.deployment(started).rolled_back_by)
    assert (undoing.status, undoing.creator) == ("Succeeded", "codeDeployRollback")
    assert order(world, "AllowTraffic", "BlockTraffic", "Install", "undo") == [
        "b1 AllowTraffic", "b2 AllowTraffic", "g1 BlockTraffic", "g2 BlockTraffic",
    ]  # fmt: skip
    assert world.targets(undoing.id) == {"b1": "Succeeded", "b2": "Succeeded", "g1": "Succeeded", "g2": "Succeeded"}


def test_machines_change_places_once_and_only_for_the_newest(world: World) -> None:
    configure(world, ends={"action": "KEEP_ALIVE"})
    first, second = world.deploy("2"), world.deploy("3")
    world.work()
    with pytest.raises(Conflict, match=f"deployment {second} has moved traffic since"):
        world.do(engine.rollback, first)
    world.platform.outcomes |= {(name, "Install"): [failed("Install")] for name in ("g1", "g2")}
    third = world.deploy("4")
    world.work()
    with pytest.raises(Conflict, match="has moved no traffic"):
        world.do(engine.rollback, third)
    undoing = world.do(engine.rollback, second).id
    world.work()
    assert world.status(undoing) == "Succeeded"
    with pytest.raises(Conflict, match="is a rollback itself"):
        world.do(engine.rollback, undoing)


def test_what_has_no_sides_is_given_back_and_is_not_installed_any_more(world: World) -> None:
    """As services in containers are: one target, which platforms put right themselves."""
    world.configure(["shop"], dummyEvents=["Install"])
    good = world.deploy("1")
    world.work()
    style = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
    world.configure(["shop"], dummyEvents=["Install", "AllowTraffic"], deploymentStyle=style, bakeTimeInMinutes=60)
    second = world.deploy("2")
    world.work()
    assert (world.status(second), world.installed()) == ("Baking", {"shop": ("2", True)})
    world.do(engine.stop, second)
    world.work()
    assert world.platform.done[-1] == ("shop", "undo")
    assert world.installed() == {"shop": ("1", True)}
    with world.db.read() as session:
        assert session.scalars(select(DeploymentInstallation.deployment_id)).one() == good


@pytest.mark.long
def test_a_failed_replacement_can_be_left_behind(world: World) -> None:
    configure(world)
    world.platform.outcomes["g1", "Install"] = [failed("Install")]
    started = world.deploy("2", ALL_AT_ONCE)
    world.work()
    assert world.status(started) == "Succeeded"
    assert world.targets(started) == {"b1": "Succeeded", "b2": "Succeeded", "g1": "Failed", "g2": "Succeeded"}
    assert order(world, "AllowTraffic") == ["g2 AllowTraffic"]


def test_the_very_first_one_is_rolled_back_to_what_the_originals_have(world: World) -> None:
    """Nobody has deployed to the originals by this server: they serve what they have, and do so again."""
    style = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
    kept = {"terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE", "terminationWaitTimeInMinutes": 60}}
    world.configure(
        [*GREEN, *BLUE],
        deploymentStyle=style,
        blueGreenDeploymentConfiguration=kept,
        autoRollbackConfiguration=ALWAYS,
        healthChecks=[{"name": "up", "type": "TCP"}],
    )
    first = world.deploy("1")
    world.work()
    world.platform.outcomes["g1", "MonitorHealth"] = [failed("MonitorHealth")]
    world.platform.done.clear()
    world.hasten()
    world.work()
    ended = world.deployment(first)
    assert (ended.status, ended.previous_revision) == ("Failed", None)
    assert order(world, "AllowTraffic", "BlockTraffic") == [
        "b1 AllowTraffic", "b2 AllowTraffic", "g1 BlockTraffic", "g2 BlockTraffic",
    ]  # fmt: skip
    undoing = world.deployment(ended.rolled_back_by)
    assert undoing.status == "Succeeded"
    assert world.group().last_successful_id == undoing.id  # by which the platform knows who serves
    brought = board.recent_revisions([undoing, ended], {world.group_id: "web"})
    assert [(each.deployment_id, each.groups) for each in brought] == [(first, ())], "it is not good by being undone"
    # What failed is not what comes next by itself, nor what the next one goes back to.
    with world.db.read() as session:
        assert last_good(session, world.group()) is None
        assert views.detail(session, undoing).revision_label == "what the originals have"
    second = world.deploy("2")
    world.work()
    world.do_continue(second, engine.WaitType.TERMINATION)
    world.work()
    assert (world.status(second), world.deployment(second).previous_revision) == ("Succeeded", None)
    by_hand = world.do(engine.rollback, second).id
    world.work()
    assert world.status(by_hand) == "Succeeded"


def test_the_record_says_what_is_there_when_the_original_could_not_come_back(world: World) -> None:
    style = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
    world.configure(["shop"], dummyEvents=["Install"])
    world.deploy("1")
    world.work()
    world.configure(["shop"], dummyEvents=["Install", "AllowTraffic"], deploymentStyle=style, bakeTimeInMinutes=60)
    for remains, expected in ((Remains.NEW, {"shop": ("2", True)}), (Remains.NOTHING, {})):
        started = world.deploy("2")
        world.work()
        world.platform.outcomes["shop", "undo"] = [Later(1), remains]
        world.do(engine.stop, started)
        world.work()
        world.hasten()
        world.work()
        assert world.installed() == expected
    # One that has not come to install anything finds that nothing is there, either.
    world.configure(["shop"], dummyEvents=["Install"])
    world.deploy("1")
    world.work()
    world.configure(["shop"], dummyEvents=["Install"], deploymentStyle=style)
    world.platform.outcomes |= {("shop", "Install"): [failed("Install")], ("shop", "undo"): [Remains.NOTHING]}
    world.deploy("3")
    world.work()
    assert world.installed() == {}
