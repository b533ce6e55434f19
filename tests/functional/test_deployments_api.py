"""Applications, groups, configurations, revisions and deployments over the management interface."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from hooks.deployments import engine, revisions, uploads, watching
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentUpload,
)
from registry.errors import Conflict
from registry.models import Asset, Blob, Event, Package, PackageVersion
from registry.repos import states
from tests.functional.api_world import World

GROUP = "ec2TagFilters: [{Key: role, Value: web}]\ndeploymentConfigName: CodeDeployDefault.AllAtOnce\n"
APPLICATIONS = "/deployment-applications"


def bundle(text: str = "version: 0.0\nos: linux\nfiles: []\n") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("appspec.yml")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def machine(name: str, role: str, now: datetime) -> DeploymentAgent:
    """A machine whose agent has enrolled."""
    return DeploymentAgent(
        id=name,
        name=name,
        tags=[{"Key": "role", "Value": role}],
        domains=[],
        created_by="admin",
        created_at=now,
        enrolled_at=now,
        seen_at=now,
    )


def step(world: World, agent: str, status: EventStatus = EventStatus.SUCCEEDED, *, fails: str = "") -> str | None:
    """Let a machine do its next event, which fails if it is ``fails``; which one it was."""
    with world.db.write() as session:
        found = engine.next_for_agent(session, agent, world.now)
        if found is None:
            return None
        assert engine.event_begun(session, found[2], world.now)
        is_bad = status is EventStatus.FAILED or found[2].name == fails
        result = EventResult(found[2].name, EventStatus.SUCCEEDED)
        if is_bad:
            told = ("it broke", "stop.sh", "the last words")
            result = EventResult(found[2].name, EventStatus.FAILED, ErrorCode.SCRIPT_FAILED, *told)
        engine.event_ended(session, world.hooks.deployments, found[2], result, world.now)
        return found[2].name


class Deploying(World):
    """A world with an application, a group, two machines of it, and one of another role."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, environment)
        with self.db.write() as session:
            self.services.stores.new_key(session, None, self.now)  # as the first start of a server makes one
        self.tokens["deployer"] = self.account("deployer", "read", "promote", repositories=["default/*"])
        self.shas = [self.publish("dev", "Shop", "1.0", canonical="1", suffix=each) for each in (".tar.gz", ".zip")]
        self.made = 0
        with self.db.write() as session:
            for name, role in (("web-1", "web"), ("web-2", "web"), ("db-1", "db")):
                session.add(machine(name, role, self.now))

    def done(self, method: str, path: str, status: int = 200, as_: str = "admin", **options: object) -> dict:
        answer = self.call(method, path, as_=as_, **options)
        assert answer.status_code == status, answer.text
        return answer.json

    def group(self, document: str = GROUP) -> tuple[str, str]:
        """A fresh application with a group."""
        self.made += 1
        name = f"app-{self.made}"
        self.done("POST", APPLICATIONS, 201, json={"applicationName": name})
        self.done("PUT", f"{APPLICATIONS}/{name}/groups/prod", json={"document": document})
        return name, f"{APPLICATIONS}/{name}/groups/prod"

    def upload(self, application: str, data: bytes | None = None, as_: str = "deployer") -> dict:
        data = bundle(f"# {self.made} {application}\nversion: 0.0\nos: linux\n") if data is None else data
        return self.done("POST", f"{APPLICATIONS}/{application}/uploads", 201, as_=as_, data=data)

    def deploy(self, application: str, status: int = 201, as_: str = "deployer", **more: object) -> dict:
        body = {"applicationName": application, "deploymentGroupName": "prod", **more}
        return self.done("POST", "/deployments", status, as_=as_, json=body)

    def deploy_upload(self, application: str, data: bytes | None = None, **more: object) -> dict:
        upload = self.upload(application, data)["id"]
        return self.deploy(application, revision={"revisionType": "Upload", "upload": {"id": upload}}, **more)

    def run(self, *agents: str, fails: str = "") -> None:
        """Let machines do all that there is for them; ``fails`` is the event that fails there."""
        for agent in agents:
            while step(self, agent, fails=fails) is not None:
                pass

    def coming(self, agent: str) -> str | None:
        with self.db.read() as session:
            found = engine.next_for_agent(session, agent, self.now)
            return None if found is None else found[2].name

    def begin(self, deployment_id: str) -> None:
        """What a worker does with one that is queued."""
        with self.db.write() as session:
            engine.advance(session, self.hooks.deployments, deployment_id, self.now)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploying]:
    made = Deploying(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


PACKAGE = {"repository": "dev", "format": "pypi", "name": "sHop", "version": "1.0"}


def package(**more: str) -> dict:
    return {"revisionType": "Package", "package": {**PACKAGE, **more}}


# --- a deployment from beginning to end ------------------------------------------------------------------------------


def test_a_deployment_from_the_upload_to_the_version_on_the_machines(world: Deploying) -> None:
    name, group = world.group()
    made = world.deploy_upload(name, description="first", fileExistsBehavior="OVERWRITE")
    assert (made["status"], made["deploymentConfigName"]) == ("InProgress", "CodeDeployDefault.AllAtOnce")
    assert made["deploymentOverview"]["InProgress"] == 2
    assert made["fileExistsBehavior"] == "OVERWRITE"
    one = f"/deployments/{made['deploymentId']}"
    assert [step(world, "web-1"), step(world, "web-1")] == ["ApplicationStop", "DownloadBundle"]
    (first, second) = world.done("GET", f"{one}/targets", as_="deployer")["items"]
    assert (first["name"], first["status"]) == ("web-1", "InProgress")
    assert [each["status"] for each in first["lifecycleEvents"][:3]] == ["Succeeded", "Succeeded", "Pending"]
    assert second["lifecycleEvents"][0]["diagnostics"] is None
    world.run("web-1", "web-2")
    shown = world.done("GET", one, as_="deployer")
    assert (shown["status"], shown["complete"]) == ("Succeeded", True)
    assert shown["deploymentStatusMessages"] == ["Succeeded (2/2 targets succeeded)"]
    found = world.done("GET", group)
    assert found["lastSuccessfulDeployment"]["deploymentId"] == made["deploymentId"]
    assert found["targetRevision"] == made["revision"]
    there = world.done("GET", f"{group}/targets", as_="deployer")["items"]
    assert [(each["name"], each["isCurrent"], each["isHealthy"], each["drift"]) for each in there] == [
        ("web-1", True, True, "unknown"),
        ("web-2", True, True, "unknown"),
    ]
    assert ("deployer", "deployment.create") in {entry[:2] for entry in world.audit()}


def test_a_failed_script_is_told_with_its_tail_and_the_same_again_goes_to_the_failed_target_alone(
    world: Deploying,
) -> None:
    name, _ = world.group()
    made = world.deploy_upload(name, autoRollbackConfiguration={"enabled": False})
    world.run("web-1")
    world.run("web-2", fails="AfterInstall")
    one = f"/deployments/{made['deploymentId']}"
    target = world.done("GET", f"{one}/targets", as_="deployer")["items"][1]
    (failed,) = [event for event in target["lifecycleEvents"] if event["status"] == "Failed"]
    assert failed["lifecycleEventName"] == "AfterInstall"
    assert failed["diagnostics"] == {
        "errorCode": "ScriptFailed",
        "agentErrorCode": 4,
        "scriptName": "stop.sh",
        "message": "it broke",
        "logTail": "the last words",
    }
    assert world.done("GET", f"{one}/targets/{target['targetId']}", as_="deployer") == target
    again = world.done("POST", f"{one}/retry", 201, as_="deployer", json={"skipEvents": ["ApplicationStop"]})
    assert again["retryOf"] == made["deploymentId"]
    assert again["revision"] == made["revision"]
    world.begin(again["deploymentId"])
    (only,) = world.done("GET", f"/deployments/{again['deploymentId']}/targets")["items"]
    assert (only["name"], only["lifecycleEvents"][0]["status"]) == ("web-2", "Skipped")
    world.run("web-2")
    assert world.done("GET", f"/deployments/{again['deploymentId']}")["status"] == "Succeeded"


def test_pausing_resuming_stopping_and_bringing_back_what_was_there(world: Deploying) -> None:
    name, group = world.group()
    first = world.deploy_upload(name)
    world.run("web-1", "web-2")
    second = world.deploy_upload(name, bundle("second"))
    one = f"/deployments/{second['deploymentId']}"
    assert second["previousRevision"] == first["revision"]
    step(world, "web-1")
    assert world.done("POST", f"{one}/pause", as_="deployer")["isPaused"]
    assert world.coming("web-1") is None
    assert not world.done("POST", f"{one}/resume", as_="deployer")["isPaused"]
    assert world.coming("web-1") is not None
    world.done("POST", f"{one}/stop", as_="deployer", json={"autoRollbackEnabled": False})
    world.run("web-1", "web-2")
    stopped = world.done("GET", one)
    assert (stopped["status"], stopped["stoppedBy"]) == ("Stopped", "deployer")
    assert stopped["errorInformation"]["code"] == "MANUAL_STOP"
    back = world.done("POST", f"{one}/rollback", as_="deployer")
    assert back["creator"] == "codeDeployRollback"
    assert back["revision"] == first["revision"]
    assert back["rollbackInfo"]["rollbackTriggeringDeploymentId"] == second["deploymentId"]
    assert world.done("GET", one)["rollbackInfo"]["rollbackDeploymentId"] == back["deploymentId"]
    assert world.done("POST", f"{one}/pause", 409)["code"] == "conflict"
    world.begin(back["deploymentId"])
    world.run("web-1", "web-2")
    assert world.done("GET", group)["lastSuccessfulDeployment"]["deploymentId"] == back["deploymentId"]


def test_targets_by_status_and_several_deployments_at_once(world: Deploying) -> None:
    name, _ = world.group()
    made = world.deploy_upload(name)
    world.run("web-1")
    world.run("web-2", fails="AfterInstall")
    targets = f"/deployments/{made['deploymentId']}/targets"

    def listed(**query: str) -> list[str]:
        return [each["name"] for each in world.done("GET", targets, query_string=query)["items"]]

    assert (listed(status="Failed"), listed(status="Succeeded,Failed")) == (["web-2"], ["web-1", "web-2"])
    assert (listed(label="Green"), listed(status="Pending")) == ([], [])
    for wrong in ({"status": "Broken"}, {"label": "Red"}):
        assert world.call("GET", targets, query_string=wrong).status_code == 400
    again = world.deploy_upload(name)
    ids = [again["deploymentId"], "d-NOWHERE1", made["deploymentId"], again["deploymentId"]]
    found = world.done("POST", "/deployments/batch", as_="deployer", json={"deploymentIds": ids})["items"]
    assert [each["deploymentId"] for each in found] == [again["deploymentId"], made["deploymentId"]]
    assert found[1] == world.done("GET", f"/deployments/{made['deploymentId']}")
    assert world.done("POST", "/deployments/batch", as_="stranger", json={"deploymentIds": ids})["items"] == []
    assert world.call("POST", "/deployments/batch", json={"deploymentIds": ["d"] * 26}).status_code == 400
    world.run("web-1", "web-2")


def test_guided_failure_asks_and_a_stuck_stop_script_is_passed_over(world: Deploying) -> None:
    name, _ = world.group()
    made = world.deploy_upload(name, guidedFailure=True)
    one = f"/deployments/{made['deploymentId']}"
    web_1, web_2 = (each["targetId"] for each in world.done("GET", f"{one}/targets")["items"])
    world.done("POST", f"{one}/targets/{web_1}/skip", as_="deployer", json={"lifecycleEventName": "ApplicationStop"})
    assert world.coming("web-1") == "DownloadBundle"
    refused = world.call("POST", f"{one}/targets/{web_1}/skip", json={"lifecycleEventName": "Install"})
    assert refused.status_code == 400
    world.run("web-2", fails="ApplicationStart")
    assert world.done("GET", one)["isPaused"]
    assert world.call("POST", f"{one}/resume").status_code == 409
    assert world.call("POST", f"{one}/targets/{web_2}/answer", json={"answer": "shrug"}).status_code == 400
    world.done("POST", f"{one}/targets/{web_2}/answer", as_="deployer", json={"answer": "retry"})
    world.run("web-1", "web-2")
    assert world.done("GET", one)["status"] == "Succeeded"
    assert world.call("POST", f"{one}/targets/{web_2 + 1000}/skip", json={"lifecycleEventName": "x"}).status_code == 404


def test_the_preview_says_where_a_deployment_would_go_and_nothing_is_made(world: Deploying) -> None:
    name, _ = world.group()
    first = world.deploy_upload(name, targets=["web-2"])
    world.run("web-2")
    body = {"applicationName": name, "deploymentGroupName": "prod", "updateOutdatedInstancesOnly": True}
    found = world.done("POST", "/deployments/preview", as_="deployer", json=body)
    assert found["revision"] == first["revision"]
    assert [(each["name"], each["isChanged"], each["isSkipped"]) for each in found["items"]] == [
        ("web-1", True, False),
        ("web-2", False, True),
    ]
    found = world.done("POST", "/deployments/preview", json={**body, "revision": package(asset="Shop-1.0.tar.gz")})
    assert [(each["name"], each["becomes"]) for each in found["items"]] == [("web-1", "1"), ("web-2", "1")]
    assert found["items"][1]["version"].startswith("upload ")
    with world.db.read() as session:
        group = select(DeploymentGroup.id).where(DeploymentGroup.id == first["deploymentGroupId"])
        assert session.scalar(select(func.count()).where(Deployment.group_id == group.scalar_subquery())) == 1


def test_a_first_failure_leaves_nothing_installed_and_says_so(world: Deploying) -> None:
    name, group = world.group()
    made = world.deploy_upload(name)
    world.run("web-1", fails="BeforeInstall")
    world.run("web-2")
    there = {each["name"]: each for each in world.done("GET", f"{group}/targets")["items"]}
    known = ("version", "revisionLabel", "deploymentId", "installedAt", "isHealthy", "isCurrent", "drift")
    assert [there["web-1"][field] for field in known] == [None, None, None, None, False, False, "unknown"]
    assert (there["web-2"]["deploymentId"], there["web-2"]["isCurrent"]) == (made["deploymentId"], True)
    body = {"applicationName": name, "deploymentGroupName": "prod", "updateOutdatedInstancesOnly": True}
    found = world.done("POST", "/deployments/preview", json=body)["items"]
    assert [(each["name"], each["version"], each["isChanged"], each["isHealthy"]) for each in found] == [
        ("web-1", None, True, False),
        ("web-2", made["version"], False, True),
    ]


def test_a_machine_s_record_ends_with_the_machine(world: Deploying) -> None:
    with world.db.write() as session:
        session.add(machine("old-1", "old", world.now))
    name, group = world.group(GROUP.replace("web", "old"))
    world.deploy_upload(name)
    world.run("old-1")
    assert [each["isHealthy"] for each in world.done("GET", f"{group}/targets")["items"]] == [True]
    world.done("DELETE", "/agents/old-1", 204)
    assert world.done("GET", f"{group}/targets")["items"] == []
    with world.db.write() as session:
        session.add(machine("old-1", "old", world.now))
    assert [each["version"] for each in world.done("GET", f"{group}/targets")["items"]] == [None]


def test_the_same_bytes_are_the_same_revision_to_the_preview_and_to_the_deployment(world: Deploying) -> None:
    name, _ = world.group()
    world.deploy_upload(name, bundle())
    world.run("web-1", "web-2")
    again = {"revisionType": "Upload", "upload": {"id": world.upload(name, bundle())["id"]}}
    body = {"applicationName": name, "deploymentGroupName": "prod", "updateOutdatedInstancesOnly": True}
    found = world.done("POST", "/deployments/preview", json={**body, "revision": again})["items"]
    assert [each["isSkipped"] for each in found] == [True, True]
    made = world.deploy(name, revision=again, updateOutdatedInstancesOnly=True)
    assert (made["status"], world.coming("web-1"), world.coming("web-2")) == ("Succeeded", None, None)


def test_what_an_agent_has_seen_is_compared_with_what_was_installed(world: Deploying) -> None:
    name, group = world.group()
    made = world.deploy_upload(name)
    world.run("web-1", "web-2")
    seen = {"deploymentId": made["deploymentId"], "changedCount": 2, "missingCount": 1}
    with world.db.write() as session:
        for target, found in (("web-1", seen), ("web-2", {**seen, "deploymentId": "d-OTHER"})):
            session.execute(
                update(DeploymentInstallation)
                .where(DeploymentInstallation.target == target)
                .where(DeploymentInstallation.group_id == made["deploymentGroupId"])
                .values(found=found, found_at=world.now)
            )
    there = world.done("GET", f"{group}/targets")["items"]
    assert [(each["drift"], each["changedFiles"]) for each in there] == [("changed", 3), ("other", 0)]
    has = world.done("GET", "/agents/web-1")["installations"]
    assert (name, "prod", made["deploymentId"]) in [
        (each["applicationName"], each["deploymentGroupName"], each["deploymentId"]) for each in has
    ]


def test_an_alarm_s_state_is_told_by_who_may_deploy(world: Deploying) -> None:
    pager = "/domains/default/deployment-alarms/pager"
    world.done("PUT", pager, as_="deployer", json={"state": "OK"})
    told = world.done("PUT", pager, as_="deployer", json={"state": "ALARM", "reason": "too many errors"})
    assert (told["state"], told["reason"], told["createdBy"]) == ("ALARM", "too many errors", "deployer")
    assert world.call("PUT", pager, json={"state": "LOUD"}).status_code == 400
    assert world.call("GET", "/domains/nowhere/deployment-alarms").status_code == 404
    (listed,) = world.done("GET", "/domains/default/deployment-alarms")["items"]
    assert listed == told
    document = f"{GROUP}alarmConfiguration: {{enabled: true, alarms: [{{name: pager}}]}}\n"
    name, _ = world.group(document)
    made = world.deploy_upload(name)
    with world.db.write() as session:
        watching.note(session, world.hooks.deployments, made["deploymentId"], {})
    ended = world.done("GET", f"/deployments/{made['deploymentId']}")
    assert (ended["status"], ended["errorInformation"]["code"]) == ("Stopped", "ALARM_ACTIVE")
    assert world.call("DELETE", pager, as_="reader").status_code in {403, 404}
    assert world.call("DELETE", pager, as_="deployer").status_code == 204
    assert world.call("DELETE", pager, as_="deployer").status_code == 404
    assert world.done("GET", "/domains/default/deployment-alarms")["items"] == []


# --- lists -----------------------------------------------------------------------------------------------------------


def test_deployments_come_in_pages_by_group_and_status_and_only_to_who_may_see_them(world: Deploying) -> None:
    name, _ = world.group()
    ids = []
    for _ in range(3):
        ids.append(world.deploy_upload(name)["deploymentId"])
        world.now += timedelta(seconds=1)
    newest = list(reversed(ids))
    first = world.done("GET", f"/deployments?application={name}&group=prod&limit=2", as_="deployer")
    assert [each["deploymentId"] for each in first["items"]] == newest[:2]
    second = world.done("GET", f"/deployments?application={name}&after={first['next']}", as_="deployer")
    assert ([each["deploymentId"] for each in second["items"]], second["next"]) == (newest[2:], None)
    queued = world.done("GET", f"/deployments?application={name}&status=Queued,Created")["items"]
    assert {each["status"] for each in queued} == {"Queued"}
    assert len(queued) == 2
    assert world.done("GET", "/deployments", as_="reader")["items"] == []
    assert world.call("GET", f"/deployments?application={name}", as_="reader").status_code == 404
    assert world.call("GET", "/deployments?status=Sideways").status_code == 400
    assert world.call("GET", "/deployments?group=prod").status_code == 400
    for deployment_id in newest:
        world.done("POST", f"/deployments/{deployment_id}/stop")
    world.run("web-1", "web-2")


def test_applications_come_in_pages_by_name(world: Deploying) -> None:
    world.group()
    world.group()
    first = world.done("GET", f"{APPLICATIONS}?limit=1")
    assert first["next"] == first["items"][0]["applicationName"]
    rest = world.done("GET", f"{APPLICATIONS}?after={first['next']}&limit=200")
    assert rest["next"] is None
    assert first["items"][0] not in rest["items"]
    assert world.done("GET", APPLICATIONS, as_="stranger")["items"] == []


# --- applications, groups, configurations ----------------------------------------------------------------------------


def test_an_application_is_renamed_and_deleted_with_all_that_is_its_own(world: Deploying) -> None:
    name, group = world.group()
    made = world.deploy_upload(name)
    assert world.call("DELETE", f"{APPLICATIONS}/{name}").status_code == 409, "a deployment goes on"
    world.run("web-1", "web-2")
    other, _ = world.group()
    assert world.call("PATCH", f"{APPLICATIONS}/{name}", json={"newApplicationName": other}).status_code == 409
    world.done("PATCH", f"{APPLICATIONS}/{name}", json={"newApplicationName": f"{name}-new"})
    assert world.call("GET", group).status_code == 404
    assert world.call("DELETE", f"{APPLICATIONS}/{name}-new").status_code == 204
    assert world.call("GET", f"{APPLICATIONS}/{name}-new").status_code == 404
    assert world.done("GET", f"/deployments/{made['deploymentId']}")["applicationName"] == f"{name}-new"
    with world.db.read() as session:
        kinds = list(session.scalars(select(Event.kind).where(Event.kind.like("application.%"))))
    assert kinds[-2:] == ["application.renamed", "application.deleted"]
    again, _ = world.group()
    world.done("PATCH", f"{APPLICATIONS}/{again}", json={"newApplicationName": f"{name}-new"})  # the name is free


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"applicationName": "with space"}, 400),
        ({"applicationName": "x", "computePlatform": "Lambda"}, 400),
        ({"applicationName": "x", "domain": "nowhere"}, 404),
        ({"applicationName": "x", "isAdmin": True}, 400),
    ],
)
def test_an_application_that_cannot_be(world: Deploying, body: dict, status: int) -> None:
    before = world.done("GET", APPLICATIONS)
    assert world.call("POST", APPLICATIONS, json=body).status_code == status
    assert world.done("GET", APPLICATIONS) == before


