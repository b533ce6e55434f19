"""Pipelines, executions, approvals and builds over the management interface."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from config import wiring
from hooks.builds import tailing
from hooks.builds.phases import BuildStatus
from hooks.builds.records import finish_build
from hooks.builds.reports.model import FileCoverage
from hooks.builds.reports.result import ReportResult
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.pipelines.engine import on_build_finished
from tests.functional.api_world import World
from tests.report_bench import case, hand_in, result

GATED = """name: release
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "*"}
- name: Gate
  actions:
  - name: Ask
    actionTypeId: {category: Approval, provider: Manual}
- name: Ship
  actions:
  - name: Promote
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
    configuration: {TargetRepository: staging}
- name: Second
  actions:
  - name: Ask
    actionTypeId: {category: Approval, provider: Manual}
- name: Prod
  actions:
  - name: Promote
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
    configuration: {TargetRepository: prod}
"""
BUILT = """name: built
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "*"}
- name: Test
  actions:
  - name: Unit
    actionTypeId: {category: Build, provider: CodeBuild}
    configuration: {ProjectName: unit}
---
buildProject:
  name: unit
"""
DEPLOYS = """name: deploys
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "*"}
- name: Prod
  actions:
  - name: Ship
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}
    configuration: {ApplicationName: shop, DeploymentGroupName: prod}
"""
ACTION_TYPE_ID = {"category": "Build", "owner": "Custom", "provider": "Mine", "version": "1"}
_NONE = {"minimumCount": 0, "maximumCount": 0}
ACTION_TYPE = {
    "category": "Build",
    "provider": "Mine",
    "version": "1",
    "inputArtifactDetails": _NONE,
    "outputArtifactDetails": _NONE,
}
START = {"domain": "default", "repository": "dev", "format": "pypi", "name": "My_Pkg", "version": "1.0"}


class Hooks(World):
    """A world with one version published, and two pipelines that take it."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, environment)
        with self.db.write() as session:
            self.services.stores.new_key(session, None, self.now)  # as the first start of a server makes one
        self.publish("dev", "My-Pkg", "1.0", canonical="1")
        for document in (GATED, BUILT):
            applied = self.call("PUT", "/pipelines", json={"document": document})
            assert applied.status_code == 200, applied.text

    def start(self, pipeline: str = "release", **more: object) -> dict:
        answer = self.call("POST", f"/pipelines/{pipeline}/executions", as_="publisher", json={**START, **more})
        assert answer.status_code == 201, answer.text
        return answer.json

    def work(self) -> None:
        """Run the due jobs that are not builds, as a worker does."""
        table = wiring.general_jobs(self.hooks.actions)
        while True:
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="w", queues=["default"], kinds=list(table.handlers), free=10, lease_seconds=600
                )
            if not claimed:
                return
            for job in claimed:
                Attempt(
                    self.db,
                    job,
                    handler=table.handlers[job.kind],
                    settle=table.settle.get(job.kind),
                    lease_seconds=600,
                    first_retry_seconds=600,
                ).run()

    def end_build(self, build_id: str, status: BuildStatus) -> None:
        with self.db.write() as session:
            finish_build(
                session,
                build_id,
                status,
                now=self.now,
                on_finished=lambda session, ended: on_build_finished(session, self.hooks.actions, ended),
            )

    def log(self, build_id: str, data: bytes) -> None:
        with self.db.write() as session:
            self.hooks.logs.append_now(session, build_id, data)

    def report(self, build_id: str, report: ReportResult) -> str:
        return hand_in(self.db, self.services.stores.server_keyring(), build_id, report, self.now)

    def answer(self, execution: dict, stage: str = "Gate", *, as_: str | None = "approver", **more: object):
        body = {"stage": stage, "action": "Ask", "verdict": "Approved", **more}
        return self.call("POST", f"/executions/{execution['id']}/approval", as_=as_, json=body)


@pytest.fixture
def world(tmp_path: Path):
    made = Hooks(tmp_path)
    yield made
    made.close()


def action(execution: dict, stage: str, name: str) -> dict:
    (found,) = [
        entry
        for place in execution["stages"]
        if place["name"] == stage
        for entry in place["actions"]
        if entry["name"] == name
    ]
    return found


# --- who may do what -------------------------------------------------------------------------------------------------

