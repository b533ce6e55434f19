"""``entrepot deploy`` against a real server: gunicorn in its own process, its machines played by this test."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click import Command
from click.testing import CliRunner, Result
from rich.console import Console
from sqlalchemy import select

from config import wiring
from config.cli.client import agent as agent_command
from config.cli.client import deploy
from config.settings import load
from hooks.commands.deploy_watch import drawn
from hooks.deployments import engine
from hooks.deployments.outcomes import EventStatus
from hooks.models.deployment import Deployment
from registry.clock import system_clock
from tests.functional.test_deployments_api import machine, step
from tests.harness.server import Server

GROUP = """\
applicationName: shop
deploymentGroupName: prod
deploymentConfigName: CodeDeployDefault.AllAtOnce
ec2TagFilters: [{Key: role, Value: web}]
serviceRoleArn: arn:aws:iam::1:role/x
"""


class Site:
    """A running server without a worker, and this process's own view of its database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "data", with_worker=False)
        self.server.start()
        self.admin = self.server.token()
        settings = load(self.server.data, {})
        services = wiring.services(settings)
        self.db, self.hooks = services.db, wiring.hook_services(services, settings)
        self.bundle = folder / "bundle"
        (self.bundle / ".git").mkdir(parents=True)
        (self.bundle / "appspec.yml").write_text("version: 0.0\nos: linux\nfiles: [{source: /, destination: /opt/x}]\n")
        (self.bundle / "one.txt").write_text("1")
        (self.bundle / "link").symlink_to("one.txt")
        with self.db.write() as session:
            session.add_all(machine(name, "web", system_clock()) for name in ("web-1", "web-2"))
        (folder / "prod.yml").write_text(GROUP)
        self.run("app", "create", "shop")
        applied = self.run("group", "apply", str(folder / "prod.yml"))
        assert applied.stdout == "shop/prod\tcreated\n"
        assert "warning: serviceRoleArn" in applied.stderr

    def run(self, *words: str, status: int = 0, stdin: str | None = None, command: Command = deploy) -> Result:
        settings = {"ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": self.admin}
        done = CliRunner(env=settings).invoke(command, list(words), input=stdin)
        assert done.exit_code == status, (words, done.output, done.exception)
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def machines(self, fails: str = "") -> threading.Thread:
        """Let the machines do what comes, until a deployment that goes on has ended; ``fails`` is what fails on web-2."""
        world: Any = SimpleNamespace(db=self.db, hooks=self.hooks, now=system_clock())
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(0.05):
                with self.db.write() as session:
                    running = select(Deployment.id).where(Deployment.completed_at.is_(None))
                    for deployment_id in session.scalars(running).all():
                        engine.advance(session, self.hooks.deployments, deployment_id, system_clock())
                for agent in ("web-1", "web-2"):
                    with self.db.read() as session:
                        coming = engine.next_for_agent(session, agent, system_clock())
                    if coming is not None:
                        is_bad = agent == "web-2" and coming[2].name == fails
                        step(world, agent, EventStatus.FAILED if is_bad else EventStatus.SUCCEEDED)

        thread = threading.Thread(target=work, daemon=True)
        thread.stop = stop.set  # type: ignore[attr-defined]
        thread.start()
        return thread

    def while_machines_work(self, *words: str, status: int = 0, fails: str = "") -> Result:
        thread = self.machines(fails)
        try:
            return self.run(*words, status=status)
        finally:
            thread.stop()  # type: ignore[attr-defined]
            thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.server.kill()


def test_a_directory_is_deployed_watched_and_what_is_where_is_told(site: Site) -> None:
    done = site.while_machines_work("create", "shop", "prod", "--bundle", str(site.bundle), "--watch")
    deployment = done.stdout.strip()
    assert deployment.startswith("d-")
    assert "sending 2 file(s)" in done.stderr
    assert "web-1: Install: Succeeded" in done.stderr
    assert f"deployment {deployment}: Succeeded (2 of 2 targets)" in done.stderr
    assert [line.split("\t")[0] for line in site.run("targets", "shop", "prod").stdout.splitlines()] == [
        "web-1",
        "web-2",
    ]
    assert deployment in site.run("list", "--application", "shop", "--status", "Succeeded").stdout
    shown = site.run("status", deployment)
    assert "revision\tupload" in shown.stdout
    assert "ValidateService Succeeded" in shown.stdout
    assert len(site.json("status", deployment)["targets"]) == 2
    planned = site.run("diff", "shop", "prod")
    assert [line.split("\t")[4] for line in planned.stdout.splitlines()] == ["no", "no"], "they have that revision"


def test_the_exit_status_is_the_deployment_s_and_what_failed_is_done_again(site: Site) -> None:
    done = site.while_machines_work(
        "create", "shop", "prod", "--bundle", str(site.bundle), "--target", "web-2", "--wait", status=1, fails="Install"
    )
    assert "web-2: Install: Failed (ScriptFailed: stop.sh: it broke)" in done.stderr
    deployment = done.stdout.strip()
    assert f"deployment {deployment}: Failed" in done.stderr
    site.while_machines_work("status", deployment, "--wait", status=1)
    again = site.while_machines_work("retry", deployment, "--skip", "ApplicationStop", "--wait")
    assert "web-2: ApplicationStop: Skipped" in again.stderr
    first = site.json("list", "--application", "shop", "--status", "Succeeded")[-1]["deploymentId"]
    assert first not in {deployment, again.stdout.strip()}
    back = site.while_machines_work("rollback", again.stdout.strip(), "--wait")
    assert site.json("status", back.stdout.strip())["creator"] == "codeDeployRollback"


