"""Hooks that a webhook's receiver carries out: told with a signature, answered once, and not for ever."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from config import notifying
from hooks.deployments import jobs
from hooks.deployments.ending import STEP_KIND
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.deployments.targets import QUEUE
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.deployment import DeploymentApplication, DeploymentGroup
from hooks.models.job import Job
from hooks.models.notification import WebhookEndpoint
from hooks.notifications import fanout, signing
from tests.fakes.receiver import Receiver
from tests.functional.test_deployments_api import Deploying

LOOPBACK = {"ENTREPOT_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8", "ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true"}
EVENTS = ["BeforeInstall", "Install", "AfterInstall"]


class Harbour(Deploying):
    """A server that deploys to a platform without machines, and a webhook with a real receiver."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        super().__init__(folder, LOOPBACK)
        self.receiver = receiver
        self.webhook, self.secret = self.hears(receiver.url("/ok"), "asset.*")
        self.hears(receiver.url("/other"), "*")
        self.application, _ = self.group()
        self.platform = DummyPlatform(clock=lambda: self.now.timestamp())
        self.hooks.deployments.platforms["Server"] = self.platform  # type: ignore[index]
        self.table = {
            **jobs.handlers(self.hooks.deployments),
            **notifying.handlers(self.settings, self.services),
        }

    def hears(self, url: str, kinds: str) -> tuple[int, str]:
        """A webhook's number, and its secret."""
        made = self.done("POST", "/webhooks", 201, json={"url": url, "kinds": [kinds], "domain": "default"})
        return made["webhook"]["id"], made["secret"]

    def group_with(self, name: str, hooks: dict[str, int]) -> None:
        """A group of a platform that documents cannot name."""
        with self.db.write() as session:
            application = session.scalars(select(DeploymentApplication)).one()
            document = {"dummyTargets": ["shop"], "dummyEvents": EVENTS, "dummyHooks": hooks}
            session.add(
                DeploymentGroup(
                    id=uuid.uuid4().hex,
                    application_id=application.id,
                    name=name,
                    document=document,
                    created_by="admin",
                    created_at=self.now,
                    updated_at=self.now,
                )
            )

    def start(self, group: str) -> str:
        deployment = self.deploy_upload(self.application, deploymentGroupName=group)["deploymentId"]
        self.work()
        return str(deployment)

    def work(self) -> None:
        """Do all jobs that wait, those that are for later as well."""
        with self.db.write() as session:
            session.execute(update(Job).where(Job.kind != STEP_KIND).values(run_after=0))
        while True:
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="w", queues=[QUEUE, fanout.QUEUE], kinds=list(self.table), free=10, lease_seconds=600
                )
            if not claimed:
                return
            for job in claimed:
                Attempt(
                    self.db, job, handler=self.table[job.kind], settle=None, lease_seconds=600, first_retry_seconds=600
                ).run()

    def event(self, deployment: str, name: str) -> dict:
        (target,) = self.done("GET", f"/deployments/{deployment}/targets")["items"]
        return next(each for each in target["lifecycleEvents"] if each["lifecycleEventName"] == name)

    def answer(self, deployment: str, execution: str, status: str = "Succeeded", as_: str | None = "deployer"):
        body = {"lifecycleEventHookExecutionId": execution, "status": status}
        return self.call("PUT", f"/deployments/{deployment}/hook-status", as_=as_, json=body)

    def told(self) -> dict:
        """What the receiver was told last."""
        return self.receiver.got()[-1].event["data"]


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    place = tmp_path_factory.mktemp("hooks")
    with Receiver(place) as receiver:
        made = Harbour(place / "data", receiver)
        made.group_with("live", {"BeforeInstall": made.webhook, "AfterInstall": made.webhook})
        yield made
        made.close()