CALLERS = (None, "reader", "publisher", "promoter", "approver", "stranger", "admin")
# Route → status for the callers above. {e} is a waiting execution, {b} a running build, both of default/dev.
HOOK = {"url": "https://hooks.example/", "domain": "default", "kinds": ["*"]}
PROJECT = "{name: mine, repository: dev, source: {type: GIT, location: 'https://forge.example/one.git'}}"
CREDENTIAL = {"authType": "PERSONAL_ACCESS_TOKEN", "token": "secret-of-a-forge"}
CONNECTION = {"url": "https://forge.example", "repository": "dev"}
PUSHED = """
name: pushed
stages:
- name: Source
  actions:
  - name: App
    actionTypeId: {category: Source, owner: Entrepot, provider: Git, version: "1"}
    configuration: {Url: "https://forge.example/one.git", BranchName: main, Repository: dev}
    outputArtifacts: [{name: App}]
- name: Gate
  actions:
  - {name: Ask, actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}}
"""
LOCATED = """
definitionFrom: {name: located, source: {Url: "https://forge.example/one.git", BranchName: main, Repository: dev}}
"""
APPS = "/deployment-applications"
OVERRIDE = {"stage": "Ship", "conditionType": "BEFORE_ENTRY", "reason": "x"}
HOOK_STATUS = {"lifecycleEventHookExecutionId": "x", "status": "Succeeded"}
CONFIG = "deploymentConfigName: mine\nminimumHealthyHosts: {type: HOST_COUNT, value: 1}"
DEPLOYMENT = {
    "applicationName": "shop",
    "deploymentGroupName": "prod",
    "revision": {
        "revisionType": "Package",
        "package": {"repository": "dev", "format": "pypi", "name": "my-pkg", "version": "1.0"},
    },
}
# An application is its domain's: of these accounts the approver reads all of it, and the administrator may all there.
SEES, ACTS = (404, 404, 404, 200, 404, 200), (404, 404, 404, 403, 404)
MATRIX = [
    ("PUT", "/pipelines", {"document": GATED}, (401, 403, 403, 403, 403, 403, 200)),
    (
        "PUT",
        "/declarations",
        {"files": [{"name": "a.yml", "text": "domain: acme"}], "dryRun": True},
        (401, 403, 403, 403, 403, 403, 200),
    ),
    ("POST", "/pipelines/lint", {"document": GATED}, (401, *[200] * 6)),
    ("GET", "/pipelines", None, (401, 200, 200, 200, 200, 200, 200)),
    ("GET", "/pipelines/release", None, (401, 200, 200, 200, 200, 200, 200)),
    ("GET", "/pipelines/release/executions", None, (401, 200, 200, 200, 200, 200, 200)),
    ("POST", "/pipelines/release/executions", START, (401, 403, 201, 403, 403, 403, 201)),
    ("GET", "/executions/{e}", None, (401, 200, 200, 200, 200, 404, 200)),
    (
        "POST",
        "/executions/{e}/approval",
        {"stage": "Gate", "action": "Ask", "verdict": "Rejected"},
        (401, 403, 403, 403, 200, 404, 409),
    ),
    ("POST", "/executions/{e}/retry", {"stage": "Gate"}, (401, 403, 200, 403, 403, 404, 409)),
    ("POST", "/executions/{e}/stop", {}, (401, 403, 200, 403, 403, 404, 409)),
    ("POST", "/executions/{e}/rollback", {"stage": "Ship"}, (401, 403, 403, 403, 409, 404, 409)),
    ("GET", "/pipelines/release/state", None, (401, *[200] * 6)),
    ("POST", "/pipelines/release/transition", {"stage": "Ship", "enabled": True}, (401, *[403] * 5, 200)),
    ("POST", "/pipelines/release/release", {"stage": "Ship"}, (401, *[409] * 6)),  # nothing is held
    ("POST", "/executions/{e}/override", OVERRIDE, (401, 403, 403, 403, 409, 404, 409)),
    ("POST", "/executions/{e}/pass", {"reason": "x"}, (401, *[403] * 5, 409)),
    ("GET", "/freezes", None, (401, *[200] * 6)),
    ("POST", "/freezes", {"name": "x", "reason": "x", "endsAt": "2001-01-01T00:00:00Z"}, (401, *[403] * 5, 400)),
    ("DELETE", "/freezes/x", None, (401, *[403] * 5, 404)),
    ("PUT", "/source-buckets/releases", {"repository": "dev"}, (401, *[403] * 5, 200)),
    ("GET", "/source-buckets", None, (401, *[200] * 6)),
    ("GET", "/source-buckets/releases/objects", None, (401, 200, 200, 200, 200, 404, 200)),
    ("PUT", "/source-buckets/releases/objects/site.zip", None, (401, 403, 201, 403, 403, 404, 201)),
    ("DELETE", "/source-buckets/releases", None, (401, *[403] * 5, 204)),
    ("PUT", "/git-connections/forge", CONNECTION, (401, *[403] * 5, 200)),
    ("GET", "/git-connections", None, (401, *[403] * 5, 200)),
    ("GET", "/pipelines/pushed/sources", None, (401, *[403] * 5, 200)),
    ("GET", "/pipelines/pushed/webhooks", None, (401, *[403] * 5, 200)),
    ("POST", "/pipelines/pushed/webhooks", {"provider": "gitea"}, (401, *[403] * 5, 201)),
    ("DELETE", "/pipelines/pushed/webhooks/{g}", None, (401, *[403] * 5, 204)),
    ("DELETE", "/pipelines/located/definition-source", None, (401, *[403] * 5, 204)),
    ("DELETE", "/git-connections/forge", None, (401, *[403] * 5, 204)),
    ("GET", "/builds", None, (401, 200, 200, 200, 200, 200, 200)),
    ("GET", "/builds/{b}", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/builds/{b}/log", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/builds/{b}/artifacts", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/builds/{b}/artifacts/primary", None, (401, *[404] * 6)),  # it has none; test_build_outputs has some
    ("GET", "/builds/{b}/artifacts/primary/members", None, (401, *[404] * 6)),
    ("GET", "/builds/{b}/reports", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/report-groups", None, (401, *[200] * 6)),
    ("GET", "/report-groups/unit-tests", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/report-groups/unit-tests/reports", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/report-groups/unit-tests/trend?field=TOTAL", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/report-groups/unit-tests/flaky", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/report-groups/unit-tests/test-cases/{c}", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/reports/{r}", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/reports/{r}/test-cases", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/reports/{r}/coverage", None, (401, 200, 200, 200, 200, 404, 200)),
    ("POST", "/builds/{b}/retry", None, (401, 403, 409, 403, 403, 404, 409)),
    ("POST", "/builds/{b}/resume", None, (401, *[403] * 4, 404, 409)),
    ("POST", "/builds/{b}/stop", None, (401, 403, 200, 403, 403, 404, 409)),
    ("GET", "/build-projects", None, (401, *[200] * 6)),
    ("GET", "/build-projects/{p}", None, (401, 403, 200, 403, 403, 404, 200)),
    ("PUT", "/build-projects/{p}", {"document": PROJECT}, (401, *[403] * 5, 200)),
    ("PUT", "/build-projects/{p}/source-credential", CREDENTIAL, (401, *[403] * 4, 404, 200)),
    ("DELETE", "/build-projects/{p}/source-credential", None, (401, *[403] * 4, 404, 204)),
    ("POST", "/build-sources?project={p}", None, (401, 403, 400, 403, 403, 404, 400)),
    ("POST", "/build-projects/{p}/builds", {}, (401, 403, 201, 403, 403, 404, 201)),
    ("POST", "/build-projects/{p}/batches", {}, (401, 403, 201, 403, 403, 404, 201)),
    ("GET", "/build-batches", None, (401, *[200] * 6)),
    ("GET", "/build-batches/batch-get?ids={k}", None, (401, *[200] * 6)),
    ("GET", "/build-batches/{k}", None, (401, 200, 200, 200, 200, 404, 200)),
    ("POST", "/build-batches/{k}/stop", None, (401, 403, 200, 403, 403, 404, 200)),
    ("POST", "/build-batches/{k}/retry", {}, (401, 403, 409, 403, 403, 404, 409)),
    ("GET", "/build-projects/{p}/webhooks", None, (401, *[403] * 4, 404, 200)),
    ("POST", "/build-projects/{p}/webhooks", {"provider": "github"}, (401, *[403] * 4, 404, 201)),
    ("PATCH", "/build-projects/{p}/webhooks/{h}", {"rotateSecret": True}, (401, *[403] * 4, 404, 200)),
    ("DELETE", "/build-projects/{p}/webhooks/{h}", None, (401, *[403] * 4, 404, 204)),
    ("DELETE", "/build-projects/{p}", None, (401, *[403] * 4, 404, 204)),
    ("GET", "/builds/{b}/log?download=1", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/builds/{b}/log/search?q=x", None, (401, 200, 200, 200, 200, 404, 200)),
    (
        "GET",
        "/builds/{b}/log/stream",
        None,
        (401, 200, 200, 200, 200, 404, 200),
    ),  # it has ended, and so does the answer
    (
        "PUT",
        "/destinations/d",
        {"format": "npm", "url": "https://registry.example/", "repositories": ["default/prod"], "secret": "abcdefgh"},
        (401, *[403] * 5, 200),
    ),
    ("GET", "/destinations", None, (401, *[403] * 5, 200)),
    ("GET", "/destinations/d", None, (401, *[403] * 5, 200)),
    ("DELETE", "/destinations/d", None, (401, *[403] * 5, 204)),
    ("PUT", "/secrets/s", {"secretString": "abcdefgh"}, (401, *[403] * 5, 200)),
    ("PATCH", "/secrets/s", {"description": "x"}, (401, *[403] * 5, 200)),
    ("GET", "/secrets", None, (401, *[403] * 5, 200)),
    ("GET", "/secrets/s", None, (401, *[403] * 5, 200)),
    ("POST", "/secret-values", {"secretId": "s"}, (401, *[403] * 5, 200)),
    ("DELETE", "/secrets/s", None, (401, *[403] * 5, 204)),
    ("PUT", "/parameters/p/q", {"value": "abcdefgh"}, (401, *[403] * 5, 200)),
    ("PATCH", "/parameters/p/q", {"description": "x"}, (401, *[403] * 5, 200)),
    ("GET", "/parameters", None, (401, *[403] * 5, 200)),
    ("GET", "/parameters/p/q", None, (401, *[403] * 5, 200)),
    ("POST", "/parameter-values", {"name": "/p/q"}, (401, *[403] * 5, 200)),
    ("DELETE", "/parameters/p/q", None, (401, *[403] * 5, 204)),
    ("GET", "/event-kinds", None, (401, *[200] * 6)),
    ("GET", "/webhooks", None, (401, *[200] * 6)),
    ("POST", "/webhooks", HOOK, (401, *[403] * 5, 201)),
    ("GET", "/webhooks/{w}", None, (401, *[404] * 5, 200)),
    ("PATCH", "/webhooks/{w}", {"kinds": ["asset.*"]}, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/secret", {}, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/ping", None, (401, *[404] * 5, 202)),
    ("GET", "/webhooks/{w}/deliveries", None, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/deliveries", {"since": "2026-01-01T00:00:00Z"}, (401, *[404] * 5, 202)),
    ("GET", "/webhooks/{w}/deliveries/{d}", None, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/disable", None, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/enable", None, (401, *[404] * 5, 200)),
    ("POST", "/webhooks/{w}/deliveries/{d}", None, (401, *[404] * 5, 202)),
    ("DELETE", "/webhooks/{w}", None, (401, *[404] * 5, 204)),
    ("GET", "/subscriptions", None, (401, *[200] * 6)),
    ("POST", "/subscriptions", {"kinds": ["asset.*"]}, (401, *[201] * 6)),
    ("DELETE", "/subscriptions/{s}", None, (401, *[404] * 5, 204)),
    ("PUT", "/mail-address", {"address": "a@people.example"}, (401, *[409] * 6)),  # there is no mail server
    ("DELETE", "/mail-address", None, (401, *[204] * 6)),
    ("GET", "/runners", None, (401, *[403] * 5, 200)),
    ("POST", "/runners", {"name": "r"}, (401, *[403] * 5, 201)),
    ("GET", "/runners/r", None, (401, *[403] * 5, 200)),
    ("POST", "/runners/r/registration-token", None, (401, *[403] * 5, 201)),
    ("POST", "/runners/r/revoke", None, (401, *[403] * 5, 200)),
    ("DELETE", "/runners/r", None, (401, *[403] * 5, 204)),
    ("GET", "/agents", None, (401, *[403] * 5, 200)),
    ("POST", "/agents", {"name": "a", "tags": [{"key": "role", "value": "web"}]}, (401, *[403] * 5, 201)),
    ("GET", "/agents/a", None, (401, *[403] * 5, 200)),
    ("GET", "/agents/a/provenance", None, (401, *[403] * 5, 200)),
    ("PATCH", "/agents/a", {"tags": [{"key": "stage"}], "untag": ["role"]}, (401, *[403] * 5, 200)),
    ("POST", "/agents/a/enrolment-token", None, (401, *[403] * 5, 201)),
    ("DELETE", "/agents/a/alarm", None, (401, *[403] * 5, 200)),
    ("POST", "/agents/a/revoke", None, (401, *[403] * 5, 200)),
    ("DELETE", "/agents/a", None, (401, *[403] * 5, 204)),
    ("GET", APPS, None, (401, *[200] * 6)),
    ("POST", APPS, {"applicationName": "other"}, (401, *[403] * 5, 201)),
    ("GET", f"{APPS}/shop", None, (401, *SEES)),
    ("PATCH", f"{APPS}/shop", {"newApplicationName": "shop"}, (401, *ACTS, 200)),
    ("POST", f"{APPS}/shop/uploads", None, (401, *ACTS, 400)),
    ("GET", f"{APPS}/shop/groups", None, (401, *SEES)),
    ("GET", f"{APPS}/shop/groups/prod", None, (401, *SEES)),
    ("PUT", f"{APPS}/shop/groups/prod", {"document": "targets: [somebody]"}, (401, *ACTS, 200)),
    ("GET", f"{APPS}/shop/groups/prod/targets", None, (401, *SEES)),
    ("GET", f"{APPS}/shop/groups/prod/provenance", None, (401, *SEES)),
    ("GET", "/domains/default/packages/pypi/my-pkg/versions/1.0/life", None, (401, 200, 200, 200, 200, 404, 200)),
    ("GET", "/pipelines/release/feed", None, (401, *[200] * 6)),
    ("GET", "/domains/default/repositories/dev/feed", None, (401, 200, 200, 200, 200, 403, 200)),
    ("GET", "/board", None, (401, *[200] * 6)),
    ("GET", "/figures?days=90&by=group", None, (401, *[200] * 6)),
    ("GET", "/deployment-configs", None, (401, *[200] * 6)),
    ("POST", "/deployment-configs", {"document": CONFIG}, (401, *[403] * 5, 201)),
    ("GET", "/deployment-configs/mine", None, (401, *[200] * 6)),
    ("DELETE", "/deployment-configs/mine", None, (401, *[403] * 5, 204)),
    ("GET", "/domains/default/deployment-alarms", None, (401, *SEES)),
    ("PUT", "/domains/default/deployment-alarms/pager", {"state": "ALARM"}, (401, *ACTS, 200)),
    ("DELETE", "/domains/default/deployment-alarms/pager", None, (401, *ACTS, 204)),
    ("GET", "/deployments", None, (401, *[200] * 6)),
    ("POST", "/deployments", DEPLOYMENT, (401, *ACTS, 201)),
    ("POST", "/deployments/preview", DEPLOYMENT, (401, *SEES)),
    ("POST", "/deployments/batch", {"deploymentIds": ["{y}"]}, (401, *[200] * 6)),  # what one may not see is left out
    ("PUT", "/deployments/{y}/hook-status", HOOK_STATUS, (401, *ACTS, 400)),  # it has no such execution
    ("GET", "/deployments/{y}", None, (401, *SEES)),
    ("POST", "/deployments/{y}/stop", None, (401, *ACTS, 409)),  # it has ended: nobody is there to deploy to
    ("POST", "/deployments/{y}/continue", None, (401, *ACTS, 409)),
    ("POST", "/deployments/{y}/pause", None, (401, *ACTS, 409)),
    ("POST", "/deployments/{y}/resume", None, (401, *ACTS, 409)),
    ("POST", "/deployments/{y}/retry", None, (401, *ACTS, 409)),
    ("POST", "/deployments/{y}/rollback", None, (401, *ACTS, 409)),
    ("GET", "/deployments/{y}/targets", None, (401, *SEES)),
    ("GET", "/deployments/{y}/targets/1", None, (401, *[404] * 6)),  # it has none; test_deployments_api has some
    ("POST", "/deployments/{y}/targets/1/skip", {"lifecycleEventName": "ApplicationStop"}, (401, *ACTS, 404)),
    ("POST", "/deployments/{y}/targets/1/answer", {"answer": "retry"}, (401, *ACTS, 404)),
    ("DELETE", f"{APPS}/shop/groups/prod", None, (401, *ACTS, 204)),
    ("DELETE", f"{APPS}/shop", None, (401, *ACTS, 204)),
    ("GET", "/action-types", None, (401, *[200] * 6)),
    ("POST", "/action-types", ACTION_TYPE, (401, *[403] * 5, 201)),
    ("GET", "/action-webhooks", None, (401, *[403] * 5, 200)),
    ("PUT", "/action-webhooks/robot", {"url": "https://robot.example/jobs"}, (401, *[403] * 5, 200)),
    ("DELETE", "/action-webhooks/robot", None, (401, *[403] * 5, 204)),
    # The type names no workers, so that administrators alone are asked for; test_action_jobs has jobs of others.
    ("POST", "/jobs/poll", {"actionTypeId": ACTION_TYPE_ID}, (401, *[403] * 5, 200)),
    ("GET", "/jobs/j", None, (401, *[404] * 6)),
    ("POST", "/jobs/j/acknowledge", {"nonce": "n"}, (401, *[404] * 6)),
    ("POST", "/jobs/j/success", {}, (401, *[404] * 6)),
    ("POST", "/jobs/j/failure", {"failureDetails": {"type": "JobFailed", "message": "no"}}, (401, *[404] * 6)),
    ("DELETE", "/action-types/Build/Mine/1", None, (401, *[403] * 5, 204)),
    ("GET", "/job-artifacts/j/inputs/App/app.whl", None, (401,) * 7),  # no account's token opens these
    ("PUT", "/job-artifacts/j/outputs/App", None, (401,) * 7),
    ("POST", "/job-results/j/success", {}, (401,) * 7),
    ("POST", "/job-results/j/failure", {"failureDetails": {"type": "JobFailed", "message": "no"}}, (401,) * 7),
    ("GET", "/domains/default/keys", None, (401, 403, 403, 403, 403, 403, 200)),
    ("POST", "/domains/default/keys/rotate", None, (401, 403, 403, 403, 403, 403, 202)),
    ("GET", "/domains/default/keys/verification", None, (401, 403, 403, 403, 403, 403, 200)),
    ("GET", "/keys", None, (401, 403, 403, 403, 403, 403, 200)),
    ("POST", "/keys/rotate", None, (401, 403, 403, 403, 403, 403, 202)),
    ("GET", "/keys/verification", None, (401, 403, 403, 403, 403, 403, 200)),
]


def test_permission_matrix(world: Hooks) -> None:
    execution = world.start()["id"]
    build = action(world.start("built"), "Test", "Unit")["buildId"]
    webhook = world.call("POST", "/webhooks", json=HOOK).json["webhook"]["id"]
    sent = world.call("POST", f"/webhooks/{webhook}/ping").json["delivery"]
    own = world.call("POST", "/subscriptions", json={"kinds": ["*"]}).json["id"]
    report = world.report(build, result("tests", [case("one")]))
    key = world.call("GET", f"/reports/{report}/test-cases").json["items"][0]["id"]
    assert world.call("PUT", "/build-projects/mine", json={"document": PROJECT}).status_code == 200
    hook = world.call("POST", "/build-projects/mine/webhooks", json={"provider": "gitea"}).json["id"]
    batch = world.call("POST", "/build-projects/mine/batches", json={}).json["id"]
    assert world.call("POST", APPS, json={"applicationName": "shop"}).status_code == 201
    assert world.call("PUT", f"{APPS}/shop/groups/prod", json={"document": "targets: [nobody]"}).status_code == 200
    deployed = world.call("POST", "/deployments", json=DEPLOYMENT).json["deploymentId"]
    assert world.call("PUT", "/pipelines", json={"document": PUSHED}).status_code == 200
    assert world.call("PUT", "/pipelines", json={"document": LOCATED}).status_code == 200
    told = world.call("POST", "/pipelines/pushed/webhooks", json={"provider": "github"}).json["id"]
    for method, path, body, expected in MATRIX:
        place = path.format(
            e=execution,
            b=build,
            w=webhook,
            d=sent,
            s=own,
            p="mine",
            h=hook,
            r=report,
            c=key,
            k=batch,
            y=deployed,
            g=told,
        )
        got = []
        for who in CALLERS:
            with world.call(method, place, as_=who, json=body) as answer:  # closed: a stream holds a place until then
                got.append(answer.status_code)
        got = tuple(got)
        assert got == expected, (method, path)


def named(path: str) -> str:
    return path.format(e=1, b="b", w=1, d="d", s=1, p="p", h="h", r="r", c="c", k="k", y="y", g="g")


def test_the_matrix_covers_every_route(world: Hooks) -> None:
    adapter = world.app.url_map.bind("localhost")
    covered = {
        (adapter.match("/api/v1" + named(path).partition("?")[0], method=method)[0], method)
        for method, path, *_ in MATRIX
    }
    served = {
        (rule.endpoint, method)
        for rule in world.api_rules("hook_api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert covered == served


# --- pipelines -------------------------------------------------------------------------------------------------------


def test_applying_tells_what_changed(world: Hooks) -> None:
    def applied(document: str) -> list[tuple]:
        items = world.call("PUT", "/pipelines", json={"document": document}).json["items"]
        return [(item["kind"], item["name"], item["change"], item["version"]) for item in items]

    assert applied(GATED) == [("pipeline", "release", "unchanged", 1)]
    assert applied(GATED.replace("Second", "Third")) == [("pipeline", "release", "updated", 2)]
    shown = world.call("GET", "/pipelines/release").json
    assert (shown["version"], shown["appliedBy"]) == (2, "admin")
    assert [stage["name"] for stage in shown["definition"]["stages"]] == ["Source", "Gate", "Ship", "Third", "Prod"]
    assert world.call("GET", "/pipelines/release?version=1").json["document"] == GATED
    assert world.call("GET", "/pipelines/release?version=9").status_code == 404


@pytest.mark.parametrize(
    "document",
    ["name: x", "{", "a: &a [*a]", GATED.replace("Manual", "Psychic"), "- " * 5000, GATED.replace("Gate", "Ship")],
)
def test_a_document_with_faults_changes_nothing(world: Hooks, document: str) -> None:
    before = world.call("GET", "/pipelines").json
    answer = world.call("PUT", "/pipelines", json={"document": document})
    assert answer.status_code == 400
    assert answer.json["detail"]
    assert world.call("GET", "/pipelines").json == before


def test_pipelines_come_in_pages(world: Hooks) -> None:
    world.start()
    first = world.call("GET", "/pipelines?limit=1").json
    assert (first["items"][0]["name"], first["next"]) == ("built", "built")
    second = world.call("GET", "/pipelines?after=built").json
    assert second["next"] is None
    assert second["items"][0]["lastExecution"]["status"] == "InProgress"
    hidden = world.call("GET", "/pipelines", as_="stranger").json["items"]
    assert [item["lastExecution"] for item in hidden] == [None, None]


def test_stages_are_closed_opened_rolled_back_and_told_of(world: Hooks) -> None:
    document = GATED.replace("name: release", "name: serial\nexecutionMode: SUPERSEDED")
    assert world.call("PUT", "/pipelines", json={"document": document}).status_code == 200

    def state(stage: str, as_: str = "admin") -> dict:
        shown = world.call("GET", "/pipelines/serial/state", as_=as_).json
        return next(each for each in shown["stageStates"] if each["stageName"] == stage)

    def transition(**body: object) -> int:
        return world.call("POST", "/pipelines/serial/transition", json=body).status_code

    first, second = world.start("serial"), world.start("serial")
    assert (second["mode"], second["executionType"], second["inboundStage"]) == ("SUPERSEDED", "STANDARD", "Gate")
    told = state("Gate")
    assert told["inboundExecution"] == {"pipelineExecutionId": second["id"], "status": "InProgress", "type": "STANDARD"}
    assert told["latestExecution"]["pipelineExecutionId"] == first["id"]
    (asked,) = told["actionStates"]
    assert asked["actionName"] == "Ask"
    assert asked["latestExecution"]["status"] == "Waiting"
    assert asked["latestExecution"]["token"]
    hidden = state("Gate", as_="stranger")
    assert (hidden["inboundExecution"], hidden["inboundExecutions"], hidden["latestExecution"]) == (None, [], None)
    assert [each["latestExecution"] for each in hidden["actionStates"]] == [None]

    assert transition(stage="Ship", enabled=False, reason="freeze") == 200
    assert transition(stage="Ship", enabled=False) == 400
    assert transition(stage="Nowhere", enabled=True) == 404
    assert transition(stage="Source", enabled=False, reason="x") == 409
    assert state("Ship")["inboundTransitionState"] | {"lastChangedAt": None} == {
        "enabled": False, "lastChangedBy": "admin", "lastChangedAt": None, "disabledReason": "freeze",
    }  # fmt: skip
    assert world.answer(first).status_code == 200
    assert state("Ship")["inboundExecution"]["pipelineExecutionId"] == first["id"]
    assert transition(stage="Ship", enabled=True) == 200
    world.work()
    place = f"/executions/{first['id']}/rollback"
    body = {"stage": "Ship", "clientRequestToken": "once"}
    assert world.call("POST", place, as_="publisher", json=body).status_code == 403
    back = world.call("POST", place, as_="approver", json=body)
    assert back.status_code == 201, back.text
    assert (back.json["executionType"], back.json["rollbackTargetId"]) == ("ROLLBACK", first["id"])
    assert [each["name"] for each in back.json["stages"]] == ["Ship"]
    assert world.call("POST", place, as_="approver", json=body).json["id"] == back.json["id"]


# --- executions ------------------------------------------------------------------------------------------------------


def test_from_start_through_approvals_to_prod(world: Hooks) -> None:
    started = world.start()
    assert (started["status"], started["version"], started["triggeredBy"]) == ("InProgress", "1", "publisher")
    assert started["publishers"] == ["admin"]
    ask = action(started, "Gate", "Ask")
    assert ask["status"] == "Waiting"
    assert world.answer(started, token="0" * 32).status_code == 409
    assert world.answer(started, token=ask["token"], comment="fine").json["status"] == "InProgress"
    world.work()
    assert world.call("GET", "/domains/default/repositories/staging/packages/pypi/my-pkg").status_code == 200
    assert world.answer(started, "Second").status_code == 200
    world.work()
    ended = world.call("GET", f"/executions/{started['id']}").json
    assert ended["status"] == "Succeeded"
    assert action(ended, "Gate", "Ask")["decidedBy"] == "approver"
    assert action(ended, "Gate", "Ask")["comment"] == "fine"
    assert world.call("GET", "/domains/default/repositories/prod/packages/pypi/my-pkg").status_code == 200
    again = world.answer(started, "Second")
    assert (again.status_code, again.json["code"]) == (409, "conflict")


def test_an_approval_asks_for_the_right_on_what_it_stands_before(world: Hooks) -> None:
    only = {
        place: world.account(f"only-{place}", "approve", "read", repositories=[f"default/{place}", "default/dev"])
        for place in ("staging", "prod")
    }
    dev = world.account("only-dev", "approve", "read", repositories=["default/dev"])
    started = world.start()
    body = {"stage": "Gate", "action": "Ask", "verdict": "Approved"}
    path = f"/executions/{started['id']}/approval"
    assert world.call("POST", path, token=dev, json=body).status_code == 403
    assert world.call("POST", path, token=only["prod"], json=body).status_code == 403
    # What a condition on success keeps from is the same; that there is none is told to those who might override it.
    opened, over = (
        {"stage": "Gate", "conditionType": "ON_SUCCESS", "reason": "x"},
        f"/executions/{started['id']}/override",
    )
    said = [world.call("POST", over, token=token, json=opened).status_code for token in (dev, *only.values())]
    assert said == [403, 409, 403]
    assert world.call("POST", path, token=only["staging"], json=body).status_code == 200
    world.work()
    second = {**body, "stage": "Second"}
    assert world.call("POST", path, token=only["staging"], json=second).status_code == 403
    assert world.call("POST", path, token=only["prod"], json=second).status_code == 200


def test_a_target_known_only_later_needs_the_right_everywhere(world: Hooks) -> None:
    later = GATED.replace("TargetRepository: staging", 'TargetRepository: "#{variables.WHERE}"').replace(
        "stages:", "variables:\n- name: WHERE\n  defaultValue: staging\nstages:", 1
    )
    assert world.call("PUT", "/pipelines", json={"document": later}).status_code == 200
    started = world.start()
    staging = world.account("only-staging", "approve", "read", repositories=["default/staging", "default/dev"])
    body = {"stage": "Gate", "action": "Ask", "verdict": "Approved"}
    assert world.call("POST", f"/executions/{started['id']}/approval", token=staging, json=body).status_code == 403
    assert world.answer(started).status_code == 200


def test_an_approver_sees_the_execution_without_reading_its_repository(world: Hooks) -> None:
    token = world.account("gatekeeper", "approve", repositories=["default/prod"])
    started = world.start()
    assert world.call("GET", f"/executions/{started['id']}", token=token).status_code == 200
    reader = world.account("elsewhere", "read", repositories=["default/prod"])
    assert world.call("GET", f"/executions/{started['id']}", token=reader).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"stage": "Gate", "action": "Ask", "verdict": "approved"}, 400),
        ({"stage": "Gate", "action": "Ask", "verdict": "Approved", "actor": "admin"}, 400),
        ({"stage": "Gate", "action": "Ask", "verdict": "Approved", "comment": "x" * 513}, 400),
        ({"stage": "Gate", "action": "Absent", "verdict": "Approved"}, 404),
        ({"stage": "Ship", "action": "Promote", "verdict": "Approved"}, 404),
        ({"stage": "Second", "action": "Ask", "verdict": "Approved"}, 404),
    ],
)
def test_answers_that_cannot_be(world: Hooks, body: dict, status: int) -> None:
    started = world.start()
    assert world.call("POST", f"/executions/{started['id']}/approval", json=body).status_code == status
    now = world.call("GET", f"/executions/{started['id']}").json
    assert action(now, "Gate", "Ask")["status"] == "Waiting"


def test_rejected_retried_stopped(world: Hooks) -> None:
    started = world.start()
    place = f"/executions/{started['id']}"
    rejected = world.answer(started, verdict="Rejected").json
    assert (rejected["status"], action(rejected, "Gate", "Ask")["status"]) == ("Failed", "Failed")
    assert world.call("POST", f"{place}/retry", json={"stage": "Ship"}).status_code == 409
    assert world.call("POST", f"{place}/retry", json={"stage": "Nowhere"}).status_code == 404
    assert world.call("POST", f"{place}/retry", json={"stage": "Gate", "mode": "SOME"}).status_code == 400
    retried = world.call("POST", f"{place}/retry", as_="publisher", json={"stage": "Gate"}).json
    assert (retried["status"], action(retried, "Gate", "Ask")["attempt"]) == ("InProgress", 2)
    assert action(retried, "Gate", "Ask")["attempts"][0]["decidedBy"] == "approver"
    stopped = world.call("POST", f"{place}/stop", as_="publisher", json={"reason": "wrong one"}).json
    assert (stopped["status"], stopped["stopReason"], stopped["stoppedBy"]) == ("Stopped", "wrong one", "publisher")
    assert world.call("POST", f"{place}/stop", json={}).status_code == 409


def test_abandoning_a_deployment_takes_more_than_publishing(world: Hooks) -> None:
    assert world.call("POST", APPS, json={"applicationName": "shop"}).status_code == 201
    assert world.call("PUT", "/pipelines", json={"document": DEPLOYS}).status_code == 200
    place = f"/executions/{world.start('deploys')['id']}"
    denied = world.call("POST", f"{place}/stop", as_="publisher", json={"abandon": True})
    assert denied.status_code == 403
    now = world.call("GET", place).json
    assert (now["status"], action(now, "Prod", "Ship")["status"]) == ("InProgress", "InProgress")
    stopping = world.call("POST", f"{place}/stop", as_="publisher", json={}).json
    assert (stopping["status"], action(stopping, "Prod", "Ship")["status"]) == ("Stopping", "InProgress")
    stopped = world.call("POST", f"{place}/stop", json={"abandon": True}).json
    assert (stopped["status"], action(stopped, "Prod", "Ship")["status"]) == ("Stopped", "Abandoned")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"version": "9"}, 404),
        ({"name": "absent"}, 404),
        ({"repository": "absent"}, 404),
        ({"format": "cobol"}, 404),
        ({"repository": "staging"}, 404),
        ({"variables": {"NO": "such"}}, 400),
        ({"variables": {"NO": 1}}, 400),
        ({"triggeredBy": "somebody else"}, 400),
        ({"clientRequestToken": "x" * 65}, 400),
    ],
)
def test_starts_that_cannot_be(world: Hooks, change: dict, status: int) -> None:
    assert world.call("POST", "/pipelines/release/executions", json={**START, **change}).status_code == status
    assert world.call("GET", "/pipelines/release/executions").json["items"] == []


