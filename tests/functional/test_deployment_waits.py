"""Events that a platform has go on later: they may take longer than others, and end with a stop."""

from __future__ import annotations

from pathlib import Path

from hooks.deployments import engine
from hooks.deployments.platform import Later
from tests.fakes.deployments import new_world


def test_an_event_that_goes_on_later_outlives_the_hour_as_long_as_somebody_looks_at_it(tmp_path: Path) -> None:
    with new_world("sqlite", tmp_path) as world:
        world.configure(["a"])
        world.platform.outcomes["a", "Install"] = [Later(1200, {"step": step}) for step in range(8)]
        deployment = world.deploy("1")
        for _ in range(8):
            world.work()
            assert world.advance(deployment, seconds=1201).status == "InProgress"
            world.hasten()
        world.work()
        assert world.status(deployment) == "Succeeded"

        world.platform.outcomes["a", "Install"] = [Later(1200)]
        forgotten = world.deploy("2")
        world.work()
        assert world.advance(forgotten, seconds=3700).status == "Failed"


def test_a_stop_ends_an_event_that_was_to_go_on_later(tmp_path: Path) -> None:
    with new_world("sqlite", tmp_path) as world:
        world.configure(["a"])
        world.platform.outcomes["a", "Install"] = [Later(300)]
        deployment = world.deploy("1")
        world.work()
        world.do(engine.stop, deployment)
        assert world.status(deployment) == "InProgress"
        world.hasten()
        world.work()
        assert world.status(deployment) == "Stopped"
        assert ("a", "undo") in world.platform.done
        assert world.events(deployment, "a")["Install"] == "Failed"
