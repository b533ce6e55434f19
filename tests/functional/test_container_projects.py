"""Projects that build in containers, over the management interface: what they may name, and what their images become."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from config import wiring
from config.cli.images import NAMES, images, recipes
from hooks.builds import records
from hooks.jobs.worker import Worker
from hooks.models.build_image import BuildImagePin
from registry.models import AuditEntry
from tests.build_bench import eventually, work_directory
from tests.functional.api_world import World
from tests.harness.podman import IMAGE, Podman

TOOL = "localhost/team/tool:1"


@dataclass
class Site:
    world: World
    podman: Podman

    def put(self, status: int = 200, **environment: Any) -> Any:
        document = {
            "name": "boxed",
            "repository": "dev",
            "source": {"type": "NO_SOURCE"},
            "buildspec": "version: 0.2\nphases:\n  build:\n    commands: ['echo built as $(id -un) with $MARK']\n",
            "environment": {"type": "LINUX_CONTAINER", "network": "none", **environment},
        }
        answer = self.world.call("PUT", "/build-projects/boxed", as_="admin", json={"document": json.dumps(document)})
        assert answer.status_code == status, answer.text
        return answer.json

    def build(self) -> tuple[str, str]:
        """Status and log of a build of the project."""
        answer = self.world.call("POST", "/build-projects/boxed/builds", as_="publisher", json={})
        assert answer.status_code == 201, answer.text
        path = f"/builds/{answer.json['id']}"
        eventually(lambda: self.world.call("GET", path).json["status"] != "IN_PROGRESS", "the build never ended")
        return self.world.call("GET", path).json["status"], str(self.world.call("GET", f"{path}/log").text)

    def move_tool(self, mark: str) -> None:
        """Let the name mean another image."""

        def podman(*arguments: str) -> str:
            command = ["podman", *arguments]
            done = subprocess.run(command, env=self.podman.environment, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        container = podman("create", "--network", "none", IMAGE, "true")
        podman("commit", "-q", "--change", f"ENV MARK={mark}", container, TOOL)
        podman("rm", container)


@pytest.fixture(scope="module")
def site(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with work_directory() as work:
        environment = {
            "ENTREPOT_BUILDS_WORKSPACE_PATH": str(work),
            "ENTREPOT_BUILDS_CONTAINER_SOCKET": podman.socket,
            "ENTREPOT_BUILDS_CONTAINER_IMAGE": IMAGE,
        }
        world = World(tmp_path_factory.mktemp("world"), environment)
        world.account("builds", "read")
        jobs = wiring.build_jobs(world.settings, world.services, world.hooks.actions)
        worker = Worker(
            world.db, jobs.handlers, settle=jobs.settle, slots=1, queues=(records.QUEUE,), poll_seconds=0.05
        )
        worker.start()
        try:
            yield Site(world, podman)
        finally:
            worker.drain(0)
            assert worker.join(40)
            world.close()


def test_H12_an_image_name_that_moved_stops_the_project_until_it_is_saved_again(site: Site) -> None:
    site.move_tool("one")
    site.put(image=TOOL, computeType="BUILD_GENERAL1_SMALL")
    status, log = site.build()
    assert status == "SUCCEEDED", log
    assert "built as build with one" in log
    with site.world.db.read() as session:
        pin = session.scalars(select(BuildImagePin)).one()
        written = session.scalars(select(AuditEntry).where(AuditEntry.action == "build_project.image")).all()
    assert (pin.image, pin.digest) == (TOOL, site.podman.engine.image(TOOL).digest)
    assert [entry.details["digest"] for entry in written] == [pin.digest]
    assert site.build()[0] == "SUCCEEDED"
    site.move_tool("two")
    status, log = site.build()
    assert (status, "save the build project again to accept it" in log) == ("FAILED", True), log
    assert "with two" not in log
    assert site.put(image=TOOL, computeType="BUILD_GENERAL1_SMALL")
    status, log = site.build()
    assert (status, "built as build with two" in log) == ("SUCCEEDED", True), log


def test_what_a_project_may_ask_for_is_said_when_it_is_saved(site: Site) -> None:
    refused = site.put(400, image="sha256:" + "0" * 64, computeType="BUILD_ENORMOUS")
    for word in ("environment.image", "environment.computeType"):
        assert word in json.dumps(refused)
    site.put(privilegedMode=True)
    status, log = site.build()
    assert (status, "privilegedMode: this server allows it to no build" in log) == ("FAILED", True)


def test_there_is_a_recipe_for_every_language_that_a_format_builds() -> None:
    assert set(recipes()) == set(NAMES)
    assert {package for name in NAMES[:-1] for package in recipes()[name]} == set(recipes()[NAMES[-1]])


@pytest.mark.long
def test_images_are_made_of_this_machines_packages(site: Site, tmp_path: Path) -> None:
    listed = CliRunner().invoke(images, ["list", "--data", str(tmp_path), "--socket", site.podman.socket, "--json"])
    assert (listed.exit_code, json.loads(listed.output)) == (0, [])
    options = ["--name", "python", "--from", "installed", "--tag", "t1", "--data", str(tmp_path)]
    made = CliRunner().invoke(images, ["build", *options, "--socket", site.podman.socket])
    assert made.exit_code == 0, made.output
    digest = made.stdout.split()[-1]
    assert made.stdout.startswith("localhost/entrepot/build-python:t1 sha256:")
    listed = CliRunner().invoke(images, ["list", "--data", str(tmp_path), "--socket", site.podman.socket])
    assert digest in listed.output
    site.put(image="localhost/entrepot/build-python:t1")
    status, log = site.build()
    assert status == "SUCCEEDED", log
    none = CliRunner().invoke(images, ["list", "--data", str(tmp_path)])
    assert (none.exit_code, "set builds.container.socket" in none.output) == (2, True)