def test_a_request_token_starts_once(world: Hooks) -> None:
    first = world.start(clientRequestToken="once")
    assert world.start(clientRequestToken="once")["id"] == first["id"]
    assert world.start()["id"] != first["id"]


def test_executions_come_in_pages_of_what_may_be_read(world: Hooks) -> None:
    started = [world.start()["id"] for _ in range(3)]
    first = world.call("GET", "/pipelines/release/executions?limit=2", as_="reader").json
    assert [item["id"] for item in first["items"]] == started[:0:-1]
    rest = world.call("GET", f"/pipelines/release/executions?after={first['next']}", as_="reader").json
    assert ([item["id"] for item in rest["items"]], rest["next"]) == (started[:1], None)
    assert world.call("GET", "/pipelines/release/executions", as_="stranger").json == {"items": [], "next": None}
    assert world.call("GET", "/pipelines/absent/executions").status_code == 404


# --- builds ----------------------------------------------------------------------------------------------------------


def test_a_build_is_listed_shown_and_told_of(world: Hooks) -> None:
    started = world.start("built")
    build_id = action(started, "Test", "Unit")["buildId"]
    shown = world.call("GET", f"/builds/{build_id}").json
    assert (shown["project"], shown["status"], shown["name"], shown["version"]) == (
        "unit",
        "IN_PROGRESS",
        "my-pkg",
        "1",
    )
    assert shown["subject"] == f"execution:{started['id']}"
    assert list(shown["assets"]) == ["My_Pkg-1.0-py3-none-any.whl"]
    assert "environment" not in shown
    assert [item["id"] for item in world.call("GET", "/builds").json["items"]] == [build_id]
    assert world.call("GET", "/builds", as_="stranger").json["items"] == []
    assert world.call("GET", "/builds?project=absent").json["items"] == []
    assert world.call("GET", "/builds/absent").status_code == 404
    world.end_build(build_id, BuildStatus.SUCCEEDED)
    assert world.call("GET", f"/executions/{started['id']}").json["status"] == "Succeeded"


