"""Services in containers: from blue to green on a real Podman behind a real HAProxy, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import docker
import pytest

from hooks.deployments.health.probing import Prober
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.platform import Later
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.platforms.container.settings import HostSettings, Pace
from registry.upstream.guard import AddressPolicy
from tests.harness.podman import IMAGE, Podman
from tests.routing import Load, Subject, ask, haproxy
from tests.services import CANARY, CRASH, Course, Engine, Ticking, revision


@dataclass
class Harbour:
    """A container host and a router in front of it."""

    engine: Engine
    edge: Subject
    client: Any
    image: str

    def containers(self, course: Course | None = None) -> list[Any]:
        labels = [f"entrepot.deployment={course.facts.deployment_id}"] if course else ["entrepot.group-id"]
        found: list[Any] = self.client.containers(all=True, filters={"label": labels})
        return found

    def clear(self) -> None:
        for container in self.containers():
            self.client.remove_container(container["Id"], force=True)
        router = self.edge.router
        for pool in ("blue", "green"):
            for member in router.members(pool):
                router.deregister(pool, member.name)


@pytest.fixture(scope="module")
def harbour(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    client = docker.APIClient(f"unix://{podman.socket}", "1.41")
    [image] = client.inspect_image(IMAGE)["RepoDigests"]
    clock = Ticking()
    with haproxy(tmp_path_factory.mktemp("edge")) as edge:
        host = HostSettings(f"unix://{podman.socket}", first_port=21500, last_port=21599)
        pace = Pace(poll=1.0, watch=300.0, tolerated_failures=1)
        prober = Prober(AddressPolicy((ip_network("127.0.0.1"),)))
        platform = ContainerPlatform({"docks": host}, {"edge": edge.router}, clock=clock, ask=prober.check, pace=pace)
        yield Harbour(Engine(platform, clock), edge, client, image)


def succeeded(course: Course) -> bool:
    return all(result.status is EventStatus.SUCCEEDED for result in course.results.values())


def test_a_service_goes_from_blue_to_green_and_a_broken_release_goes_back_without_a_lost_request(harbour: Harbour):
    engine, image = harbour.engine, harbour.image
    first = engine.run(engine.begin(revision(image, "one"), CANARY))
    assert succeeded(first), first.results
    assert ask(harbour.edge.port) == "one"
    seen: dict[str, Mapping[str, int]] = {}

    def look(_course: Course, event: str, _later: Later) -> None:
        if event == "AllowTraffic":
            seen[event] = load.next(40)

    with Load(harbour.edge.port) as load:
        hooks = "Hooks:\n  - BeforeInstall: smokeless\n"
        unknown = engine.run(engine.begin(revision(image, "two", hooks=hooks), CANARY))
        assert unknown.failed is not None
        assert "smokeless" in unknown.failed.message
        engine.undo(unknown)

        hooks = "Hooks:\n  - AfterInstall: arn:aws:lambda:x:1:function:smoke\n"
        second = engine.run(engine.begin(revision(image, "two", hooks=hooks), CANARY), between=look, twice=True)
        assert succeeded(second), second.results
        assert set(load.next(20)) == {"two"}
        assert set(seen["AllowTraffic"]) == {"one", "two"}
        assert seen["AllowTraffic"]["one"] > seen["AllowTraffic"]["two"] > 0
        assert not harbour.containers(first)
        assert len(harbour.containers(second)) == 2

        for broken, event in (("crash", "Install"), ("tainted", "AllowTraffic")):
            program = {"program": CRASH} if broken == "crash" else {}
            bad = engine.run(engine.begin(revision(image, broken, **program), CANARY), between=look)
            assert bad.failed is not None
            assert bad.failed.event == event, bad.results
            engine.undo(bad)
            assert set(load.next(20)) == {"two"}
            assert not harbour.containers(bad)
            assert harbour.edge.router.shares("web") == {"blue": 0, "green": 100}
            if broken == "crash":
                assert "exit code 3" in bad.failed.message
                assert "no database" in bad.failed.log
    assert load.failures == []
    assert {member.name for member in harbour.edge.router.members("blue")} == set()
    harbour.clear()
