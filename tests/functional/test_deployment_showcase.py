"""Deployments as their documentation tells them: server, worker, agents, HAProxy and commands, and somebody who asks all the time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build_bench import MISSING_SANDBOX
from tests.routing import Load
from tests.shop import Shop, shop

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

IN_PLACE = """
ec2TagFilters: [{Key: role, Value: web}]
deploymentConfigName: CodeDeployDefault.OneAtATime
deploymentStyle: {deploymentType: IN_PLACE, deploymentOption: WITH_TRAFFIC_CONTROL}
loadBalancerInfo: {targetGroupInfoList: [{name: edge/shop}]}
autoRollbackConfiguration: {enabled: true, events: [DEPLOYMENT_FAILURE]}
"""
BLUE_GREEN = """
ec2TagFilters: [{Key: fleet, Value: one}]
deploymentConfigName: CodeDeployDefault.AllAtOnce
deploymentStyle: {deploymentType: BLUE_GREEN, deploymentOption: WITH_TRAFFIC_CONTROL}
loadBalancerInfo: {targetGroupInfoList: [{name: edge/shop}]}
blueGreenDeploymentConfiguration:
  greenFleetProvisioningOption: {action: DISCOVER_EXISTING, tagFilters: [{Key: fleet, Value: two}]}
  terminateBlueInstancesOnDeploymentSuccess: {action: KEEP_ALIVE}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Shop]:
    with shop(tmp_path) as made:
        yield made


def installed(site: Shop, group: str) -> dict[str, str]:
    rows = site.run("deploy", "targets", "shop", group).stdout.splitlines()
    return {name: deployment for name, *_, deployment, _, _ in (row.split("\t") for row in rows)}


def test_one_at_a_time_and_back_again_loses_no_request(site: Shop) -> None:
    site.add("web-1", "web-2", "web-3", tags=["role=web"])
    site.group("prod", IN_PLACE)
    site.deploy("prod", site.bundle("1"))
    with Load(site.port, clients=2, pause=0.1) as load:
        assert set(load.next()) == {"shop 1"}
        second = site.deploy("prod", site.bundle("2"))
        assert set(load.next()) == {"shop 2"}
        assert installed(site, "prod") == {f"web-{number}": second for number in (1, 2, 3)}

        broken = site.deploy("prod", site.bundle("3", is_broken=True), status=1)
        told = json.loads(site.run("deploy", "status", broken, "--json").stdout)
        assert "ValidateService failed" in told["errorInformation"]["message"]
        undoing = told["rollbackInfo"]["rollbackDeploymentId"]
        site.run("deploy", "status", undoing, "--wait")
        assert set(load.next()) == {"shop 2"}
        assert installed(site, "prod") == {f"web-{number}": undoing for number in (1, 2, 3)}
        assert site.serving() == {"web-1", "web-2", "web-3"}
    assert load.failures == []
    assert set(load.answered) == {"shop 1", "shop 2"}


@pytest.mark.long
def test_blue_and_green_change_places_again_and_again_and_lose_no_request(site: Shop) -> None:
    site.add("one-1", "one-2", tags=["fleet=one"])
    site.add("two-1", "two-2", tags=["fleet=two"])
    site.group("prod", BLUE_GREEN)
    site.deploy("prod", site.bundle("1"))
    with Load(site.port, clients=2, pause=0.05) as load:
        assert set(load.next()) == {"shop 1"}
        site.deploy("prod", site.bundle("2"))
        assert set(load.next()) == {"shop 2"}
        assert site.serving() == {"one-1", "one-2"}
        third = site.deploy("prod", site.bundle("3"))
        assert set(load.next()) == {"shop 3"}
        sides = {each["name"]: each["instanceLabel"] for each in _targets(site, third)}
        assert sides == {"one-1": "Blue", "one-2": "Blue", "two-1": "Green", "two-2": "Green"}
        site.run("deploy", "rollback", third, "--wait")
        assert set(load.next()) == {"shop 2"}
        site.deploy("prod", site.bundle("4"))
        assert set(load.next()) == {"shop 4"}
        assert site.serving() == {"two-1", "two-2"}
    assert load.failures == []


def _targets(site: Shop, deployment: str) -> list[dict[str, str]]:
    return list(json.loads(site.run("deploy", "status", deployment, "--json").stdout)["targets"])