def test_builds_come_in_pages(world: Hooks) -> None:
    made = {action(world.start("built"), "Test", "Unit")["buildId"] for _ in range(3)}
    first = world.call("GET", "/builds?limit=2").json
    second = world.call("GET", f"/builds?limit=2&after={first['next']}").json
    assert {item["id"] for page in (first, second) for item in page["items"]} == made
    assert (len(first["items"]), len(second["items"]), second["next"]) == (2, 1, None)
    assert world.call("GET", "/builds?after=gone").status_code == 400


def test_a_log_is_read_by_offset(world: Hooks) -> None:
    build_id = action(world.start("built"), "Test", "Unit")["buildId"]

    def read(offset: int) -> tuple[bytes, str, str]:
        answer = world.call("GET", f"/builds/{build_id}/log?from={offset}")
        assert answer.content_type == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.data, answer.headers["X-Next-Offset"], answer.headers["X-Build-Ended"]

    assert read(0) == (b"", "0", "false")
    world.log(build_id, b"<script>one</script>\n")
    assert read(0) == (b"<script>one</script>\n", "21", "false")
    world.log(build_id, b"two \xff\n")
    assert read(21) == (b"two \xff\n", "27", "false")
    assert read(8)[0] == b"one</script>\ntwo \xff\n"
    world.end_build(build_id, BuildStatus.FAILED)
    assert read(27) == (b"", "27", "true")
    assert read(10**9) == (b"", "27", "true")
    for wrong in ("-1", "x", "1.5", ""):
        assert world.call("GET", f"/builds/{build_id}/log?from={wrong}").status_code == 400


