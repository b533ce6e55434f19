"""Deployments by real agents: enrolled, run without SQLAlchemy and Flask, killed, and left without their server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from config import wiring
from hooks.deployments import engine
from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.agent.systemd import unit
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.triggers.dispatch import dispatch
from tests.agent_bench import Crew, Middle, release
from tests.agent_kills import campaign
from tests.build_bench import eventually, host_processes
from tests.deploying import tree
from tests.harness.server import Server

SH = "#!/bin/sh\n"


def hooks(**events: str) -> str:
    return "hooks:\n" + "".join(f"  {event}:\n    - {{location: {script}}}\n" for event, script in events.items())


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    place = tmp_path_factory.mktemp("agents")
    server = Server(place / "data", with_worker=False, web_processes=1)
    server.start()
    made = Crew(server, place)
    done = made.enrol("web-1")
    assert done.returncode == 0, done.stderr
    made.run("web-1")
    yield made
    made.close()
    server.kill()


def test_the_key_is_made_on_the_machine_and_stays_there(crew: Crew) -> None:
    home = crew.home("web-1")
    for name in ("agent.key", "agent.json", "agent-memory.json"):
        assert eventually((home / name).exists)
        assert (home / name).stat().st_mode & 0o777 == 0o600
    again = crew.enrol("web-1", "whatever")
    assert again.returncode == 1
    assert "has enrolled" in again.stderr
    assert eventually(lambda: crew.agent("web-1")["state"] == "ONLINE")


def test_a_release_is_installed_in_place_and_the_next_one_replaces_it(crew: Crew, tmp_path: Path) -> None:
    app, marks = tmp_path / "app", tmp_path / "marks"
    group = crew.group("in-place", "web-1")
    note = f"{SH}echo $LIFECYCLE_EVENT of $APPLICATION_NAME >> {marks}; echo said by $LIFECYCLE_EVENT\n"
    events = hooks(ApplicationStop="note.sh", ApplicationStart="note.sh")
    first = crew.deploy(group, release(app, "one", hooks=events, files=4, note_sh=note))
    assert crew.ended(first) == "Succeeded", crew.log("web-1")
    assert tree(app)["3.txt"] == "one\n" * 4
    assert marks.read_text() == "ApplicationStart of shop\n"
    second = crew.deploy(group, release(app, "two", hooks=events, files=2, note_sh=note))
    assert crew.ended(second) == "Succeeded", crew.log("web-1")
    assert tree(app) == {"0.txt": "two\n", "1.txt": "two\n" * 2}
    assert marks.read_text().splitlines() == [
        "ApplicationStart of shop",
        "ApplicationStop of shop",
        "ApplicationStart of shop",
    ]
    found = crew.events(second)
    assert {event.status for event in found.values()} == {"Succeeded"}
    assert "[stdout]said by ApplicationStart" in crew.tail(found["ApplicationStart"])
    assert (found["BeforeInstall"].started_at, found["BeforeInstall"].status) != (None, "Pending")  # a no-op
    installed = crew.agent("web-1")["installations"]
    assert [(each["deploymentGroupId"], each["deploymentId"], each["isHealthy"]) for each in installed] == [
        (group, second, True)
    ]

    # What is really there is told: after the deployment, and again when somebody has changed it.
    assert eventually(lambda: crew.found(group, "web-1").get("files") == 2)
    assert crew.found(group, "web-1")["changedCount"] == 0
    (app / "0.txt").write_text("own\n")
    (app / "1.txt").unlink()
    told = json.loads(crew.server.command("agent", "status", "--data", str(crew.home("web-1")), "--json").stdout)
    assert told["running"] is True
    (drift,) = [each for each in told["installed"] if each["deploymentGroupId"] == group]
    assert (drift["changed"], drift["missing"]) == ([str(app / "0.txt")], [str(app / "1.txt")])


def test_a_script_that_fails_is_told_with_the_tail_of_its_log(crew: Crew, tmp_path: Path) -> None:
    group = crew.group("failing", "web-1")
    script = f"{SH}seq 1 3000\nprintf 'not\\000text\\n'\necho the last words >&2\nexit 3\n"
    done = crew.deploy(group, release(tmp_path / "app", "one", hooks=hooks(AfterInstall="bad.sh"), bad_sh=script))
    assert crew.ended(done) == "Failed"
    event = crew.events(done)["AfterInstall"]
    assert (event.status, event.error_code, event.agent_code, event.script) == ("Failed", "ScriptFailed", 4, "bad.sh")
    assert "failed with exit code 3" in event.message
    tail = crew.tail(event)
    assert len(tail.encode()) <= 2048
    assert "not\ufffdtext" in tail
    assert "[stderr]the last words" in tail
    assert crew.events(done)["ApplicationStart"].status == "Skipped"


def test_stop_ends_the_script_that_is_running(crew: Crew, tmp_path: Path) -> None:
    group = crew.group("stopped", "web-1")
    script = f"{SH}touch {tmp_path}/runs\nsleep 3217.5\n"
    done = crew.deploy(group, release(tmp_path / "app", "one", hooks=hooks(AfterInstall="long.sh"), long_sh=script))
    eventually((tmp_path / "runs").exists)
    crew.steer(engine.stop, done)
    assert crew.ended(done) == "Stopped"
    event = crew.events(done)["AfterInstall"]
    assert (event.status, "was stopped" in event.message) == ("Failed", True)
    eventually(lambda: not host_processes("sleep 3217.5"))


def test_groups_of_one_machine_run_side_by_side(crew: Crew, tmp_path: Path) -> None:
    pipes = [tmp_path / "a", tmp_path / "b"]
    for pipe in pipes:
        os.mkfifo(pipe)
    # Each waits for the other: one after the other they would wait for ever.
    scripts = [f"{SH}echo x > {pipes[0]}\nread y < {pipes[1]}\n", f"{SH}read y < {pipes[0]}\necho x > {pipes[1]}\n"]
    ids = []
    for number, script in enumerate(scripts):
        group = crew.group(f"beside-{number}", "web-1")
        bundle = release(tmp_path / f"app-{number}", "one", hooks=hooks(AfterInstall="meet.sh"), meet_sh=script)
        ids.append(crew.deploy(group, bundle))
    assert [crew.ended(each) for each in ids] == ["Succeeded", "Succeeded"]


def test_kill_9_and_a_server_that_is_away_leave_a_true_end(crew: Crew, tmp_path: Path) -> None:
    group, app = crew.group("killed", "web-1"), tmp_path / "app"
    marks = tmp_path / "marks"
    script = f"{SH}echo begun >> {marks}\nsleep 1\necho ended >> {marks}\n"
    done = crew.deploy(group, release(app, "one", hooks=hooks(AfterInstall="slow.sh"), slow_sh=script))
    eventually(marks.exists)
    crew.server.stop()  # while the script runs, and until after it
    eventually(lambda: "ended" in marks.read_text())
    journal = crew.home("web-1") / "deployments" / group / done / "journal"
    eventually(
        lambda: any('"AfterInstall"' in line and '"result"' in line for line in journal.read_text().splitlines())
    )
    crew.kill("web-1")  # what it knows of the end is in its journal alone
    crew.server.start()
    crew.run("web-1")
    assert crew.ended(done) == "Succeeded", crew.log("web-1")
    assert marks.read_text() == "begun\nended\n"  # once


def test_kills_leave_the_old_release_or_the_new_one(crew: Crew, tmp_path: Path) -> None:
    campaign(crew, "web-1", tmp_path, 1, seed=1)


@pytest.mark.long
def test_a_script_that_was_killed_with_its_agent_is_not_run_again(crew: Crew, tmp_path: Path) -> None:
    group, marks = crew.group("interrupted", "web-1"), tmp_path / "marks"
    script = f"{SH}echo begun >> {marks}\nsleep 4231.5\n"
    done = crew.deploy(group, release(tmp_path / "app", "one", hooks=hooks(AfterInstall="slow.sh"), slow_sh=script))
    eventually(marks.exists)
    crew.kill("web-1")
    eventually(lambda: not host_processes("sleep 4231.5"))
    crew.run("web-1")
    assert crew.ended(done) == "Failed"
    event = crew.events(done)["AfterInstall"]
    assert (event.agent_code, "was interrupted while slow.sh ran" in event.message) == (7, True)
    assert marks.read_text() == "begun\n"


@pytest.mark.long
def test_term_waits_for_the_event_and_goes_on_after_a_start(crew: Crew, tmp_path: Path) -> None:
    group, marks = crew.group("term", "web-1"), tmp_path / "marks"
    script = f"{SH}echo begun >> {marks}\nsleep 0.5\necho ended >> {marks}\n"
    events = hooks(AfterInstall="slow.sh", ApplicationStart="slow.sh")
    done = crew.deploy(group, release(tmp_path / "app", "one", hooks=events, slow_sh=script))
    eventually(marks.exists)
    process = crew.agents["web-1"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert marks.read_text() == "begun\nended\n"
    assert crew.status(done) == "InProgress"
    crew.run("web-1")
    assert crew.ended(done) == "Succeeded"
    assert marks.read_text() == "begun\nended\n" * 2


def test_guided_failure_does_the_event_once_more(crew: Crew, tmp_path: Path) -> None:
    group, good = crew.group("guided", "web-1"), tmp_path / "good"
    script = f"{SH}test -e {good}\n"
    bundle = release(tmp_path / "app", "one", hooks=hooks(AfterInstall="try.sh"), try_sh=script)
    done = crew.deploy(group, bundle, guidedFailure=True)
    eventually(lambda: crew.deployment(done).is_paused)
    good.touch()
    crew.steer(engine.answer_failure, done, "web-1", engine.Answer.RETRY)
    assert crew.ended(done) == "Succeeded", crew.log("web-1")


@pytest.fixture(scope="module")
def middle(crew: Crew) -> Iterator[Middle]:
    """Between the server and an agent that lets little."""
    made = Middle(crew.server)
    assert crew.enrol("strict", url=made.url).returncode == 0
    inside = crew.place / "inside"
    inside.mkdir()
    lets = f'destinations = ["{inside}"]\nscripts = false\nrevisions = ["Upload"]\n'
    (crew.home("strict") / "agent.toml").write_text(lets)
    crew.run("strict")
    yield made
    made.shutdown()


def test_what_the_machine_does_not_let_is_refused(crew: Crew, middle: Middle, tmp_path: Path) -> None:
    group, inside = crew.group("strict", "strict"), crew.place / "inside"
    good = crew.deploy(group, release(inside / "app", "one"))
    assert crew.ended(good) == "Succeeded", crew.log("strict")
    outside = crew.deploy(group, release(tmp_path / "outside", "two"))
    assert crew.ended(outside) == "Failed"
    assert "is not below" in crew.events(outside)["DownloadBundle"].message
    assert not (tmp_path / "outside").exists()
    script = {"hooks": hooks(AfterInstall="x.sh"), "x_sh": f"{SH}exit 0\n"}
    scripted = crew.deploy(group, release(inside / "app", "three", **script))
    assert crew.ended(scripted) == "Failed"
    assert "scripts are switched off here" in crew.events(scripted)["DownloadBundle"].message
    assert tree(inside / "app")["0.txt"] == "one\n"


def test_I2_what_somebody_in_between_changes_is_not_carried_out(crew: Crew, middle: Middle) -> None:
    group, app = crew.group("between", "strict"), crew.place / "inside" / "between"
    answers: list[bytes] = []

    def keep(path: str, body: bytes) -> bytes:
        if path.endswith("/poll") and b'"command":{' in body:
            answers.append(body)
        return release(app, "evil") if path.endswith("/bundle") else body

    middle.change = keep
    swapped = crew.deploy(group, release(app, "one"))
    assert crew.ended(swapped) == "Failed"
    event = crew.events(swapped)["DownloadBundle"]
    assert "it is not the one that the deployment names: its SHA-256 is" in event.message
    assert not app.exists()
    assert not (crew.home("strict") / "deployments" / group / swapped / "bundle").exists()

    middle.change = lambda path, body: answers[0] if path.endswith("/poll") else body  # one that was carried out
    eventually(lambda: "is not above the last one" in crew.log("strict"))
    forged = answers[-1].replace(b'"signature":"', b'"signature":"AAAA')[:-8] + answers[-1][-8:]
    middle.change = lambda path, body: forged if path.endswith("/poll") else body
    eventually(lambda: "a command is refused: its signature is not" in crew.log("strict"))
    middle.change = lambda _path, body: body
    done = crew.deploy(group, release(app, "two"))
    assert crew.ended(done) == "Succeeded", crew.log("strict")  # it lives


@pytest.mark.long
def test_a_revoked_agent_is_given_nothing_and_ends(crew: Crew, tmp_path: Path) -> None:
    assert crew.enrol("leaver").returncode == 0
    process = crew.run("leaver")
    eventually(lambda: crew.agent("leaver")["state"] == "ONLINE")
    group, marks = crew.group("leaver", "leaver"), tmp_path / "marks"
    script = f"{SH}echo begun >> {marks}\nsleep 5123.5\n"
    done = crew.deploy(group, release(tmp_path / "app", "one", hooks=hooks(AfterInstall="slow.sh"), slow_sh=script))
    eventually(marks.exists)
    crew.call("POST", "/agents/leaver/revoke")
    assert crew.ended(done) == "Failed"
    assert "was revoked" in crew.events(done)["AfterInstall"].message
    assert process.wait(30) == 1
    eventually(lambda: not host_processes("sleep 5123.5"))


PIPELINE = """name: shop
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: generic, Name: shop-web, SettleSeconds: "0"}
- name: Prod
  actions:
  - name: Ship
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}
    configuration: {ApplicationName: shop, DeploymentGroupName: shipped, Asset: "*.tgz"}
