"""Task definitions, groups and revisions of services, and how traffic goes over: what is taken, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from config import container_hosts, deploying
from config.checking import prober
from config.settings import BadSettings, load
from hooks.deployments import revisions
from hooks.deployments.documents.group import parse_group
from hooks.deployments.platforms.container.group import HookCommand, HookWebhook, read_group
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.platforms.container.settings import HostSettings
from hooks.deployments.task_definition import read_task_definition
from hooks.deployments.traffic_steps import TrafficStep, traffic_steps
from registry.clock import system_clock
from registry.errors import InvalidDocument
from tests.services import CANARY, GROUP, revision

IMAGE = "localhost/shop@sha256:" + "0" * 64
PLATFORM = ContainerPlatform(
    {"docks": HostSettings("unix:///run/podman.sock")},
    {"edge": object()},  # type: ignore[dict-item]
    clock=system_clock,
    ask=lambda *_: pytest.fail("nobody is asked"),
)


def definition(**container: Any) -> dict[str, Any]:
    made = copy.deepcopy(revision(IMAGE, "one")["appSpecContent"]["taskDefinition"])
    made["containerDefinitions"][0].update(container)
    return made


def test_a_task_definition_as_describe_task_definition_tells_it():
    told = definition(mountPoints=[], volumesFrom=[], essential=True, secrets=[])
    told |= {"taskDefinitionArn": "arn:…", "revision": 3, "volumes": [], "status": "ACTIVE", "networkMode": "awsvpc"}
    task, faults = read_task_definition(told)
    assert faults == ()
    assert task is not None
    plan = task.container
    assert (task.family, plan.memory_bytes, plan.cpu_units, plan.ports) == ("shop", 96 * 2**20, 512, (8080,))
    assert plan.health is not None
    assert (plan.health.command, plan.health.retries) == (("/bin/sh", "-c", "test ! -e /tmp/sick"), 3)
    assert (plan.tmpfs, plan.is_read_only, plan.environment) == ({"/tmp": 2**20}, True, {"RELEASE": "one"})


@pytest.mark.parametrize(
    ("container", "told"),
    [
        ({"privileged": True}, "privileged is refused: a container has no privileges"),
        ({"mountPoints": [{"sourceVolume": "x"}]}, "mountPoints is refused: nothing of the host is mounted"),
        ({"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}}}, "a container has no capabilities here"),
        ({"linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}}, "devices is refused"),
        ({"dockerSecurityOptions": ["apparmor:unconfined"]}, "dockerSecurityOptions is refused"),
        ({"image": "localhost/shop:latest"}, "named by its digest"),
        ({"image": "sha256:" + "0" * 64 + "\n"}, "named by its digest"),
        ({"environment": [{"name": "A=B", "value": ""}]}, "the name of a variable"),
        ({"dockerLabels": {"entrepot.deployment": "d-OTHER"}}, "labels entrepot.… are the server's own"),
        ({"portMappings": [{"containerPort": 80, "hostPort": 81}]}, "hostPort is left out"),
        ({"healthCheck": {"command": ["curl"]}}, "healthCheck.command is"),
        ({"linuxParameters": {"tmpfs": [{"containerPath": "/a,size=9g", "size": 1}]}}, "an absolute path"),
        ({"user": "root; rm"}, "a user, or user:group"),
        ({"memory": -1}, "memory has to be a whole number"),
        ({"memory": True}, "memory has to be a whole number"),
    ],
)
def test_what_a_container_may_not_be(container: dict[str, Any], told: str):
    task, faults = read_task_definition(definition(**container))
    assert task is None
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"networkMode": "host"}, "networkMode is bridge or awsvpc"),
        ({"pidMode": "host"}, "pidMode is refused"),
        ({"volumes": [{"host": {"sourcePath": "/"}}]}, "volumes is refused: nothing of the host is mounted"),
        ({"containerDefinitions": []}, "a list of one container"),
    ],
)
def test_what_a_task_may_not_be(change: dict[str, Any], told: str):
    task, faults = read_task_definition(definition() | change)
    assert task is None
    assert any(told in fault for fault in faults), faults


def test_all_faults_of_a_task_definition_come_at_once():
    _task, faults = read_task_definition(definition(image="x", privileged=True, cpu="many"))
    assert len(faults) == 3
    assert read_task_definition([])[0] is None
    assert read_task_definition({"containerDefinitions": [None]})[0] is None


def changed(**change: Any) -> dict[str, Any]:
    return {**copy.deepcopy(dict(GROUP)), **change}


def test_a_group():
    group, faults = read_group(changed(healthChecks=[{"name": "up", "type": "HTTP", "url": "http://{host}:{port}/up"}]))
    assert faults == ()
    assert group is not None
    assert (group.host, group.router, group.pools, group.listener, group.test_listener, group.count) == (
        "docks",
        "edge",
        ("blue", "green"),
        "web",
        "",
        2,
    )
    assert [check.name for check in group.checks] == ["up"]
    smoke = group.hook("arn:aws:lambda:x:1:function:smoke")
    assert isinstance(smoke, HookCommand)
    assert smoke.timeout_seconds == 60
    group, faults = read_group(changed(hooks={"smoke": {"webhook": "3", "timeoutSeconds": 90}}))
    assert faults == ()
    assert group is not None
    assert group.hook("smoke") == HookWebhook(3, 90)


PAIR = GROUP["loadBalancerInfo"]["targetGroupPairInfoList"][0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"deploymentStyle": {"deploymentType": "IN_PLACE"}}, "deploymentStyle is BLUE_GREEN"),
        ({"containerHost": ""}, "containerHost is missing"),
        ({"containerHost": "elsewhere"}, "there is no container host 'elsewhere'"),
        ({"ecsServices": []}, "one service with its serviceName is missing"),
        ({"ecsServices": [{"serviceName": "shop", "desiredCount": 0}]}, "desiredCount has to be a whole number"),
        ({"loadBalancerInfo": {}}, "one pair of pools"),
        ({"onPremisesInstanceTagFilters": [{"Key": "a"}]}, "is for servers"),
        ({"hooks": {"smoke": {"command": "true"}}}, "hooks.smoke.command has to be a list"),
        (
            {"hooks": {"smoke": {"command": ["true"], "timeoutSeconds": 4000}}},
            "timeoutSeconds has to be a whole number",
        ),
        ({"hooks": {"smoke": {"command": ["true"], "webhook": 1}}}, "has a command or a webhook"),
        ({"hooks": {"smoke": {"webhook": "https://x.example"}}}, "webhook has to be a whole number"),
        ({"hooks": []}, "hooks has to be a mapping"),
        ({"healthChecks": [{"name": "a", "type": "COMMAND", "location": "x"}]}, "its task's healthCheck"),
    ],
)
def test_what_a_group_may_not_be(change: dict[str, Any], told: str):
    faults = PLATFORM.check_group(changed(**change))
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targetGroups": [{"name": "edge/blue"}, {"name": "edge/blue"}]}, "two different pools"),
        ({"targetGroups": [{"name": "edge/blue"}, {"name": "rim/green"}]}, "both pools are of one router"),
        (
            {"targetGroups": [{"name": "rim/blue"}, {"name": "rim/green"}]},
            "listenerArns: one listener of the pools' router",
        ),
        ({"prodTrafficRoute": {}}, "the listener of the service is missing"),
        ({"testTrafficRoute": {"listenerArns": ["rim/test"]}}, "testTrafficRoute.listenerArns: one listener"),
    ],
)
def test_what_a_pair_of_pools_may_not_be(change: dict[str, Any], told: str):
    faults = PLATFORM.check_group(changed(loadBalancerInfo={"targetGroupPairInfoList": [{**PAIR, **change}]}))
    assert any(told in fault for fault in faults), faults


def test_a_revision_is_checked_together_with_its_task_definition():
    good = revision(IMAGE, "one")
    assert PLATFORM.check_revision(good) == ()
    other = copy.deepcopy(good)
    other["appSpecContent"]["taskDefinition"]["containerDefinitions"][0] |= {"name": "web", "portMappings": []}
    other["appSpecContent"]["content"] = other["appSpecContent"]["content"].replace("<TASK_DEFINITION>", "store:4")
    told = " ".join(PLATFORM.check_revision(other))
    for part in (
        "names the task definition store",
        "the task definition's container is web",
        "none of the container's",
    ):
        assert part in told
    for wrong, part in (
        ({"revisionType": "S3"}, "AppSpecContent and a taskDefinition"),
        ({"revisionType": "AppSpecContent"}, "content is missing"),
        ({**good, "appSpecContent": {"content": "os: linux"}}, "for servers"),
        ({**good, "appSpecContent": {**good["appSpecContent"], "taskDefinition": None}}, "taskDefinition is missing"),
    ):
        assert part in " ".join(PLATFORM.check_revision(wrong))


def test_traffic_goes_over_in_steps():
    assert traffic_steps({}) == traffic_steps({"trafficRoutingConfig": {"type": "AllAtOnce"}}) == (TrafficStep(100),)
    assert traffic_steps(CANARY) == (TrafficStep(25, 300.0), TrafficStep(100))
    linear = {"type": "TimeBasedLinear", "timeBasedLinear": {"linearPercentage": 40, "linearInterval": 1}}
    assert traffic_steps({"trafficRoutingConfig": linear}) == (
        TrafficStep(40, 60.0),
        TrafficStep(80, 60.0),
        TrafficStep(100),
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "docks.api is missing"),
        ({"api": "/run/docker.sock"}, "docks.api is unix:///PATH or tcp://HOST:PORT"),
        ({"api": "unix:///x", "network": "host"}, "docks.network is one of the engine's own"),
        ({"api": "unix:///x", "first_port": 9, "last_port": 8}, "docks.first_port and last_port"),
        ({"api": "unix:///x", "publish_address": "docks.example"}, "docks.publish_address is an IP address"),
        ({"api": "unix:///x", "pulls": "no"}, "docks.pulls is not true or false"),
        ({"api": "unix:///x", "processes": True}, "docks.processes is not a whole number"),
        ({"api": "unix:///x", "capabilities": [1]}, "docks.capabilities is not a list of texts"),
        ({"api": "unix:///x", "privileged": True}, "docks.privileged is not a setting"),
        ({"api": "unix:///x", "memory_bytes": 0}, "docks.memory_bytes must be more than 0"),
    ],
)
def test_what_a_host_may_not_be(table: dict[str, Any], told: str):
    faults: list[str] = []
    container_hosts.read({"docks": table}, faults)
    assert any(told in fault for fault in faults), faults


def test_a_host():
    faults: list[str] = []
    table = {"api": "tcp://10.0.0.4:2376", "tls_directory": "/etc/x", "capabilities": ["CHOWN"], "pulls": True}
    found = container_hosts.read({"docks": table}, faults)
    assert faults == []
    assert (found["docks"].capabilities, found["docks"].address, found["docks"].pulls) == (
        ("CHOWN",),
        "127.0.0.1",
        True,
    )
    assert container_hosts.read({"Docks": table}, faults) == container_hosts.read([], faults) == {}
    assert len(faults) == 2


def test_the_platform_is_there_where_the_settings_have_a_host(tmp_path: Path):
    assert set(deploying.platforms(load(tmp_path, {}), {}, prober(load(tmp_path, {})), system_clock)) == {"Server"}
    (tmp_path / "entrepot.toml").write_text('[deployments.container_hosts.docks]\napi = "unix:///run/podman.sock"\n')
    settings = load(tmp_path, {})
    found = deploying.platforms(settings, {}, prober(settings), system_clock)
    assert set(found) == {"Server", "ECS"}
    assert list(found["ECS"].check_group(GROUP)) == ["there is no router 'edge' in the server's settings"]
    (tmp_path / "entrepot.toml").write_text("[deployments.container_hosts.docks]\napi = 1\n")
    with pytest.raises(BadSettings, match=r"docks\.api is not text"):
        load(tmp_path, {})


def test_a_groups_document_is_read_with_what_services_have():
    document = {**GROUP, "ecsServices": [{"serviceName": "shop", "desiredCount": 3}], "deploymentConfigName": "c"}
    parsed = parse_group(json.dumps(document)).document
    assert parsed["ecsServices"] == [{"serviceName": "shop", "desiredCount": 3}]
    assert PLATFORM.check_group(parsed) == []
    with pytest.raises(InvalidDocument, match="desiredCount has to be a whole number from 1 to 100"):
        parse_group(json.dumps({**document, "ecsServices": [{"serviceName": "shop", "desiredCount": 0}]}))


def test_a_revisions_label_names_the_image():
    pinned = {**revision(IMAGE, "one"), "revisionType": "AppSpecContent"}
    pinned["appSpecContent"]["sha256"] = "a" * 64
    assert revisions.version_of(pinned) == "localhost/shop@000000000000"
    assert revisions.label(pinned) == "appspec aaaaaaaaaaaa localhost/shop@000000000000"
    other = copy.deepcopy(pinned)
    other["appSpecContent"]["taskDefinition"]["family"] = "store"
    assert revisions.digest_of_revision(other) != revisions.digest_of_revision(pinned)