def test_reports_are_read_over_the_interface(world: Hooks) -> None:
    first, second = (action(world.start("built"), "Test", "Unit")["buildId"] for _ in range(2))
    cases = [case("good"), case("bad", "FAILED", "said"), case("odd", "ERROR"), case("later", "SKIPPED")]
    report = world.report(first, result("tests", cases))
    world.now += timedelta(minutes=1)
    world.report(second, result("tests", [case("good"), case("bad")]))
    cover = world.report(second, result("cover", [FileCoverage("a.py", 3, 1, 1, 1), FileCoverage("b.py", 0, 0)]))

    def get(path: str) -> dict:
        answer = world.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json

    shown = get(f"/reports/{report}")
    assert (shown["arn"], shown["type"], shown["status"]) == (
        f"arn:entrepot:codebuild:::report/unit-tests:{report}",
        "TEST",
        "FAILED",
    )
    counts = {"SUCCEEDED": 1, "FAILED": 1, "ERROR": 1, "SKIPPED": 1, "UNKNOWN": 0}
    assert shown["testSummary"] == {
        "total": 4,
        "statusCounts": counts,
        "durationInNanoSeconds": 48_000_000,
        "passRate": 33.33,
    }
    assert shown["codeCoverageSummary"] is None
    assert get(f"/reports/{cover}")["codeCoverageSummary"]["lineCoveragePercentage"] == 75.0
    files = get(f"/reports/{cover}/coverage")["items"]
    assert [(file["filePath"], file["linesMissed"], file["branchCoveragePercentage"]) for file in files] == [
        ("a.py", 1, 50.0),
        ("b.py", 0, None),
    ]
    page = get(f"/reports/{report}/test-cases?limit=3")
    assert [item["name"] for item in page["items"]] == ["good", "bad", "odd"]
    assert [item["name"] for item in get(f"/reports/{report}/test-cases?after={page['next']}")["items"]] == ["later"]
    failed = get(f"/reports/{report}/test-cases?status=failed,ERROR")["items"]
    assert [(item["name"], item["message"]) for item in failed] == [("bad", "said"), ("odd", "")]
    groups = get("/report-groups?limit=1")
    assert (groups["items"][0]["name"], groups["next"]) == ("unit-cover", "unit-cover")
    assert [item["newest"]["buildNumber"] for item in get("/report-groups?after=unit-cover")["items"]] == [2]
    assert get("/report-groups?project=absent")["items"] == []
    reports = get("/report-groups/unit-tests/reports?limit=1")
    assert get(f"/report-groups/unit-tests/reports?after={reports['next']}")["items"][0]["id"] == report
    trend = get("/report-groups/unit-tests/trend?field=total")
    assert (trend["unit"], trend["average"], trend["max"]) == ("count", 3.0, 4)
    assert [item["name"] for item in get("/report-groups/unit-tests/flaky")["items"]] == ["bad"]
    past = get(f"/report-groups/unit-tests/test-cases/{failed[0]['id']}")
    assert (past["name"], past["flaky"], len(past["items"])) == ("bad", True, 2)
    assert [item["reportGroup"] for item in get(f"/builds/{second}/reports")["items"]] == ["unit-cover", "unit-tests"]
    for wrong in (
        f"/reports/{report}/test-cases?status=GREEN",
        f"/reports/{report}/test-cases?after=-1",
        "/report-groups/unit-tests/trend?field=LINE_COVERAGE",
        "/report-groups/unit-tests/trend",
        "/report-groups/unit-tests/reports?after=gone",
    ):
        assert world.call("GET", wrong).status_code == 400, wrong
    for gone in (
        "/reports/absent",
        "/report-groups/absent/trend?field=TOTAL",
        f"/report-groups/unit-tests/test-cases/{'0' * 32}",
    ):
        assert world.call("GET", gone).status_code == 404, gone
    assert world.call("GET", "/report-groups", as_="stranger").json["items"] == []