"""


def test_what_is_published_is_deployed_by_a_pipeline(crew: Crew, tmp_path: Path) -> None:
    crew.group("shipped", "web-1")
    crew.call("PUT", "/pipelines", json={"document": PIPELINE})
    bundle, login = release(tmp_path / "app", "one"), {"Authorization": f"Bearer {crew.token}"}
    place = f"{crew.server.url}/generic/default/dev/shop-web/1.0/shop.tgz"
    assert requests.put(place, data=bundle, headers=login, timeout=30).status_code == 201
    hooks_of = wiring.hook_services(crew.services, crew.settings)
    general = wiring.general_jobs(hooks_of.actions)

    def shown() -> dict[str, Any]:
        """What a worker would do now, and the execution after it."""
        dispatch(crew.db, crew.services.clock())
        with crew.db.write() as session:
            due = claims.claim(
                session, owner="w", queues=["default"], kinds=list(general.handlers), free=9, lease_seconds=60
            )
        for job in due:
            handler = general.handlers[job.kind]
            Attempt(crew.db, job, handler=handler, settle=None, lease_seconds=60, first_retry_seconds=60).run()
        found = crew.call("GET", "/pipelines/shop/executions")["items"]
        return dict(crew.call("GET", f"/executions/{found[0]['id']}")) if found else {}

    # The agent's last report reaches the server's process, which has no worker: what that wrote lets the pipeline go on.
    eventually(lambda: shown().get("endedAt") is not None, "the pipeline does not end")
    ship = shown()["stages"][1]["actions"][0]
    assert ship["status"] == "Succeeded", (ship, crew.log("web-1"))
    told = crew.call("GET", f"/deployments/{ship['deploymentId']}")
    assert told["revision"]["package"]["sha256"] == hashlib.sha256(bundle).hexdigest()
    assert told["initiator"] == "codepipeline/shop"
    assert tree(tmp_path / "app")["0.txt"] == "one\n"


@pytest.mark.long
def test_a_full_disk_fails_the_event_and_not_the_agent(crew: Crew, tmp_path: Path) -> None:
    assert crew.enrol("small").returncode == 0
    crew.run("small", prefix=("prlimit", f"--fsize={256 * 1024}"))
    group = crew.group("small", "small")
    big = crew.deploy(group, release(tmp_path / "app", "one", big=os.urandom(400_000).hex()))
    assert crew.ended(big) == "Failed"
    assert "File too large" in crew.events(big)["DownloadBundle"].message
    done = crew.deploy(group, release(tmp_path / "app", "two"))
    assert crew.ended(done) == "Succeeded", crew.log("small")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(crew: Crew, tmp_path: Path) -> None:
    place = tmp_path / "entrepot-agent.service"
    lets = AgentSettings(destinations=("/srv/a place with 100 %",), scripts=False)
    printed = crew.server.command("agent", "systemd-unit", "--data", str(crew.home("web-1"))).stdout
    for text in (printed, unit([sys.executable], crew.home("web-1"), "bin", lets)):
        place.write_text(text)
        checked = subprocess.run(["systemd-analyze", "verify", str(place)], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), text