def test_who_changes_a_group_says_which_one_they_have_seen(world: Deploying) -> None:
    _, group = world.group()
    seen = world.done("GET", group)
    assert world.done("PUT", group, json={"document": GROUP})["change"] == "unchanged"
    changed = world.done("PUT", group, json={"document": GROUP + "maxConcurrent: 1\n", "etag": seen["etag"]})
    assert (changed["change"], changed["document"]["maxConcurrent"]) == ("updated", 1)
    for etag in (seen["etag"], ""):
        assert world.call("PUT", group, json={"document": GROUP, "etag": etag}).status_code == 409
    shown = world.done("GET", group)
    assert shown["etag"] == changed["etag"]
    world.done("PUT", group, json={"document": json.dumps(shown["document"])})


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ("ec2TagFilters: [{Key: a, Type: BOTH}]\nnonsense: 1", "line 2: nonsense"),
        ("deploymentConfigName: nowhere", "nowhere"),
        ("deploymentConfigName: CodeDeployDefault.ECSAllAtOnce", "platform ECS"),
        ("loadBalancerInfo: {targetGroupInfoList: [{name: edge/shop}]}", "edge"),
        ("applicationName: other", "was sent to"),
    ],
)
def test_a_group_with_faults_changes_nothing(world: Deploying, document: str, part: str) -> None:
    _, group = world.group()
    before = world.done("GET", group)
    refused = world.call("PUT", group, json={"document": document})
    assert refused.status_code == 400
    assert part in refused.json["detail"]
    assert world.done("GET", group) == before