def test_stopping_a_waiting_build_ends_its_action(world: Hooks) -> None:
    started = world.start("built")
    build_id = action(started, "Test", "Unit")["buildId"]
    stopped = world.call("POST", f"/builds/{build_id}/stop", as_="publisher")
    assert (stopped.status_code, stopped.json["status"]) == (200, "STOPPED")
    assert world.call("GET", f"/executions/{started['id']}").json["status"] == "Failed"
    assert world.call("POST", f"/builds/{build_id}/stop").status_code == 409
    assert ("publisher", "build.stop", f"build/{build_id}") in world.audit()


# --- logs


def test_a_log_is_searched_and_downloaded(world: Hooks) -> None:
    build = action(world.start("built"), "Test", "Unit")["buildId"]
    lines = [b"line %d %s\n" % (number, b"needle" if number % 400 == 7 else b"hay" * 20) for number in range(1200)]
    for start in range(0, len(lines), 300):
        world.log(build, b"".join(lines[start : start + 300]))
    world.log(build, b"the end: N\xc3\xa9edle, Needle")
    whole = b"".join(lines) + b"the end: N\xc3\xa9edle, Needle"
    found = world.call("GET", f"/builds/{build}/log/search", query_string={"q": "NEEDLE"}).json
    assert [item["line"] for item in found["items"]] == [8, 408, 808, 1201]
    for item in found["items"]:
        assert whole[item["offset"] :][:6].lower() == b"needle"
        assert whole[: item["lineOffset"]].count(b"\n") + 1 == item["line"]
    assert found["next"] is None
    exact = {"q": "Needle", "caseSensitive": "1"}
    assert len(world.call("GET", f"/builds/{build}/log/search", query_string=exact).json["items"]) == 1
    first = world.call("GET", f"/builds/{build}/log/search", query_string={"q": "needle", "limit": "2"}).json
    there = {"q": "needle", "from": first["next"]["offset"]} | {
        name: first["next"][name] for name in ("line", "lineOffset")
    }
    second = world.call("GET", f"/builds/{build}/log/search", query_string=there).json
    assert first["items"] + second["items"] == found["items"]
    for bad in ({"q": ""}, {"q": "x" * 201}, {"q": "a\nb"}, {"q": "x", "limit": "0"}, {}):
        assert world.call("GET", f"/builds/{build}/log/search", query_string=bad).status_code == 400, bad
    saved = world.call("GET", f"/builds/{build}/log?download=1")
    assert saved.data == whole
    assert saved.headers["Content-Length"] == str(len(whole))
    assert saved.headers["Content-Disposition"].startswith('attachment; filename="unit-1.log"')
    assert (saved.mimetype, saved.headers["X-Content-Type-Options"]) == ("text/plain", "nosniff")


