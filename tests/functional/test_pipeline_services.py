"""CodeDeployToECS: a service's documents out of artifacts, filled in, and deployed as they are then."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import docker
import pytest
from sqlalchemy import select, update

from config import wiring
from hooks.deployments.health.probing import Prober
from hooks.deployments.platforms.container.platform import ContainerPlatform
from hooks.deployments.platforms.container.settings import HostSettings, Pace
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.deployments.targets import QUEUE
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models import Deployment, DeploymentApplication, DeploymentGroup, Job
from hooks.pipelines.actions import timeouts
from hooks.pipelines.service_texts import MAX_BYTES, image_of, task_definition
from registry.errors import Invalid
from registry.upstream.guard import AddressPolicy
from tests.fakes.receiver import Receiver
from tests.functional.test_action_jobs import TYPE_ID, Yard, zipped
from tests.harness.podman import IMAGE as ENGINE_IMAGE
from tests.harness.podman import Podman
from tests.routing import ask, haproxy
from tests.services import GROUP, revision

IMAGE = f"images.example/shop@sha256:{'a1' * 32}"
TASK = {
    "family": "shop",
    "containerDefinitions": [
        {
            "name": "app",
            "image": "<IMAGE1_NAME>",
            "portMappings": [{"containerPort": 8080}],
            "environment": [{"name": "RUNS", "value": "shop as <IMAGE1_NAME>"}],
        }
    ],
}
APPSPEC = """version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: <TASK_DEFINITION>
        LoadBalancerInfo: {ContainerName: app, ContainerPort: 8080}
"""
DOCUMENT = """name: ships
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "*"}
    outputArtifacts: [{name: App}]
- name: Build
  actions:
  - name: Build
    actionTypeId: {category: Build, owner: Custom, provider: Signer, version: "1"}
    configuration: {Pool: big, Passphrase: "not-told-anybody"}
    outputArtifacts: [{name: Documents}, {name: Image}]
- name: Ship
  actions:
  - name: Ship
    namespace: ship
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeployToECS, version: "1"}
    configuration:
      ApplicationName: shop
      DeploymentGroupName: live
      TaskDefinitionTemplateArtifact: Documents
      AppSpecTemplateArtifact: Documents
      AppSpecTemplatePath: deploy/appspec.yaml
      Image1ArtifactName: Image
      Image1ContainerName: IMAGE1_NAME
    inputArtifacts: [{name: Documents}, {name: Image}]
"""


class Documents(DummyPlatform):
    """Targets that exist in a document alone, and the container platform's own reading of revisions."""

    def check_revision(self, revision: Mapping[str, Any]) -> Any:
        return ContainerPlatform.check_revision(self, revision)  # type: ignore[arg-type]


