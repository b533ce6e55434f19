"""Checks that are commands: made by a real agent on its own machine, where that machine lets it, after the start and on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hooks.deployments import jobs
from hooks.deployments.health.checks import as_json, read_checks
from hooks.deployments.platforms import server as server_platform
from hooks.deployments.signed_commands import CommandRefused
from hooks.deployments.targets import QUEUE
from hooks.jobs.worker import Worker
from registry.models import AuditEntry
from tests.agent_bench import Crew, release
from tests.build_bench import eventually, host_processes
from tests.harness.server import Server
from tests.unit.deployments.test_signed_commands import COMMAND

SH = "#!/bin/sh\n"


def check(name: str, **more: Any) -> dict[str, Any]:
    usual = {"type": "COMMAND", "intervalSeconds": 1, "healthyThresholdCount": 1, "unhealthyThresholdCount": 2}
    return {"name": name, **usual, **more}


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    place = tmp_path_factory.mktemp("checks")
    server = Server(place / "data", with_worker=False, web_processes=1)
    server.start()
    made = Crew(server, place)
    assert made.enrol("web-1").returncode == 0
    made.run("web-1")
    yield made
    made.close()
    server.kill()


@pytest.fixture(scope="module")
def letting(crew: Crew) -> Crew:
    """Its machine lets checks be commands from now on."""
    crew.kill("web-1")
    (crew.home("web-1") / "agent.toml").write_text("check_commands = true\n")
    crew.run("web-1")
    return crew


def test_a_machine_makes_no_command_of_a_group_unless_it_says_so(crew: Crew, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    group = crew.group("not-let", "web-1", healthChecks=[check("c", command=["touch", str(marks)])])
    done = crew.deploy(group, release(tmp_path / "app", "one"))
    assert crew.ended(done) == "Failed", crew.log("web-1")
    event = crew.events(done)["CheckCommands"]
    assert (event.status, "check_commands in agent.toml" in event.message) == ("Failed", True)
    assert not marks.exists()


def test_commands_decide_and_what_they_say_is_in_the_record(letting: Crew, tmp_path: Path) -> None:
    crew, flag = letting, tmp_path / "flag"
    checks = [
        check("flag", command=["CMD-SHELL", f"echo looked for $DEPLOYMENT_ID; test -e {flag} || exit 7"]),
        check("plain", command=["CMD", "test", "-d", str(tmp_path)], healthyThresholdCount=3),
        check("script", location="is-up.sh"),
    ]
    group = crew.group("checked", "web-1", healthChecks=checks)
    up = f"{SH}echo script of the bundle; sleep 6317.5 >/dev/null 2>&1 </dev/null &\n"
    bundle = release(tmp_path / "app", "one", **{"is-up_sh": up})
    bad = crew.deploy(group, bundle)
    assert crew.ended(bad) == "Failed", crew.log("web-1")
    event = crew.events(bad)["CheckCommands"]
    assert (event.error_code, event.script, event.message) == ("ScriptFailed", "flag", "flag: exit code 7")
    assert "flag: exit code 7" in crew.deployment(bad).error_message
    assert crew.tail(event).count(f"[stdout]looked for {bad}") == 2
    flag.touch()
    good = crew.deploy(group, bundle)
    assert crew.ended(good) == "Succeeded", crew.log("web-1")
    tail = crew.tail(crew.events(good)["CheckCommands"])
    assert tail.count("Check - plain: passed") == 3
    assert "script of the bundle" in tail
    assert eventually(lambda: not host_processes("sleep 6317.5"))  # what a check starts ends with it


@pytest.mark.long
def test_a_check_that_takes_too_long_and_one_that_is_not_there_have_not_passed(letting: Crew, tmp_path: Path) -> None:
    crew = letting
    for name, more, told in (
        ("slow", {"command": ["sleep", "7213.5"], "timeoutSeconds": 1}, "failed to complete in 1 seconds"),
        ("gone", {"location": "gone.sh"}, "does not exist"),
        ("other", {"command": ["true"], "runas": "nobody"}, "not on this machine's list"),
    ):
        group = crew.group(f"wrong-{name}", "web-1", healthChecks=[check(name, **more, unhealthyThresholdCount=1)])
        done = crew.deploy(group, release(tmp_path / name, "one"))
        assert crew.ended(done) == "Failed", crew.log("web-1")
        assert told in crew.events(done)["CheckCommands"].message
    assert not host_processes("sleep 7213.5")


def test_while_it_bakes_the_agent_asks_on_and_what_is_unwell_then_is_rolled_back(
    letting: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, flag = letting, tmp_path / "flag"
    flag.touch()
    undone = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
    checks = [check("flag", command=["test", "-e", str(flag)])]
    group = crew.group("baking", "web-1", healthChecks=checks, autoRollbackConfiguration=undone)
    first = crew.deploy(group, release(tmp_path / "app", "one"))
    assert crew.ended(first) == "Succeeded", crew.log("web-1")
    monkeypatch.setattr(server_platform, "_COMMANDS_PAUSE_SECONDS", 0.2)
    worker = Worker(crew.db, jobs.handlers(crew.parts), slots=1, queues=(QUEUE,), poll_seconds=0.1, name="bakes")
    worker.start()
    try:
        second = crew.deploy(group, release(tmp_path / "app", "two"), bakeTimeInMinutes=60)
        assert eventually(lambda: "passed" in crew.tail(crew.events(second)["MonitorHealth"]))
        assert crew.status(second) == "Baking"
        flag.unlink()
        assert crew.ended(second) == "Failed", crew.log("web-1")
        flag.touch()
        ended = crew.deployment(second)
        assert ended.error_code == "CUSTOMER_APPLICATION_UNHEALTHY"
        assert "MonitorHealth failed (ScriptFailed): flag: exit code 1" in ended.error_message
        assert crew.ended(ended.rolled_back_by) == "Succeeded"
        assert (tmp_path / "app" / "0.txt").read_text() == "one\n"
    finally:
        worker.drain(0)
    with crew.db.read() as session:
        told = session.scalars(select(AuditEntry.details).where(AuditEntry.action == "agent.event")).all()
    ends = [each["status"] for each in told if (each["deployment"], each["event"]) == (second, "MonitorHealth")]
    assert ends == ["Failed"], "a turn that went well is no end"


def test_an_agent_that_knows_no_checks_refuses_the_command_rather_than_pass_over_them() -> None:
    checks = tuple(map(as_json, read_checks([check("c", command=["true"])])))
    made = replace(COMMAND, event="CheckCommands", checks=checks)
    assert type(made).of_payload(made.payload()) == made
    assert b'"version":2' in made.payload()
    with pytest.raises(CommandRefused, match="none of its events"):
        type(made).of_payload(made.payload().replace(b'"version":2', b'"version":1'))