def test_a_deployment_keeps_the_document_it_was_made_with(world: Deploying) -> None:
    name, group = world.group()
    made = world.deploy_upload(name)
    world.done("PUT", group, json={"document": "ec2TagFilters: [{Key: role, Value: db}]"})
    with world.db.read() as session:
        kept = session.get_one(Deployment, made["deploymentId"]).group_document
    assert kept["ec2TagFilters"][0]["Value"] == "web"
    world.run("web-1", "web-2")


def test_configurations_of_one_s_own_never_change_and_stay_while_a_group_names_them(world: Deploying) -> None:
    text = "deploymentConfigName: most\nminimumHealthyHosts: {type: FLEET_PERCENT, value: 75}"
    world.done("POST", "/deployment-configs", 201, json={"document": text})
    assert world.call("POST", "/deployment-configs", json={"document": text}).status_code == 409
    assert world.call("POST", "/deployment-configs", json={"document": text.partition("\n")[2]}).status_code == 400
    names = [each["deploymentConfigName"] for each in world.done("GET", "/deployment-configs", as_="reader")["items"]]
    assert {"most", "CodeDeployDefault.OneAtATime"} < set(names)
    _, group = world.group("targets: [web-1]\ndeploymentConfigName: most")
    assert world.call("DELETE", "/deployment-configs/most").status_code == 409
    assert world.call("DELETE", "/deployment-configs/CodeDeployDefault.AllAtOnce").status_code == 400
    assert world.call("DELETE", group).status_code == 204
    assert world.call("DELETE", "/deployment-configs/most").status_code == 204
    assert world.call("GET", "/deployment-configs/most").status_code == 404