def test_who_follows_a_log_holds_no_connection_to_the_database_while_waiting(
    world: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = action(world.start("built"), "Test", "Unit")["buildId"]
    world.log(build, b"so far\n")
    held: list[int] = []
    monkeypatch.setattr(tailing.time, "sleep", lambda _: held.append(world.db.engine.pool.checkedout()))
    world.hooks.tails.stream_seconds = 0.2
    with world.call("GET", f"/builds/{build}/log/stream") as answer:
        assert b"so far" in answer.data
    assert held
    assert set(held) == {0}
    with world.db.read() as session:
        session.connection()
        assert world.db.engine.pool.checkedout() == 1, "one that is held would have been seen"
    for _ in range(world.hooks.tails.most_of_one):
        world.hooks.tails.enter(1)  # its place is free again, whoever it was


def test_feeds_are_atom_and_show_to_each_only_what_they_may_see(world: Hooks) -> None:
    number = world.start()["id"]
    atom = "{http://www.w3.org/2005/Atom}"

    def entries(path: str, as_: str | None = None) -> list[tuple[str, str]]:
        answer = world.call("GET", path) if as_ is None else world.call("GET", path, as_=as_)
        assert answer.status_code == 200
        assert answer.content_type == "application/atom+xml; charset=utf-8"
        feed = ET.fromstring(answer.data)
        assert {feed.findtext(f"{atom}{name}") is not None for name in ("id", "title", "updated")} == {True}
        links = [entry.find(f"{atom}link").attrib["href"] for entry in feed.iter(f"{atom}entry")]  # type: ignore[union-attr]
        return list(
            zip([entry.findtext(f"{atom}title", "") for entry in feed.iter(f"{atom}entry")], links, strict=True)
        )

    ((title, _),) = [each for each in entries("/pipelines/release/feed") if each[1].endswith(f"/executions/{number}")]
    assert title == "my-pkg 1: InProgress"
    assert [each[1].rpartition("/packages/")[2] for each in entries("/domains/default/repositories/dev/feed")] == [
        "default/dev/pypi/my-pkg/-/1"
    ]
    assert entries("/pipelines/release/feed", "stranger") == []
