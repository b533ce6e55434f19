"""Deployments from their start to their end, on both databases: real rows, real queue; the platform has no machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hooks.deployments.outcomes import EventStatus
from hooks.deployments.platforms.dummy import failed
from tests.fakes.deployments import HALF, ONE, World, new_world, wipe
from tests.job_bench import BACKENDS


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(request.param, tmp_path_factory.mktemp("deployments")) as world:
        yield world


@pytest.fixture
def world(database: World) -> World:
    wipe(database)
    return database


def test_one_after_the_other_to_the_end(world: World) -> None:
    world.configure(["a", "b", "c"])
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
    world.configure([{"name": "web-1", "agent": agent}])
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
    world.configure(["a", "b"], autoRollbackConfiguration=rolls)
    good = world.deploy("1")
    world.work()
    world.platform.outcomes["a", "ValidateService"] = [failed("ValidateService")]
    bad = world.deploy("2", HALF)
    world.work()
    assert world.status(bad) == "Failed"
    undoing = world.deployment(world.deployment(bad).rolled_back_by)
    assert (undoing.creator, undoing.rollback_of, undoing.status) == ("codeDeployRollback", bad, "Succeeded")
    assert world.installed() == {"a": ("1", True), "b": ("1", True)}
    assert good