# --- revisions -------------------------------------------------------------------------------------------------------


def test_a_package_version_is_pinned_whole_or_by_one_file(world: Deploying) -> None:
    name, _ = world.group("targets: [nobody]")
    whole = world.deploy(name, revision=package())["revision"]["package"]
    assert (whole["name"], whole["version"], whole["asset"]) == ("shop", "1", None)
    assert whole["assets"] == {"Shop-1.0.tar.gz": world.shas[0], "Shop-1.0.zip": world.shas[1]}
    one = world.deploy(name, revision=package(asset="Shop-1.0.zip", sha256=world.shas[1]))
    assert one["revision"]["package"]["sha256"] == world.shas[1]
    assert one["errorInformation"]["code"] == "NO_INSTANCES"
    for more in ({"asset": "Shop-1.0.zip", "sha256": "0" * 64}, {"asset": "nothing.zip"}, {"sha256": "0" * 64}):
        assert world.deploy(name, 409, revision=package(**more))["code"] == "revision_refused"
    for more in ({"version": "2"}, {"name": "nothing"}, {"repository": "nowhere"}):
        world.deploy(name, 404, revision=package(**more))


def test_who_may_not_read_where_a_revision_comes_from_does_not_deploy_it(world: Deploying) -> None:
    name, _ = world.group("targets: [nobody]")
    place = "/domains/default/repositories/dev/permissions/policy"
    statement = {
        "Effect": "Deny",
        "Principal": "user/deployer",
        "Action": "codeartifact:ReadFromRepository",
        "Resource": "*",
    }
    body = {"applicationName": name, "deploymentGroupName": "prod"}
    made = world.deploy(name, revision=package())
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    world.done("PUT", place, json={"policyDocument": policy})
    try:
        world.deploy(name, 403, revision=package())
        world.done("POST", "/deployments/preview", 403, as_="deployer", json={**body, "revision": package()})
        world.done("POST", f"/deployments/{made['deploymentId']}/retry", 403, as_="deployer")
    finally:
        world.done("DELETE", place)
    world.deploy(name, revision=package())
    build = {"revisionType": "BuildArtifact", "buildArtifact": {"buildId": "no-such-build"}}
    world.deploy(name, 404, revision=build)


