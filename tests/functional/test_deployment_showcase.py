"""Deployments as their documentation tells them, and somebody who asks all the time.

A package that was published here goes to five machines, each in a network namespace of its own, behind HAProxy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.routing import Load
from tests.shop import Shop, shop, whole

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's")

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


def nothing_was_lost(site: Shop, load: Load, before: dict[str, int], *versions: str) -> None:
    """Every request was answered, by a whole release; HAProxy has counted as many since ``before``."""
    assert load.failures == []
    assert set(load.answered) == {whole(version) for version in versions}
    count, taken = load.answered.total(), site.taken()
    told = {name: taken[name] - before[name] for name in taken}
    assert told == {"req_tot": count, "hrsp_2xx": count, "hrsp_4xx": 0, "hrsp_5xx": 0}


def test_one_at_a_time_and_back_again_loses_no_request(site: Shop) -> None:
    names = [f"web-{number}" for number in range(1, 6)]
    site.add(*names, tags=["role=web"])
    site.group("prod", IN_PLACE)
    site.publish("1")
    site.deploy("prod", "1", "--config", "CodeDeployDefault.AllAtOnce")
    before = site.taken()
    with Load(site.port, clients=2, pause=0.1) as load:
        assert set(load.next()) == {whole("1")}
        site.publish("2")
        second = site.deploy("prod", "2")
        assert set(load.next()) == {whole("2")}
        assert installed(site, "prod") == dict.fromkeys(names, second)

        site.publish("3", is_broken=True)
        broken = site.deploy("prod", "3", status=1)
        told = json.loads(site.run("deploy", "status", broken, "--json").stdout)
        assert "ValidateService failed" in told["errorInformation"]["message"]
        undoing = told["rollbackInfo"]["rollbackDeploymentId"]
        site.run("deploy", "status", undoing, "--wait")
        assert set(load.next()) == {whole("2")}
        assert installed(site, "prod") == dict.fromkeys(names, undoing)
        assert site.serving() == set(names)
    nothing_was_lost(site, load, before, "1", "2")


@pytest.mark.long
def test_blue_and_green_change_places_again_and_again_and_lose_no_request(site: Shop) -> None:
    blue, green = {"one-1", "one-2"}, {"two-1", "two-2", "two-3"}
    site.add(*sorted(blue), tags=["fleet=one"])
    site.add(*sorted(green), tags=["fleet=two"])
    site.group("prod", BLUE_GREEN)
    for version in "1234":
        site.publish(version)
    site.deploy("prod", "1")
    before = site.taken()
    with Load(site.port, clients=2, pause=0.1) as load:
        assert set(load.next()) == {whole("1")}
        assert site.serving() == green
        site.deploy("prod", "2")
        assert set(load.next()) == {whole("2")}
        assert site.serving() == blue
        third = site.deploy("prod", "3")
        assert set(load.next()) == {whole("3")}
        sides = {each["name"]: each["instanceLabel"] for each in _targets(site, third)}
        assert sides == dict.fromkeys(blue, "Blue") | dict.fromkeys(green, "Green")
        site.run("deploy", "rollback", third, "--wait")
        assert set(load.next()) == {whole("2")}
        assert site.serving() == blue
        site.deploy("prod", "4")
        assert set(load.next()) == {whole("4")}
        assert site.serving() == green
    nothing_was_lost(site, load, before, "1", "2", "3", "4")


@pytest.mark.long
def test_without_traffic_control_requests_are_lost(site: Shop) -> None:
    """The control: the load notices a deployment that takes no machine out of the traffic."""
    site.add("web-1", "web-2", tags=["role=web"])
    site.group("prod", IN_PLACE)
    site.publish("1")
    site.deploy("prod", "1")
    bare = IN_PLACE.replace("WITH_TRAFFIC_CONTROL", "WITHOUT_TRAFFIC_CONTROL")
    site.group("prod", "\n".join(line for line in bare.splitlines() if "loadBalancerInfo" not in line))
    site.publish("2")
    with Load(site.port, clients=3, pause=0.001) as load:
        site.deploy("prod", "2")
        load.next()
    assert load.failures != [] or site.taken()["hrsp_5xx"] > 0


def _targets(site: Shop, deployment: str) -> list[dict[str, str]]:
    return list(json.loads(site.run("deploy", "status", deployment, "--json").stdout)["targets"])