class Quay(Yard):
    """A yard with a service to be deployed."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        super().__init__(folder, receiver)
        self.platform = Documents(clock=lambda: self.now.timestamp())
        self.hooks.deployments.platforms["ECS"] = self.platform  # type: ignore[index]
        with self.db.write() as session:
            about = {"created_by": "admin", "created_at": self.now, "updated_at": self.now}
            shop = DeploymentApplication(name="shop", domain="default", compute_platform="ECS", **about)
            session.add(shop)
            session.flush()
            document = {"dummyTargets": ["shop"], "dummyEvents": ["Install"]}
            session.add(
                DeploymentGroup(id=uuid.uuid4().hex, application_id=shop.id, name="live", document=document, **about)
            )
        self.apply(DOCUMENT)

    def work(self) -> None:
        table = wiring.deployment_jobs(self.hooks.deployments)
        while True:
            super().work()
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="d", queues=[QUEUE], kinds=list(table.handlers), free=10, lease_seconds=600
                )
            if not claimed:
                return
            for job in claimed:
                Attempt(
                    self.db, job, handler=table.handlers[job.kind], settle=None, lease_seconds=600,
                    first_retry_seconds=600,
                ).run()  # fmt: skip

    def build(self, documents: bytes, image: bytes) -> Any:
        """An execution whose build has left these artifacts, and what became of it."""
        execution = self.start("ships")
        (job,) = self.poll()
        assert job["data"]["actionTypeId"] == TYPE_ID
        self.put(job, "acknowledge", {"nonce": job["nonce"]})
        token = job["data"]["artifactCredentials"]["sessionToken"]
        for artifact, body in zip(job["data"]["outputArtifacts"], (documents, image), strict=True):
            assert self.fetch(artifact["location"]["url"], token, "PUT", body).status_code == 200
        self.put(job, "success", {})
        self.work()
        return execution

    def summary(self, execution: Any) -> str:
        return str(self.action(execution, "Ship", "Ship")["summary"])


@pytest.fixture(scope="module")
def quay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quay]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        made = Quay(tmp_path_factory.mktemp("quay"), receiver)
        yield made
        made.close()


def documents(task: Any = TASK, appspec: str = APPSPEC) -> bytes:
    return zipped(**{"taskdef.json": json.dumps(task), "deploy/appspec.yaml": appspec})


def image(uri: str = IMAGE) -> bytes:
    return zipped(**{"imageDetail.json": json.dumps({"ImageURI": uri})})


def test_a_service_is_deployed_from_the_documents_of_a_build(quay: Quay) -> None:
    execution = quay.build(documents(), image())
    action = quay.action(execution, "Ship", "Ship")
    assert action["status"] == "Succeeded", action
    with quay.db.read() as session:
        row = session.scalars(select(Deployment)).one()
        content = row.revision["appSpecContent"]
    assert content["content"] == APPSPEC
    (container,) = content["taskDefinition"]["containerDefinitions"]
    assert container["image"] == IMAGE
    assert container["environment"][0]["value"] == f"shop as {IMAGE}"
    assert action["outputVariables"]["DeploymentId"] == action["deploymentId"] == row.id
    assert row.initiator == "codepipeline/ships"
    assert quay.status(execution) == "Succeeded"


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ((documents(), image("images.example/shop:latest")), "named by its digest"),
        ((documents(), image('","privileged":true,"x":"')), "named by its digest"),
        ((documents(), zipped(**{"imageDetail.json": "[]"})), "imageDetail.json has no ImageURI"),
        ((documents(), zipped(**{"other.json": "{}"})), "imageDetail.json in artifact Image"),
        ((zipped(**{"deploy/appspec.yaml": APPSPEC}), image()), "taskdef.json in artifact Documents"),
        ((zipped(**{"taskdef.json": "{", "deploy/appspec.yaml": APPSPEC}), image()), "taskdef.json is no JSON"),
        ((documents(appspec="version: 0.0\nos: linux\n"), image()), "not deployed to shop/live"),
        ((documents({**TASK, "volumes": [{"name": "v"}]}), image()), "nothing of the host is mounted"),
    ],
    ids=["tag", "JSON in a name", "no URI", "no detail", "no task", "no JSON", "servers' appspec", "volumes"],
)
def test_documents_that_cannot_be_deployed_fail_the_action(quay: Quay, left: tuple[bytes, bytes], told: str) -> None:
    execution = quay.build(*left)
    assert told in quay.summary(execution)
    assert quay.status(execution) == "Failed"


def test_an_artifact_has_at_most_three_megabytes(quay: Quay) -> None:
    import random

    big = random.Random(1).randbytes(MAX_BYTES).hex()[: MAX_BYTES * 2]
    execution = quay.build(zipped(**{"taskdef.json": json.dumps(TASK), "big": big * 2}), image())
    assert "is larger than" in quay.summary(execution)


def test_settings_name_artifacts_and_come_in_pairs(quay: Quay) -> None:
    refused = quay.apply(DOCUMENT.replace("Image1ArtifactName: Image", "Image1ArtifactName: Other"), 400)
    assert "'Other' is none of the input artifacts" in json.dumps(refused)
    quay.apply(DOCUMENT.replace("      Image1ContainerName: IMAGE1_NAME\n", "").replace("name: ships", "name: odd"))
    execution = quay.start("odd")
    (job,) = quay.poll()
    quay.put(job, "acknowledge", {"nonce": job["nonce"]})
    token = job["data"]["artifactCredentials"]["sessionToken"]
    for artifact, body in zip(job["data"]["outputArtifacts"], (documents(), image()), strict=True):
        assert quay.fetch(artifact["location"]["url"], token, "PUT", body).status_code == 200
    quay.put(job, "success", {})
    assert "belong together" in quay.summary(execution)


def test_placeholders_are_replaced_in_strings_alone() -> None:
    filled = task_definition('{"<A>": ["<A>", {"b": "x<A><B>"}], "n": 1}', {"A": '"], "x": ["', "B": "<A>"})
    assert filled == {"<A>": ['"], "x": ["', {"b": 'x"], "x": ["<A>'}], "n": 1}
    for text in ("", "[]", "3", "[" * 100_000):
        with pytest.raises(Invalid):
            task_definition(text, {})
    with pytest.raises(Invalid):
        image_of('{"ImageURI": 7}')


@pytest.mark.long
def test_a_real_container_serves_what_a_pipeline_has_deployed(
    podman: Podman, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    client = docker.APIClient(f"unix://{podman.socket}", "1.41")
    [digest] = client.inspect_image(ENGINE_IMAGE)["RepoDigests"]
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver, haproxy(tmp_path) as edge:
        quay = Quay(tmp_path / "quay", receiver)
        host = HostSettings(f"unix://{podman.socket}", first_port=21600, last_port=21649)
        quay.hooks.deployments.platforms["ECS"] = ContainerPlatform(  # type: ignore[index]
            {"docks": host},
            {"edge": edge.router},
            clock=lambda: quay.now,
            ask=Prober(AddressPolicy((ip_network("127.0.0.1"),))).check,
            pace=Pace(poll=1.0, watch=300.0, tolerated_failures=1),
        )
        with quay.db.write() as session:
            session.scalars(select(DeploymentGroup)).one().document = dict(GROUP)
        content = revision(digest, "by a pipeline")["appSpecContent"]
        (container,) = content["taskDefinition"]["containerDefinitions"]
        container["image"] = "<IMAGE1_NAME>"
        execution = quay.build(documents(content["taskDefinition"], content["content"]), image(digest))
        try:
            for _ in range(200):
                if quay.status(execution) != "InProgress":
                    break
                quay.now += timedelta(seconds=5)
                with quay.db.write() as session:
                    due = update(Job).where(Job.state == "queued", Job.kind != timeouts.JOB_KIND)
                    session.execute(due.values(run_after=0))
                quay.work()
                time.sleep(0.05)
            assert quay.status(execution) == "Succeeded", quay.summary(execution)
            assert ask(edge.port) == "by a pipeline"
        finally:
            for made in client.containers(all=True, filters={"label": ["entrepot.group-id"]}):
                client.remove_container(made["Id"], force=True)
            quay.close()