@pytest.mark.parametrize(
    ("revision", "part"),
    [
        ({"revisionType": "S3", "s3Location": {"bucket": "b", "key": "k"}}, "entrepot deploy push"),
        ({"revisionType": "GitHub", "gitHubLocation": {"repository": "r"}}, "entrepot deploy push"),
        ({"revisionType": "Package"}, "has package"),
        ({"revisionType": "AppSpecContent", "appSpecContent": {"content": "version: 0.0"}}, "for containers"),
    ],
)
def test_revisions_that_are_not_carried_out_are_refused_with_what_to_do(
    world: Deploying, revision: dict, part: str
) -> None:
    name, _ = world.group("targets: [nobody]")
    assert part in world.deploy(name, 400, revision=revision)["detail"]


def test_what_is_no_bundle_is_not_taken_and_an_upload_is_its_application_s_own(world: Deploying) -> None:
    name, _ = world.group("targets: [nobody]")
    other, _ = world.group("targets: [nobody]")
    for data in (b"", b"nothing to unpack", b"x" * 1000):
        assert world.call("POST", f"{APPLICATIONS}/{name}/uploads", data=data).status_code == 400
    kinds = {kind: world.upload(name, data) for kind, data in (
        ("tar", bundle("a")), ("tgz", gzip.compress(bundle("a"))), ("zip", b"PK\x05\x06" + bytes(18)),
    )}  # fmt: skip
    assert {kind: each["bundleType"] for kind, each in kinds.items()} == {kind: kind for kind in kinds}
    theirs = {"revisionType": "Upload", "upload": {"id": kinds["tar"]["id"]}}
    assert world.deploy(other, 409, revision=theirs)["code"] == "revision_refused"
    world.deploy(name, revision=theirs)