def test_a_receiver_is_told_answers_and_the_deployment_goes_on(harbour: Harbour) -> None:
    deployment = harbour.start("live")
    (got,) = harbour.receiver.got()
    assert got.path == "/ok"  # the webhook that hears of everything has not heard of this
    at = int(got.headers["webhook-timestamp"])
    assert (
        got.headers["webhook-signature"] == signing.headers(got.id, at, got.body, [harbour.secret])["webhook-signature"]
    )
    assert got.event["type"] == "org.entrepot.deployment-hook.called.v1"
    told = got.event["data"]
    assert (told["deploymentId"], told["lifecycleEventName"]) == (deployment, "BeforeInstall")
    first = told["lifecycleEventHookExecutionId"]
    harbour.work()  # looks at it, and tells nobody again
    assert len(harbour.receiver.got()) == 1
    assert harbour.event(deployment, "BeforeInstall")["status"] == "InProgress"
    done = harbour.answer(deployment, first)
    assert (done.status_code, done.json["lifecycleEventName"]) == (200, "BeforeInstall"), done.text
    harbour.work()
    second = harbour.told()["lifecycleEventHookExecutionId"]
    assert second != first
    again = harbour.answer(deployment, first, "Failed")
    assert (again.status_code, "LifecycleEventAlreadyCompleted" in again.text) == (409, True)
    assert harbour.answer(deployment, second).status_code == 200
    harbour.work()
    assert harbour.done("GET", f"/deployments/{deployment}")["status"] == "Succeeded"
    assert harbour.answer(deployment, second).status_code == 409
    assert harbour.platform.done == [("shop", "Install")]


def test_a_hook_that_fails_fails_its_event(harbour: Harbour) -> None:
    deployment = harbour.start("live")
    execution = harbour.told()["lifecycleEventHookExecutionId"]
    # Somebody has to be who may deploy, to know the id, and to say one of the two words.
    assert harbour.answer(deployment, execution, as_=None).status_code == 401
    assert harbour.answer(deployment, execution, as_="reader").status_code in {403, 404}
    assert harbour.answer(deployment, execution + "x").status_code == 400
    assert harbour.answer(deployment, execution, "Skipped").status_code == 400
    assert harbour.answer(deployment, execution, "Failed").status_code == 200
    assert harbour.answer(deployment, execution, "Failed").status_code == 409  # before the event has ended, too
    harbour.work()
    event = harbour.event(deployment, "BeforeInstall")
    assert (event["status"], event["diagnostics"]["errorCode"]) == ("Failed", "ScriptFailed")
    assert harbour.done("GET", f"/deployments/{deployment}")["status"] == "Failed"


def test_nobody_is_waited_for_longer_than_an_hour(harbour: Harbour) -> None:
    deployment = harbour.start("live")
    execution = harbour.told()["lifecycleEventHookExecutionId"]
    for _ in range(2):
        harbour.now += timedelta(minutes=29)
        harbour.work()
        assert harbour.event(deployment, "BeforeInstall")["status"] == "InProgress"
    harbour.now += timedelta(minutes=3)
    harbour.work()
    event = harbour.event(deployment, "BeforeInstall")
    assert (event["status"], event["diagnostics"]["errorCode"]) == ("Failed", "ScriptTimedOut")
    assert harbour.answer(deployment, execution).status_code == 409


def test_a_webhook_that_is_not_there_or_is_off_fails_the_event_at_once(harbour: Harbour) -> None:
    harbour.group_with("nowhere", {"BeforeInstall": 4711})
    event = harbour.event(harbour.start("nowhere"), "BeforeInstall")
    assert (event["status"], "cannot be told" in event["diagnostics"]["message"]) == ("Failed", True)
    webhook, _ = harbour.hears(harbour.receiver.url("/off"), "*")
    harbour.group_with("off", {"BeforeInstall": webhook})
    with harbour.db.write() as session:
        session.get_one(WebhookEndpoint, webhook).is_enabled = False
    event = harbour.event(harbour.start("off"), "BeforeInstall")
    assert "is disabled" in event["diagnostics"]["message"]
