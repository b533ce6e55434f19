"""What went where and why, by a real server, a real agent and the command line: two releases through one pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from config.cli.main import main
from tests.agent_bench import Crew
from tests.build_bench import eventually
from tests.harness import packages
from tests.harness.publishing import form
from tests.harness.server import Server

PIPELINE = """
name: release
executionMode: SUPERSEDED
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "shop*", SettleSeconds: "0"}
- name: Gate
  actions:
  - name: Ask
    actionTypeId: {category: Approval, provider: Manual}
- name: Prod
  actions:
  - name: Promote
    runOrder: 1
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
    configuration: {TargetRepository: prod}
  - name: Ship
    runOrder: 2
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}
    configuration: {ApplicationName: shop, DeploymentGroupName: prod, SourceRepository: prod, Asset: "*.tar.gz"}
"""


class Releases:
    """A server with its worker, a machine with an agent, and the pipeline."""

    def __init__(self, crew: Crew, folder: Path) -> None:
        self.crew, self.folder = crew, folder
        self.shelf = folder / "srv"

    def run(self, *words: str, status: int = 0) -> str:
        environment = {"ENTREPOT_URL": self.crew.server.url, "ENTREPOT_TOKEN": self.crew.token}
        done = CliRunner(env=environment).invoke(main, list(words))
        assert done.exit_code == status, (words, done.output, done.exception)
        return done.output

    def json(self, *words: str) -> Any:
        environment = {"ENTREPOT_URL": self.crew.server.url, "ENTREPOT_TOKEN": self.crew.token}
        done = CliRunner(env=environment).invoke(main, [*words, "--json"])
        assert done.exit_code == 0, (words, done.output)
        return json.loads(done.stdout)

    def publish(self, version: str) -> None:
        appspec = f"version: 0.0\nos: linux\nfiles: [{{source: site, destination: {self.shelf}}}]\n"
        files = {"appspec.yml": appspec.encode(), "site/version": version.encode()}
        filename, body = packages.sdist("shop", version, files=files)
        answer = requests.post(
            self.crew.server.index(simple=False),
            data={**form("shop", version, body), "filetype": "sdist", "pyversion": "source"},
            files={"content": (filename, body)},
            headers={"Authorization": f"Bearer {self.crew.token}"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text

    def execution(self, version: str) -> int:
        eventually(lambda: self.json("pipeline", "status", "release", "--version", version))
        (found,) = self.json("pipeline", "status", "release", "--version", version)
        return int(found["id"])

    def publish_and_reject(self, version: str) -> None:
        """By the interface alone: commands run in one thread at a time."""
        time.sleep(1)
        self.publish(version)

        def waiting() -> list[Any]:
            found = self.crew.call("GET", "/pipelines/release/executions")["items"]
            number = next((each["id"] for each in found if each["version"] == version), None)
            stages = self.crew.call("GET", f"/executions/{number}")["stages"] if number else []
            return [number for stage in stages for action in stage["actions"] if action["status"] == "Waiting"]

        eventually(waiting)
        answer = {"stage": "Gate", "action": "Ask", "verdict": "Rejected"}
        self.crew.call("POST", f"/executions/{waiting()[0]}/approval", json=answer)

    def release(self, version: str) -> int:
        """Publish a version, approve it, and wait for its end on the machine."""
        self.publish(version)
        number = self.execution(version)
        waits = lambda: any(  # noqa: E731
            action["status"] == "Waiting"
            for stage in self.json("pipeline", "status", str(number))["stages"]
            for action in stage["actions"]
        )
        eventually(waits)
        self.run("pipeline", "approve", str(number), "--comment", f"tried {version}")
        self.run("pipeline", "status", str(number), "--watch", "--exit-status")
        return number


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    folder = tmp_path_factory.mktemp("visibility")
    server = Server(folder / "data", web_processes=1)
    server.start()
    crew = Crew(server, folder)
    try:
        assert crew.enrol("web-1").returncode == 0
        crew.run("web-1")
        crew.group("prod", "web-1", pipelines=["release"])
        made = Releases(crew, folder)
        (folder / "pipeline.yml").write_text(PIPELINE)
        made.run("pipeline", "apply", "-f", str(folder / "pipeline.yml"))
        eventually(lambda: crew.agent("web-1")["state"] == "ONLINE")
        yield made
    finally:
        crew.close()
        server.kill()


@pytest.fixture(scope="module")
def released(site: Releases) -> tuple[int, int]:
    return site.release("1.0"), site.release("2.0")


def test_a_versions_life_is_told_from_its_publisher_to_the_machine_and_until_when(
    site: Releases, released: tuple[int, int]
) -> None:
    assert (site.shelf / "version").read_text() == "2.0"
    first, second = released
    life = site.json("package", "life", "pypi", "shop", "1.0")
    assert (life["source"]["kind"], life["source"]["via"], life["source"]["repository"]) == ("person", "token", "dev")
    dev, prod = life["places"]
    assert (dev["repository"], prod["repository"], prod["executionId"]) == ("dev", "prod", first)
    assert dev["digest"] == prod["digest"] == life["executions"][0]["digest"] == life["approvals"][0]["digest"]
    (approval,) = life["approvals"]
    assert (approval["verdict"], approval["comment"]) == ("Approved", "tried 1.0")
    (deployment,) = life["deployments"]
    later = site.json("package", "life", "pypi", "shop", "2.0")["deployments"][0]
    assert (deployment["executionId"], deployment["replacedBy"]) == (first, later["deploymentId"])
    assert deployment["since"] < deployment["until"] == later["since"]
    assert [(each["name"], each["isThere"]) for each in deployment["targets"]] == [("web-1", False)]
    assert [(each["name"], each["isThere"], each["isHealthy"]) for each in later["targets"]] == [("web-1", True, True)]
    kinds = [each["kind"] for each in life["timeline"]]
    assert kinds[0] == "published"
    assert kinds.index("approval") < kinds.index("promoted") < kinds.index("deployed") < kinds.index("replaced")
    assert life["blocking"] == []
    told = site.run("package", "life", "pypi", "shop", "2.0")
    assert "it is installed in shop/prod: web-1" in told
    assert f"promoted from dev to prod by release #{second}" in told


def test_a_machine_tells_what_it_has_and_why(site: Releases, released: tuple[int, int]) -> None:
    (there,) = site.json("agent", "show", "web-1")["provenance"]
    assert (there["version"], there["execution"]["executionId"]) == ("2.0", released[1])
    assert [(each["verdict"], each["comment"]) for each in there["approvals"]] == [("Approved", "tried 2.0")]
    assert there["package"]["repository"] == "prod"
    assert there["builds"] == []
    (same,) = site.json("deploy", "provenance", "shop", "prod")
    assert same == there
    assert f"release #{released[1]}" in site.run("agent", "show", "web-1")


def test_the_board_says_which_version_is_where_and_what_keeps_the_next_one(
    site: Releases, released: tuple[int, int]
) -> None:
    site.publish("3.0")
    third = site.execution("3.0")
    eventually(lambda: site.json("board", "--pipeline", "release")["rows"][0]["cells"][1]["blocking"])
    found = site.json("board")
    assert [(each["kind"], each["name"]) for each in found["columns"]] == [
        ("repository", "dev"), ("repository", "prod"), ("group", "prod"),
    ]  # fmt: skip
    (row,) = found["rows"]
    dev, prod, group = row["cells"]
    assert (dev["version"], dev["nextVersion"], prod["version"], group["version"]) == ("3.0", None, "2.0", "2.0")
    assert (prod["executionId"], group["executionId"], group["targets"]) == (released[1], released[1], 1)
    assert (prod["nextVersion"], prod["nextExecutionId"]) == ("3.0", third)
    (why,) = prod["blocking"]
    assert (why["kind"], why["stage"], why["approvers"]) == ("approval", "Gate", ["default/prod"])
    site.run("pipeline", "reject", str(third), "--comment", "not today")
    (why,) = site.json("board")["rows"][0]["cells"][1]["blocking"]
    assert (why["kind"], why["text"].endswith("not today")) == ("failed", True)
    told = site.run("board")
    assert "2.0 <- 3.0" in told
    assert "not today (#" in told


def test_the_figures_are_counted_from_what_was_deployed(site: Releases, released: tuple[int, int]) -> None:
    for kind, name in (("application", "shop"), ("group", "shop/prod"), ("pipeline", "release")):
        (item,) = site.json("figures", "--by", kind, "--days", "7")["items"]
        assert (item["name"], item["deployments"], item["failures"], item["rollbacks"]) == (name, 2, 0, 0)
        assert (item["changeFailureRate"], item["unrestored"], sum(item["perDay"])) == (0.0, 0, 2)
        assert (item["leadTimeSeconds"]["count"], item["timeToRestoreSeconds"]["count"]) == (2, 0)
        assert 0 < item["leadTimeSeconds"]["median"] <= item["leadTimeSeconds"]["p90"] < 120
    assert "shop" in site.run("figures")


def test_a_pipeline_is_drawn_and_watched_before_there_is_an_execution(
    site: Releases, released: tuple[int, int]
) -> None:
    drawn = site.run("pipeline", "graph", str(released[1]))
    assert drawn.index("✓ Source") < drawn.index("✓ Gate") < drawn.index("✓ Prod")
    assert "  1  ✓ Promote (Promote)" in drawn
    assert "  2  ✓ Ship (CodeDeploy)" in drawn
    site.run("pipeline", "transition", "release", "Prod", "--disable", "--reason", "freeze")
    assert ": freeze" in site.run("pipeline", "graph", "release")
    site.run("pipeline", "transition", "release", "Prod", "--enable")
    site.run("pipeline", "status", "release", "--watch", "--version", "9.9", "--within", "1s", status=1)
    watching = Thread(target=site.publish_and_reject, args=("4.0",))
    watching.start()
    told = site.run("pipeline", "status", "release", "--watch", "--version", "4.0", "--exit-status", status=1)
    watching.join()
    assert "waiting for one to begin" in told
    assert "Gate/Ask Failed: rejected by" in told


def test_status_says_why_a_deployment_waits_and_the_list_shows_rollbacks(
    site: Releases, released: tuple[int, int]
) -> None:
    site.crew.kill("web-1")
    asset = ("--package", "shop@1.0", "--repository", "prod", "--asset", "shop-1.0.tar.gz")
    going, behind = (site.json("deploy", "create", "shop", "prod", *asset)["deploymentId"] for _ in range(2))
    assert f"waits: {going} goes on in this group" in site.run("deploy", "status", behind)
    site.run("deploy", "pause", going)
    assert "waits: paused by " in site.run("deploy", "status", going)
    (last,) = site.json("package", "life", "pypi", "shop", "2.0")["deployments"]
    undoing = site.json("deploy", "rollback", last["deploymentId"])["deploymentId"]
    lines = {line.split("\t")[0]: line for line in site.run("deploy", "list").splitlines()}
    assert lines[undoing].endswith(f"of {last['deploymentId']}")
    assert lines[last["deploymentId"]].endswith(f"by {undoing}")