def opened(world: Deploying, made: dict, filename: str | None = None) -> bytes:
    with world.db.read() as session:
        application_id = session.get_one(Deployment, made["deploymentId"]).application_id
    found = revisions.open_revision(world.db, world.services.stores, made["revision"], application_id, filename)
    with found.body:
        return found.body.read()


def test_a_pinned_revision_is_opened_as_long_as_downloads_would_serve_it(world: Deploying) -> None:
    name, _ = world.group("targets: [nobody]")
    world.publish("dev", "Till", "1.0", canonical="1", suffix=".tar.gz")
    till = {"name": "till", "asset": "Till-1.0.tar.gz"}
    one = world.deploy(name, revision=package(**till))
    whole = world.deploy(name, revision=package(name="till"))
    data = bundle("upload")
    sent = world.deploy_upload(name, data)
    assert opened(world, one) == opened(world, whole, "Till-1.0.tar.gz") == b"bytes of Till-1.0.tar.gz"
    assert opened(world, sent) == data

    def refused() -> str:
        for made, filename in ((one, None), (whole, "Till-1.0.tar.gz")):
            with pytest.raises(Conflict) as caught:
                opened(world, made, filename)
        return str(caught.value)

    with world.db.write() as session:
        row = session.scalars(select(Package).where(Package.name == "till")).one()
        row.status, row.status_reason = "quarantined", "malware"
    assert "quarantined (malware)" in refused()
    world.deploy(name, 409, revision=package(**till))
    with world.db.write() as session:
        row = session.scalars(select(Package).where(Package.name == "till")).one()
        row.status, row.has_states = "active", True
        version = session.scalars(select(PackageVersion).where(PackageVersion.package_id == row.id)).one()
        version.status = states.ARCHIVED
    assert "Archived" in refused()
    with world.db.write() as session:
        session.get_one(PackageVersion, version.id).status = states.PUBLISHED
        asset = session.scalars(select(Asset).where(Asset.version_id == version.id)).one()
        shop = session.scalars(select(Asset).where(Asset.filename == "Shop-1.0.tar.gz")).one()
        asset.blob_id, asset.sha256 = shop.blob_id, shop.sha256
    assert "was replaced" in refused()
    with world.db.write() as session:
        session.delete(session.get_one(Asset, asset.id))
    assert "not there" in refused()
    with pytest.raises(Conflict):
        opened(world, whole, "../../etc/passwd")


def test_uploads_are_forgotten_after_a_week_but_for_those_that_may_be_needed(world: Deploying) -> None:
    name, _ = world.group()
    idle, again = world.upload(name, bundle("idle")), world.upload(name, bundle("idle"))
    assert idle["sha256"] == again["sha256"], "one body, two uploads of it"
    made = world.deploy_upload(name)
    world.run("web-1", "web-2")
    later = world.now + uploads.LIFE + timedelta(seconds=1)
    with world.db.write() as session:
        assert uploads.forget_uploads(session, world.now) == 0
        uploads.forget_uploads(session, later)
    with world.db.read() as session:
        left = set(session.scalars(select(DeploymentUpload.id).join(DeploymentApplication).where(
            DeploymentApplication.name == name)))  # fmt: skip
        assert left == {made["revision"]["upload"]["id"]}
        assert session.scalar(select(func.count()).where(Blob.sha256 == idle["sha256"])) == 1, "the sweep's to take"
