"""The platform of containers keeps what every deployment platform promises, on a real Podman."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import docker
import pytest

from hooks.deployments.health.probing import Answer
from hooks.deployments.platform import PlatformUnavailable, TargetPlan
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.platforms.container.settings import HostSettings, Pace
from hooks.deployments.traffic.routers.record import RecordRouter
from tests.contract.test_deployment_platforms import (  # noqa: F401
    NOW,
    UPLOAD,
    Case,
    database,
    targets,
    test_documents_are_judged_before_anything_is_done,
    test_events_are_the_same_each_time_and_install_something,
    test_events_done_twice_are_done_once,
    test_targets_have_names_of_their_own,
)
from tests.harness.podman import IMAGE, Podman
from tests.services import GROUP, revision


@pytest.fixture
def case(podman: Podman, tmp_path: Path) -> Iterator[Case]:
    client = docker.APIClient(f"unix://{podman.socket}", "1.41")
    [image] = client.inspect_image(IMAGE)["RepoDigests"]
    file, clock = tmp_path / "router.json", [NOW]
    router = RecordRouter(str(file), pools=["blue", "green"], listeners={"web": ["blue", "green"]})
    hosts = {
        "docks": HostSettings(f"unix://{podman.socket}", first_port=21600, last_port=21699),
        "gone": HostSettings(f"unix://{tmp_path}/nobody.sock"),
    }

    def serves(_name: str) -> bool:
        leading = max(router.shares("web").items(), key=lambda item: item[1])[0]
        return any(not each.is_drained for each in router.members(leading))

    def change(is_away: bool) -> None:
        kept = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(kept | {"unreachable": is_away}))

    yield Case(
        ContainerPlatform(
            hosts,
            {"edge": router},
            clock=lambda: clock[0],
            ask=lambda *_: Answer(passed=True, detail="", took_ms=1),
            pace=Pace(poll=0.5),
        ),
        {**GROUP, "ecsServices": [{"serviceName": "shop"}], "healthChecks": [{"name": "up", "type": "TCP"}]},
        {**GROUP, "containerHost": "elsewhere"},
        UPLOAD,
        revision(image, "one", health=False),
        serves=serves,
        away=change,
        pass_time=lambda seconds: clock.__setitem__(0, clock[0] + timedelta(seconds=seconds)),
    )
    for container in client.containers(all=True, filters={"label": ["entrepot.group-id"]}):
        client.remove_container(container["Id"], force=True)


def test_a_host_or_a_router_that_is_away_has_not_failed(case: Case, targets: list[TargetPlan]):  # noqa: F811
    assert case.away is not None
    facts = case.facts()
    case.away(True)
    with pytest.raises(PlatformUnavailable, match="nobody is there"):
        case.platform.carry_out(facts, targets[0], "Install", lambda: False)
    case.away(False)
    case.group = {**case.group, "containerHost": "gone"}
    for event in ("Install", "AllowTraffic", "TerminateOriginal"):
        with pytest.raises(PlatformUnavailable, match="the container host gone"):
            case.platform.carry_out(case.facts(), targets[0], event, lambda: False)
    with pytest.raises(PlatformUnavailable, match="the container host gone"):
        case.platform.undo(case.facts(), targets[0])
