"""Services in containers: from blue to green on a real Podman behind a real HAProxy, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import docker
import pytest
from sqlalchemy import select

from hooks.deployments import hook_answers
from hooks.deployments.health.probing import Prober
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.platforms.container.settings import HostSettings, Pace
from hooks.deployments.steering import rollback, stop
from hooks.models.deployment import DeploymentInstallation
from registry.upstream.guard import AddressPolicy
from tests.fakes.deployments import new_world
from tests.harness.podman import IMAGE, Podman
from tests.routing import Load, Subject, ask, haproxy
from tests.services import AT_ONCE, CANARY, CRASH, Engine, revision


@dataclass
class Harbour:
    """A container host and a router in front of it."""

    engine: Engine
    edge: Subject
    client: Any
    image: str

    def containers(self, deployment: str = "") -> list[Any]:
        labels = [f"entrepot.deployment={deployment}" if deployment else "entrepot.group-id"]
        found: list[Any] = self.client.containers(all=True, filters={"label": labels})
        return found

    def status(self, deployment: str) -> str:
        row = self.engine.world.deployment(deployment)
        return f"{row.status} {row.error_message}".strip()

    def share(self, pool: str) -> int:
        return self.edge.router.shares("web")[pool]

    def clear(self) -> None:
        for container in self.containers():
            self.client.remove_container(container["Id"], force=True)
        for pool in ("blue", "green"):
            for member in self.edge.router.members(pool):
                self.edge.router.deregister(pool, member.name)


@pytest.fixture(scope="module")
def harbour(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    client = docker.APIClient(f"unix://{podman.socket}", "1.41")
    [image] = client.inspect_image(IMAGE)["RepoDigests"]
    folder = tmp_path_factory.mktemp("edge")
    with haproxy(folder) as edge, new_world("sqlite", folder) as world:
        host = HostSettings(f"unix://{podman.socket}", first_port=21500, last_port=21599)
        platform = ContainerPlatform(
            {"docks": host},
            {"edge": edge.router},
            clock=lambda: world.now,
            ask=Prober(AddressPolicy((ip_network("127.0.0.1"),))).check,
            pace=Pace(poll=1.0, watch=300.0, tolerated_failures=1),
        )
        world.parts.platforms["ECS"] = platform  # type: ignore[index]
        yield Harbour(Engine(world), edge, client, image)


def test_a_service_goes_from_blue_to_green_and_a_broken_release_goes_back_without_a_lost_request(harbour: Harbour):
    engine, image = harbour.engine, harbour.image
    first = engine.run(revision(image, "one"), CANARY)
    assert harbour.status(first) == "Succeeded"
    assert ask(harbour.edge.port) == "one"
    seen: list[Counter[str]] = []

    def look() -> None:
        if 0 < harbour.share("green") < 100:
            seen.append(load.next(40))

    with Load(harbour.edge.port) as load:
        hooks = "Hooks:\n  - AfterInstall: arn:aws:lambda:x:1:function:smoke\n"
        second = engine.run(revision(image, "two", hooks=hooks), CANARY, between=look)
        assert harbour.status(second) == "Succeeded"
        assert set(load.next(20)) == {"two"}
        assert set(seen[0]) == {"one", "two"}
        assert seen[0]["one"] > seen[0]["two"]
        assert not harbour.containers(first)
        assert len(harbour.containers(second)) == 2

        crashing = engine.run(revision(image, "three", program=CRASH), CANARY)
        assert engine.failure(crashing)[0] == "Install"
        assert "ends by itself" in engine.failure(crashing)[1]
        assert "no database" in engine.failure(crashing)[2]

        tainted = engine.run(revision(image, "tainted"), CANARY, between=look)
        assert engine.failure(tainted)[0] == "AllowTraffic"
        assert "its health check ends with 1" in engine.failure(tainted)[1]
        assert set(load.next(20)) == {"two"}
    assert seen[-1]["tainted"] > 3
    assert load.failures == []
    for failed in (crashing, tainted):
        assert harbour.status(failed).startswith("Failed ")
        assert not harbour.containers(failed)
    assert harbour.edge.router.shares("web") == {"blue": 0, "green": 100}
    assert harbour.edge.router.members("blue") == ()
    assert engine.world.group().last_successful_id == second
    harbour.clear()


@pytest.mark.long
def test_a_stop_gives_the_requests_back_and_a_rollback_takes_the_earlier_task_set_again(harbour: Harbour):
    engine, world = harbour.engine, harbour.engine.world
    kept = {"terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE", "terminationWaitTimeInMinutes": 30}}
    engine.configure(blueGreenDeploymentConfiguration=kept)
    first = engine.run(revision(harbour.image, "one"), CANARY)
    was = harbour.edge.router.shares("web")
    with Load(harbour.edge.port) as load:
        stopped = engine.begin(revision(harbour.image, "two"), CANARY)
        engine.go_on(until=lambda: harbour.edge.router.shares("web") != was)
        world.do(stop, stopped)
        engine.go_on()
        assert world.status(stopped) == "Stopped"
        assert harbour.edge.router.shares("web") == was
        assert not harbour.containers(stopped)

        regretted = engine.begin(revision(harbour.image, "three"), CANARY)
        engine.go_on(until=lambda: world.status(regretted) == "Baking")
        assert set(load.next(20)) == {"three"}
        assert {len(harbour.containers(each)) for each in (first, regretted)} == {2}
        made = {container["Id"] for container in harbour.containers(first)}
        world.do(rollback, regretted)
        engine.go_on()
        assert set(load.next(20)) == {"one"}
    assert load.failures == []
    undoing = world.deployment(regretted).rolled_back_by
    assert undoing is not None
    assert harbour.status(undoing) == "Succeeded"
    assert {container["Id"] for container in harbour.containers()} == made
    assert harbour.edge.router.shares("web") == was
    harbour.clear()


@pytest.mark.long
def test_a_receiver_carries_a_hook_out_and_one_that_is_taken_ill_while_it_bakes_goes_back(harbour: Harbour):
    engine, world, notices = harbour.engine, harbour.engine.world, []
    usual, world.parts = (
        world.parts,
        replace(world.parts, call_hook=lambda _session, notice, _now: notices.append(notice)),
    )
    kept = {"terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE", "terminationWaitTimeInMinutes": 30}}
    engine.configure(hooks={"accept": {"webhook": 3}}, blueGreenDeploymentConfiguration=kept)
    hooks = "Hooks:\n  - AfterInstall: arn:aws:lambda:x:1:function:accept\n"
    first = engine.begin(revision(harbour.image, "one", hooks=hooks), CANARY)
    engine.go_on(until=lambda: bool(notices))
    assert (notices[0].webhook, notices[0].data["deploymentId"]) == (3, first)
    told = notices[0].data["lifecycleEventHookExecutionId"]
    with world.db.write() as session:
        hook_answers.answer(session, world.parts, first, told, "Succeeded", world.now, actor="ci")
    engine.go_on()
    assert harbour.status(first) == "Succeeded"

    second = engine.begin(revision(harbour.image, "tainted"), AT_ONCE)
    engine.go_on(until=lambda: world.status(second) == "Baking")
    for _ in range(8):
        ask(harbour.edge.port)
    engine.go_on()
    assert engine.failure(second)[0] == "MonitorHealth"
    assert world.deployment(second).error_code == "CUSTOMER_APPLICATION_UNHEALTHY"
    assert ask(harbour.edge.port) == "one"
    assert not harbour.containers(second)
    assert len(notices) == 1
    world.parts = usual
    harbour.clear()


@pytest.mark.long
def test_an_original_that_somebody_has_removed_cannot_come_back_and_the_record_says_so(harbour: Harbour):
    engine, world = harbour.engine, harbour.engine.world
    engine.configure()
    first = engine.run(revision(harbour.image, "one"), CANARY)
    was = harbour.edge.router.shares("web")
    second = engine.begin(revision(harbour.image, "two"), CANARY)
    engine.go_on(until=lambda: harbour.edge.router.shares("web") != was)
    for container in harbour.containers(first):
        harbour.client.remove_container(container["Id"], force=True)
    world.do(stop, second)
    engine.go_on()
    assert world.status(second) == "Stopped"
    assert len(harbour.containers(second)) == 2
    with world.db.read() as session:
        assert session.scalars(select(DeploymentInstallation.deployment_id)).all() == [second]
    harbour.clear()

    # Nothing is there at all: what comes then and fails leaves nothing, and the record does not say that it does.
    third = engine.run(revision(harbour.image, "three", program=CRASH), CANARY)
    assert engine.failure(third)[0] == "Install"
    assert not harbour.containers()
    with world.db.read() as session:
        assert session.scalars(select(DeploymentInstallation.deployment_id)).all() == []


def test_a_container_has_limits_and_nothing_of_its_host(harbour: Harbour):
    engine = harbour.engine
    engine.configure(ecsServices=[{"serviceName": "shop"}])
    deployment = engine.begin(revision(harbour.image, "one", health=False), CANARY)
    engine.go_on(until=lambda: bool(harbour.containers(deployment)))
    found = harbour.client.inspect_container(harbour.containers(deployment)[0]["Id"])
    host = found["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (96 * 2**20, 96 * 2**20, 500_000_000)
    assert (host["PidsLimit"], host["Privileged"], host["ReadonlyRootfs"]) == (512, False, True)
    assert not host["Binds"]
    assert not found["Mounts"]
    assert host["NetworkMode"] not in {"host", "none"}
    assert "no-new-privileges" in " ".join(host["SecurityOpt"])
    status = found["State"]["Pid"]
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{status}/status").read_text().splitlines())
    assert {int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert lines["Seccomp"].strip() == "2"
    harbour.clear()