def test_steering_by_names(site: Site) -> None:
    upload = site.run("push", "shop", str(site.bundle)).stdout.strip()
    made = site.run("create", "shop", "prod", "--upload", upload, "--guided-failure").stdout.strip()
    site.run("pause", made)
    assert site.json("status", made)["isPaused"]
    site.run("resume", made)
    site.run("skip", made, "web-1", "ApplicationStop")
    site.run("skip", made, "nobody", "ApplicationStop", status=1)
    assert site.json("status", made)["targets"][0]["lifecycleEvents"][0]["status"] == "Skipped"
    site.run("answer", made, "web-1", "retry", status=1)  # it has not failed
    site.run("continue", made, status=1)  # it waits for nothing
    stopped = site.while_machines_work("stop", made, "--no-rollback", "--wait")
    assert "MANUAL_STOP" in stopped.stderr


def test_other_machines_take_over_this_time(site: Site) -> None:
    upload = site.run("push", "shop", str(site.bundle)).stdout.strip()
    options = (
        "--upload",
        upload,
        "--replacement-tag",
        "role=web",
        "--replacement-tag",
        "spare",
        "--replacement",
        "web-2",
    )
    found = site.json("diff", "shop", "prod", *options)
    assert [each["name"] for each in found["items"]] == ["web-1", "web-2"]
    assert [
        each["name"]
        for each in site.json("diff", "shop", "prod", "--upload", upload, "--replacement", "web-2")["items"]
    ] == ["web-2"]
    site.run("diff", "shop", "prod", "--upload", upload, "--replacement-tag", "=x", status=2)


def test_alarms_and_agents_by_the_names_that_people_know(site: Site) -> None:
    site.run("alarm", "tell", "pager", "ALARM", "--reason", "too many errors")
    assert "pager\tALARM\ttoo many errors\tadmin" in site.run("alarm", "list").stdout
    site.run("alarm", "tell", "pager", "LOUD", status=2)
    site.run("alarm", "tell", "pager", "OK")
    site.run("alarm", "delete", "pager")
    site.run("alarm", "delete", "pager", status=1)
    assert site.json("alarm", "list") == []
    made = site.while_machines_work("create", "shop", "prod", "--bundle", str(site.bundle), "--wait").stdout.strip()
    assert f"shop/prod: {made}" in site.run("list", command=agent_command).stdout


def test_a_request_in_a_file_and_wrong_use(site: Site) -> None:
    text = """\
{"applicationName": "shop", "deploymentGroupName": "prod", "description": "by file", "targets": ["nobody"],
 "revision": {"revisionType": "BuildArtifact", "buildArtifact": {"buildId": "no-such-build"}}}"""
    assert "no-such-build" in site.run("create", "--document", "-", status=1, stdin=text).stderr
    assert "line 1" in site.run("create", "--document", "-", status=1, stdin="{}").stderr
    site.run("create", status=2)
    site.run("create", "shop", "prod", "--build", "b", "--upload", "u", status=2)
    site.run("create", "shop", "prod", "--asset", "a", status=2)
    site.run("create", "shop", "prod", "--package", "no-version", "--repository", "dev", status=2)
    site.run("create", "shop", "prod", "--package", "a@1", status=2)
    site.run("create", "shop", "nowhere", "--upload", "0" * 36, status=1)


def test_applications_groups_and_configurations(site: Site) -> None:
    site.run("app", "create", "till", "--domain", "default")
    assert "till\tdefault\tServer" in site.run("app", "list").stdout
    document = site.run("group", "show", "shop", "prod").stdout
    site.run("group", "apply", "-", "--application", "till", "--name", "beta", stdin=document)
    site.run("group", "apply", "-", status=2, stdin=document)
    assert "line 1: nonsense is unknown" in site.run("group", "apply", "-", status=1, stdin="nonsense: 1").stderr
    assert "beta\tCodeDeployDefault.AllAtOnce" in site.run("group", "list", "till").stdout
    site.run("group", "delete", "till", "beta")
    site.run("app", "rename", "till", "desk")
    assert site.json("app", "show", "desk")["deploymentGroups"] == []
    site.run("app", "delete", "desk")
    config = site.run("config", "show", "CodeDeployDefault.HalfAtATime").stdout
    assert json.loads(config)["minimumHealthyHosts"] == {"type": "FLEET_PERCENT", "value": 50}
    site.run(
        "config", "create", "-", stdin="deploymentConfigName: one\nminimumHealthyHosts: {type: HOST_COUNT, value: 1}"
    )
    assert "one\tServer\tadmin" in site.run("config", "list").stdout
    site.run("config", "delete", "one")


def test_the_table_shows_targets_their_last_events_and_why_one_failed() -> None:
    events = [
        {"lifecycleEventName": name, "status": status, "diagnostics": None}
        for name, status in (("DownloadBundle", "Succeeded"), ("Install", "Failed"), ("AfterInstall", "Pending"))
    ]
    events[1]["diagnostics"] = {"errorCode": "ScriptFailed", "scriptName": "a.sh", "message": "no\x1b[31m disk"}
    deployment = {"applicationName": "shop", "deploymentGroupName": "prod", "version": "1.0", "status": "InProgress"}
    target = {"name": "web-1", "instanceLabel": "Green", "status": "Failed", "lifecycleEvents": events}
    into = io.StringIO()
    Console(file=into, width=120).print(drawn(deployment, [target]))
    shown = into.getvalue()
    assert "shop/prod 1.0: InProgress" in shown
    assert "web-1 (Green)" in shown
    assert "✓ DownloadBundle ✗ Install (ScriptFailed: a.sh: no [31m disk)" in shown
    assert "AfterInstall" not in shown
    assert "\x1b[31m" not in shown
